// A bot in a room: every browser that opens the page sends it camera and microphone, and gets back the other participant, picture and
// cleaned sound, with highlights (who is seen, whose voice is heard) on a data channel. Open the page in two browsers:
//
//   npm install PATH/sightline-0.1.0.tgz @roamhq/wrtc ws
//   node conference-bot.mjs 8090        then http://127.0.0.1:8090/
import { createServer } from "node:http";
import wrtc from "@roamhq/wrtc";
import { openModel, separateTracks } from "sightline/webrtc";
import { WebSocketServer } from "ws";

const MAX_PARTICIPANTS = 2;
const MAX_MESSAGE_BYTES = 64 * 1024;

const PAGE = `<!doctype html><title>Room</title><video id="other" autoplay playsinline></video><pre id="log"></pre><script type="module">
const pc = new RTCPeerConnection();
const own = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 }, audio: { echoCancellation: true } });
window.room = { pc, highlights: [] };
pc.onicecandidate = ({ candidate }) => candidate && send({ candidate });
pc.ontrack = ({ track }) => {
  const other = document.querySelector("#other");
  other.srcObject ??= new MediaStream();
  other.srcObject.addTrack(track);
};
pc.ondatachannel = ({ channel }) => {
  channel.onmessage = ({ data }) => {
    const highlight = JSON.parse(data);
    window.room.highlights = [...window.room.highlights.slice(-99), highlight];
    document.querySelector("#log").textContent = JSON.stringify(highlight, null, 1);
  };
};
// The bot makes every offer: it knows who is there. Its first one asks for our tracks.
for (const track of own.getTracks()) pc.addTrack(track, own);
// Only now: the offer comes as soon as the socket is open, and must find our tracks and a listener.
const socket = new WebSocket(location.href.replace("http", "ws"));
const send = (message) => socket.send(JSON.stringify(message));
socket.onmessage = async ({ data }) => {
  const { description, candidate } = JSON.parse(data);
  if (candidate) return pc.addIceCandidate(candidate);
  await pc.setRemoteDescription(description);
  await pc.setLocalDescription();
  send({ description: pc.localDescription });
};
</script>`;

const model = await openModel();
const participants = new Set();

class Participant {
  pc = new wrtc.RTCPeerConnection();
  tracks = {};
  separated = null;
  /** Offers follow each other: the next is made when the answer to the last is there. */
  busy = false;
  again = false;
  constructor(socket) {
    this.socket = socket;
    this.channel = this.pc.createDataChannel("highlights", { ordered: false, maxRetransmits: 0 });
    this.transceivers = ["audio", "video"].map((kind) => this.pc.addTransceiver(kind, { direction: "sendrecv" }));
    this.pc.onicecandidate = ({ candidate }) => candidate && this.send({ candidate });
    this.pc.ontrack = ({ track }) => this.take(track);
  }
  send(message) {
    if (this.socket.readyState === this.socket.OPEN) this.socket.send(JSON.stringify(message));
  }
  async offer() {
    if (this.busy) this.again = true;
    if (this.busy) return;
    this.busy = true;
    const offer = await this.pc.createOffer();
    await this.pc.setLocalDescription(offer);
    this.send({ description: offer });
  }
  async receive({ description, candidate }) {
    if (candidate) return this.pc.addIceCandidate(candidate);
    await this.pc.setRemoteDescription(description);
    this.busy = false;
    if (this.again) {
      this.again = false;
      await this.offer();
    }
  }
  take(track) {
    this.tracks[track.kind] = track;
    const { audio, video } = this.tracks;
    if (!audio || !video || this.separated) return;
    const onFault = (error) => console.error(String(error));
    this.separated = separateTracks({ audio, video }, { model, wrtc, peer: this.pc, onFault });
    this.separated.highlights.subscribe((highlight) => {
      for (const other of participants)
        if (other !== this && other.channel.readyState === "open") other.channel.send(JSON.stringify(highlight));
    });
    console.log(`a participant is heard, ${this.separated.latencyMs} ms behind`);
    connect();
  }
  /** Another participant's picture as it is, and cleaned sound. */
  async show({ separated, tracks }) {
    await this.transceivers[0].sender.replaceTrack(separated.track);
    await this.transceivers[1].sender.replaceTrack(tracks.video);
  }
  leave() {
    participants.delete(this);
    this.separated?.stop();
    this.pc.close();
    console.log(`${participants.size} participants`);
  }
}

function connect() {
  for (const a of participants)
    for (const b of participants)
      if (a !== b && b.separated) a.show(b).catch((error) => console.error(String(error)));
}

const server = createServer((request, response) => {
  response.writeHead(request.url === "/" ? 200 : 404, { "Content-Type": "text/html; charset=utf-8" });
  response.end(request.url === "/" ? PAGE : "");
});
new WebSocketServer({ server, maxPayload: MAX_MESSAGE_BYTES }).on("connection", (socket) => {
  if (participants.size >= MAX_PARTICIPANTS) return socket.close(1013, "the room is full");
  const participant = new Participant(socket);
  participants.add(participant);
  // One message after another: candidates must not overtake the description.
  let last = Promise.resolve();
  socket.on("message", (data) => {
    last = last.then(() => participant.receive(JSON.parse(data))).catch((error) => console.error(String(error)));
  });
  socket.on("close", () => participant.leave());
  participant.offer().catch((error) => console.error(String(error)));
});
server.listen(Number(process.argv[2] ?? 8090), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));

// @roamhq/wrtc 0.10.0 does not let a process end by itself.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
