import type { Face } from "../../pipeline/types.js";
import { make, setHidden, setText } from "./dom.js";
import { FaceBoxes } from "./faces.js";

const RETRY_MS = 2000;
/** Shorter waits (a seek, a late packet) are seen, not told. */
const WAITING_MS = 1000;
/** What a stream consists of is believed after so long. */
const STEADY_MS = 1500;
/** Faces are kept for as long as the output may lag behind the input. */
const MAX_FACES_KEPT = 64;
/** Faces older than this are not drawn on the input (a look-ahead of several seconds): they would be on somebody else. Those of `quality` are up to 1.9 s old until the next are told. */
const MAX_AGE_MS = 2500;

type Player = ReturnType<typeof mpegts.createPlayer>;

/** One HTTP-FLV player that comes back by itself, silent until asked for. */
class LivePlayer {
  readonly element: HTMLElement;
  readonly listen = make("button", "listen", "Listen");
  readonly boxes: FaceBoxes;
  #video = make("video");
  #message = make("p", "player-message");
  #player: Player | null = null;
  #retry = 0;
  #waiting = 0;
  #closed = false;
  /** Of what the stream consists; null: both, or not known yet. */
  #only: "picture" | "sound" | null = null;
  #seems: "picture" | "sound" | null = null;
  #seemsSinceMs = 0;
  /** What the player says in place of a fault that is none: why it cannot show this stream. */
  hindrance: string | null = null;

