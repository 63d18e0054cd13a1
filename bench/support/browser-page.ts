/**
 * Runs in a page of Chromium: publishes camera and microphone by WHIP and plays what comes back by WHEP. Both, what is captured and what
 * is played, go through the same two detectors (the number that every picture carries, a beep louder than 0.3), so that what the
 * detectors themselves add falls out of the differences. Sound is read from WebAudio, after the browser's jitter buffer and lip-sync.
 *
 * A picture carries its number as CODE_BITS squares in its top row, the lowest bit first, white for 1, and then a parity bit that makes
 * the white ones even. So a picture that is not shown takes nothing from the measurement but itself.
 *
 * Argument: [WHIP address, WHEP address, seconds, record, width, height, code bits]; gives `BrowserRun`. With WHIP address "" the page
 * sends to itself: two peers without Sightline between them.
 */
export const CODE_BITS = 10;

/** Side of a square of the code, and so the height of the row, in pixels. */
export const codeSide = (width: number): number => Math.floor(width / (CODE_BITS + 1));

export const BROWSER_PAGE = `async ([whip, whep, seconds, record, width, height, bits]) => {
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const audio = new AudioContext({ sampleRate: 48000 });
  const worklet = \`registerProcessor("ear", class extends AudioWorkletProcessor {
    constructor({ processorOptions }) { super(); this.loudAt = -1e9; this.keep = processorOptions.keep; this.kept = []; }
    process([[x]]) {
      if (!x) return true;
      for (let i = 0; i < x.length; i++) {
        if (Math.abs(x[i]) < 0.3) continue;
        const at = currentFrame + i;
        if (at - this.loudAt > 24000) this.port.postMessage({ beepMs: at / 48 });
        this.loudAt = at;
      }
      if (this.keep) {
        this.kept.push(x.slice());
        if (this.kept.length === 375) { this.port.postMessage({ from: currentFrame + 128 - 48000, sound: this.kept }); this.kept = []; }
      }
      return true;
    }
  });\`;
  await audio.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: "text/javascript" })));
  const watch = (stream, keep) => {
    const seen = { pictures: [], beeps: [], sounds: [], frames: 0, unread: 0 };
    const video = document.createElement("video");
    video.muted = true;
    video.srcObject = stream;
    document.body.append(video);
    void video.play();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bits + 1, 1];
    const paint = canvas.getContext("2d", { willReadFrequently: true });
    const onFrame = (now, meta) => {
      seen.frames++;
      const side = Math.floor(video.videoWidth / (bits + 1));
      // One pixel a square, made of its middle: its edges are the codec's.
      paint.drawImage(video, 0, side / 4, side * (bits + 1), side / 2, 0, 0, bits + 1, 1);
      const { data } = paint.getImageData(0, 0, bits + 1, 1);
      let [number, ones] = [0, 0];
      for (let k = 0; k <= bits; k++) {
        const one = data[4 * k + 1] > 128 ? 1 : 0;
        ones += one;
        if (k < bits) number += one << k;
      }
      if (ones % 2 === 0) seen.pictures.push([number, meta.presentationTime ?? now]);
      else seen.unread++;
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
    const ear = new AudioWorkletNode(audio, "ear", { processorOptions: { keep }, channelCount: 1, channelCountMode: "explicit" });
    ear.port.onmessage = ({ data }) => {
      if (data.beepMs !== undefined) seen.beeps.push(data.beepMs);
      else seen.sounds.push(data.sound);
    };
    audio.createMediaStreamSource(stream).connect(ear).connect(audio.destination);
    return seen;
  };
  const connected = (pc) => new Promise((done, failed) => {
    const look = () => {
      if (pc.connectionState === "connected") done();
      if (pc.connectionState === "failed") failed(new Error("no connection"));
    };
    pc.onconnectionstatechange = look;
    look();
  });
  const post = async (pc, url) => {
    await pc.setLocalDescription();
    const body = pc.localDescription.sdp;
    const answer = await fetch(url, { method: "POST", body, headers: { "Content-Type": "application/sdp" } });
    if (answer.status !== 201) throw new Error(answer.status + " " + (await answer.text()));
    await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    await connected(pc);
  };
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  const own = await navigator.mediaDevices.getUserMedia({ video: { width, height, frameRate: 30 }, audio: plain });
  const before = watch(own, false);
  const publisher = new RTCPeerConnection();
  for (const track of own.getTracks()) publisher.addTransceiver(track, { direction: "sendonly", streams: [own] });
  const viewers = [];
  const view = async (url, keep) => {
    const pc = new RTCPeerConnection();
    const stream = new MediaStream();
    pc.ontrack = ({ track }) => stream.addTrack(track);
    viewers.push(pc);
    if (url !== "") {
      for (const kind of ["video", "audio"]) pc.addTransceiver(kind, { direction: "recvonly" });
      await post(pc, url);
    } else {
      const gathered = async (from) => {
        await from.setLocalDescription();
        while (from.iceGatheringState !== "complete") await sleep(20);
        return from.localDescription;
      };
      await pc.setRemoteDescription(await gathered(publisher));
      await publisher.setRemoteDescription(await gathered(pc));
      await connected(pc);
    }
    return watch(stream, keep);
  };
  if (whip !== "") await post(publisher, whip);
  const after = await view(whep, record);
  const input = record ? await view(whep + "?stem=input", true) : null;
  // What Chromium itself plays together: the sender's time of the picture that is shown now less that of the sound that is heard.
  const playout = [];
  for (let second = 0; second < seconds; second++) {
    await sleep(1000);
    const at = {};
    for (const stat of (await viewers[0].getStats()).values())
      if (stat.type === "inbound-rtp" && stat.estimatedPlayoutTimestamp) at[stat.kind] = stat.estimatedPlayoutTimestamp;
    if (at.audio && at.video) playout.push(at.video - at.audio);
  }
  const stats = { codec: "", lost: 0, concealed: 0, width: 0, decoded: 0, dropped: 0 };
  for (const stat of (await viewers[0].getStats()).values()) {
    if (stat.type === "codec" && stat.mimeType.startsWith("video/")) stats.codec = stat.mimeType.slice(6);
    if (stat.type !== "inbound-rtp") continue;
    stats.lost += stat.packetsLost;
    if (stat.kind === "audio") stats.concealed = stat.concealedSamples;
    else Object.assign(stats, { width: stat.frameWidth, decoded: stat.framesDecoded, dropped: stat.framesDropped });
  }
  for (const stat of (await publisher.getStats()).values())
    if (stat.type === "outbound-rtp" && stat.kind === "video")
      Object.assign(stats, { encoded: stat.framesEncoded, targetKbps: Math.round(stat.targetBitrate / 1000) });
  for (const pc of [publisher, ...viewers]) pc.close();
  const text = (sounds) => {
    const bytes = new Uint8Array(Int16Array.from(sounds.flat().flatMap((x) => Array.from(x, (v) => Math.round(32767 * Math.max(-1, Math.min(1, v)))))).buffer);
    let out = "";
    for (let i = 0; i < bytes.length; i += 32768) out += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(out);
  };
  const seen = ({ pictures, beeps, frames, unread }) => ({ pictures, beeps, frames, unread });
  const result = { before: seen(before), after: seen(after), playout, ...stats };
  if (record) Object.assign(result, { clean: text(after.sounds), input: text(input.sounds) });
  return result;
}`;

type Events = {
  /** Number and time of every picture that was shown; milliseconds of the page's clock. */
  readonly pictures: readonly (readonly [number: number, ms: number])[];
  /** Milliseconds of the AudioContext's clock. */
  readonly beeps: readonly number[];
  /** Pictures that were shown, and those of them whose number could not be read. */
  readonly frames: number;
  readonly unread: number;
};
export type BrowserRun = {
  readonly before: Events;
  readonly after: Events;
  /** Once a second, ms: how much later than its picture Chromium says that it plays the sound (`estimatedPlayoutTimestamp`). */
  readonly playout: readonly number[];
  /** Of the video that was played. */
  readonly codec: string;
  readonly width: number;
  /** What the publishing side made, and the bit rate that its congestion control had come to at the end. */
  readonly encoded: number;
  readonly targetKbps: number;
  readonly decoded: number;
  /** Pictures that came and were not decoded or not shown in time (`framesDropped`). */
  readonly dropped: number;
  readonly lost: number;
  /** Samples that the browser made up. */
  readonly concealed: number;
  /** With `record`: 16-bit sound, 48 kHz mono, base64. */
  readonly clean?: string;
  readonly input?: string;
};