  constructor(
    title: string,
    hint: string,
    private readonly url: string | null,
    /** Why there is nothing to play, or null. */
    private readonly nothing: string | null,
  ) {
    this.#video.muted = true;
    this.#video.playsInline = true;
    this.boxes = new FaceBoxes(this.#video);
    this.listen.setAttribute("aria-label", `Listen to the ${title.toLowerCase()}`);
    const head = make("figcaption", "", make("strong", "", title), make("span", "muted", hint), this.listen);
    this.element = make(
      "figure",
      "player",
      head,
      make("div", "screen", this.#video, this.boxes.element, this.#message),
    );
    this.#video.addEventListener("playing", () => this.#say(""));
    this.#video.addEventListener("waiting", () => {
      clearTimeout(this.#waiting);
      this.#waiting = setTimeout(() => this.#say("waiting for pictures"), WAITING_MS);
    });
    this.#open();
  }

  set muted(muted: boolean) {
    this.#video.muted = muted;
    this.listen.setAttribute("aria-pressed", String(!muted));
    setText(this.listen, muted ? "Listen" : "Listening");
  }

  get muted(): boolean {
    return this.#video.muted;
  }

  get playing(): boolean {
    return this.#video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && !this.#video.paused;
  }

  /** Plays anew when the stream turns out to have one track, or to have both after all. */
  consistsOf(hasPicture: boolean, hasSound: boolean): void {
    if (!hasPicture && !hasSound) return;
    const only = hasPicture && hasSound ? null : hasPicture ? "picture" : "sound";
    const nowMs = performance.now();
    if (only !== this.#seems) [this.#seems, this.#seemsSinceMs] = [only, nowMs];
    // One track comes before the other at each start.
    if (only === this.#only || nowMs - this.#seemsSinceMs < STEADY_MS) return;
    this.#only = only;
    if (this.#player === null) return;
    clearTimeout(this.#retry);
    this.#drop();
    this.#open();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#waiting);
    this.#drop();
  }

  #say(text: string): void {
    clearTimeout(this.#waiting);
    setText(this.#message, text);
    setHidden(this.#message, text === "");
  }

  #open(): void {
    if (this.#closed) return;
    const hindrance = this.nothing ?? (mpegts.isSupported() ? null : "this browser cannot play HTTP-FLV");
    this.#say(hindrance ?? "no picture yet");
    if (this.url === null || hindrance !== null) return;
    const player = mpegts.createPlayer(
      // A demuxer that is not told waits for the other track for ever: the header of a live stream promises both.
      {
        type: "flv",
        isLive: true,
        url: this.url,
        hasVideo: this.#only !== "sound",
        hasAudio: this.#only !== "picture",
      },
      {
        enableStashBuffer: false,
        // A little faster until it has caught up; a jump, which is heard and stalls the picture, only when it is far behind (the start, a pause).
        liveSync: true,
        liveSyncMaxLatency: 1.2,
        liveSyncTargetLatency: 0.6,
        liveSyncPlaybackRate: 1.1,
        liveBufferLatencyChasing: true,
        liveBufferLatencyMaxLatency: 2.5,
        liveBufferLatencyMinRemain: 0.8,
        autoCleanupSourceBuffer: true,
      },
    );
    this.#player = player;
    player.on(mpegts.Events.ERROR, () => this.#again("no stream"));
    player.on(mpegts.Events.LOADING_COMPLETE, () => this.#again("the stream ended"));
    player.attachMediaElement(this.#video);
    player.load();
    // Without a click only muted playback may start; a refusal is no fault.
    void Promise.resolve(player.play()).catch(() => {});
  }

  #again(why: string): void {
    this.#say(this.hindrance ?? `${why}, trying again`);
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      this.#drop();
      this.#open();
    }, RETRY_MS);
  }

  #drop(): void {
    this.#player?.destroy();
    this.#player = null;
  }
}

/** Input and output side by side. One of them at most is heard. */
export class Players {
  readonly element: HTMLElement;
  #input: LivePlayer;
  #output: LivePlayer;
  #faces: { atMs: number; faces: readonly Face[] }[] = [];

  /**
   * @param mediaBase `http://HOST:PORT`, null when the server has no media port
   * @param published false: the channel fetches its input, which goes past the gateway that players are joined to
   */
  constructor(name: string, mediaBase: string | null, published: boolean) {
    const url = (side: string) => (mediaBase === null ? null : `${mediaBase}/${side}/${encodeURIComponent(name)}.flv`);
    const noPort = mediaBase === null ? "the server has no media port" : null;
    const noInput = published ? null : "this channel fetches its input; only the output can be played";
    this.#input = new LivePlayer("Input", published ? "as published" : "fetched", url("in"), noPort ?? noInput);
    this.#output = new LivePlayer("Output", "as sent out", url("out"), noPort);
    this.element = make("section", "players", this.#input.element, this.#output.element);
    const both = [this.#input, this.#output];
    for (const player of both) {
      player.muted = true;
      player.listen.addEventListener("click", () => {
        const muted = !player.muted;
        for (const other of both) other.muted = other === player ? muted : true;
      });
    }
  }

  /** Codec of the published picture when this player has no decoder for it, else null. */
  set inputCodec(codec: string | null) {
    this.#input.hindrance = codec === null ? null : `${codec} cannot be played here; see the output`;
  }

  consistsOf(hasPicture: boolean, hasSound: boolean): void {
    for (const player of [this.#input, this.#output]) player.consistsOf(hasPicture, hasSound);
  }

  /** Of the faces in the picture that came at `atMs`. The output is `delayMs` later than the input, and so are its boxes. `faces` null = nothing current is known. */
  update(faces: readonly Face[] | null, atMs: number, delayMs: number, nowMs: number): void {
    if (faces === null) {
      this.#faces = [];
      this.#input.boxes.update([]);
      this.#output.boxes.update([]);
      return;
    }
    // In order of time: a channel that began anew with a longer look-ahead speaks of earlier pictures.
    while ((this.#faces.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY) >= atMs) this.#faces.pop();
    this.#faces.push({ atMs, faces });
    if (this.#faces.length > MAX_FACES_KEPT) this.#faces.shift();
    while (this.#faces.length > 1 && this.#faces[1]!.atMs <= nowMs - delayMs) this.#faces.shift();
    const delayed = this.#faces[0]!.atMs <= nowMs - delayMs ? this.#faces[0]!.faces : [];
    this.#input.boxes.update(this.#input.playing && nowMs - atMs <= MAX_AGE_MS ? faces : []);
    this.#output.boxes.update(this.#output.playing ? delayed : []);
  }

  close(): void {
    this.#input.close();
    this.#output.close();
  }
}
