import { type DecodedPicture, type DecodedSound, pictureReader, soundReader } from "../channel/decode.js";
import { type GdpPacket, GdpReader } from "../transport/gdp/gdp.js";
import { FileError } from "./errors.js";
import { FilledSound } from "./filled-sound.js";
import { fileUri, GstProcess, gstSentence } from "./gst-process.js";

/**
 * Sound and pictures of a file, each with a reading position of its own: whatever the order in which a container stores them,
 * neither waits in a queue for the other. Times are running times: PTS less the start of the container's segment (edit lists).
 */
export type Track<T> = {
  /** The next piece, null at the end. @throws FileError */
  next(): Promise<T | null>;
  /** What went wrong at the end, although there were data; null: nothing. */
  readonly fault: string | null;
  readonly declaredSeconds: number | null;
  close(): void;
};

const SOUND = "audio/x-raw,format=F32LE,rate=48000,layout=interleaved,channels=[1,2]";
const END = "progressreport update-freq=1 ! gdppay crc-header=false ! fdsink fd=3 sync=false";

const soundLaunch = (path: string): string =>
  `uridecodebin uri=${fileUri(path)} caps=audio/x-raw expose-all-streams=false ! audioconvert ! audioresample ! ${SOUND} ! ${END}`;

/** `size`: what the element `scale` is asked for. */
const pictureLaunch = (path: string, size: string, scale: string): string =>
  `uridecodebin uri=${fileUri(path)} caps=video/x-raw(ANY) expose-all-streams=false ! ` +
  // Phones held upright write lying pictures and a tag that says so.
  `videoconvert ! videoflip video-direction=auto ! ${scale} ! videoconvert ! video/x-raw,format=I420,${size} ! ${END}`;

/** Pictures that are larger are scaled down into the limit. */
const within = (limit: Size, even: boolean): string =>
  `width=${range(limit.width, even)},height=${range(limit.height, even)}`;

const range = (limit: number, even: boolean): string => (even ? `[2,${limit},2]` : `[1,${limit}]`);

export type Size = { readonly width: number; readonly height: number };
export const FULL_HD: Size = { width: 1920, height: 1080 };
export const HD: Size = { width: 1280, height: 720 };

/** F32 at 48 kHz, mono or stereo as the file is (more channels mixed down to two), holes filled. Throws SL_FILE_NOT_MEDIA, _NO_SOUND, _CODEC. */
export function readSound(path: string, signal?: AbortSignal): Track<DecodedSound> {
  return new FilledSound(new GstTrack(path, "audio", soundLaunch(path), soundReader, signal));
}

export type PictureOptions = {
  readonly limit?: Size;
  /** All pictures squeezed to this size, whatever their shape, in the colours of BT.601 (studio range). */
  readonly squeeze?: Size;
  /** In the colours of BT.601 (studio range), whatever the file's are; so with `squeeze` always. */
  readonly bt601?: boolean;
  /** Sizes without odd numbers, as encoders want them. */
  readonly even?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Pictures nearer than this to the one before are left out; default: those that a model of 25 a second does not use. */
  readonly leastStepMs?: number;
};

/** I420 within `limit`. Throws SL_FILE_CODEC when the picture cannot be decoded; a file without one ends at once. */
export function readPictures(path: string, options: PictureOptions = {}): Track<DecodedPicture> {
  const { limit = FULL_HD, squeeze, bt601 = false, even = false, signal, leastStepMs } = options;
  const scale = "videoscale method=bilinear";
  const launch = squeeze
    ? pictureLaunch(
        path,
        `width=${squeeze.width},height=${squeeze.height},colorimetry=bt601`,
        `${scale} add-borders=false`,
      )
    : pictureLaunch(path, `${within(limit, even)}${bt601 ? ",colorimetry=bt601" : ""}`, scale);
  return new GstTrack(path, "video", launch, (on) => pictureReader(on, leastStepMs), signal);
}

type Kind = "audio" | "video";

class GstTrack<T> implements Track<T> {
  fault: string | null = null;
  readonly #path: string;
  readonly #kind: Kind;
  readonly #process: GstProcess;
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #packets = new GdpReader();
  readonly #read: (packet: GdpPacket) => void;
  readonly #segment = new Segment();
  /** Pieces of the newest chunk that were not taken yet. */
  #ready: T[] = [];
  #given = 0;
  #ended = false;

  constructor(
    path: string,
    kind: Kind,
    launch: string,
    reader: (on: (piece: T) => void) => (packet: GdpPacket) => void,
    signal: AbortSignal | undefined,
  ) {
    this.#path = path;
    this.#kind = kind;
    this.#process = new GstProcess({ launch, signal });
    this.#chunks = this.#process.output[Symbol.asyncIterator]();
    this.#read = reader((piece) => this.#ready.push(piece));
  }

  get declaredSeconds(): number | null {
    return this.#process.declaredSeconds;
  }

  async next(): Promise<T | null> {
    while (this.#ready.length === 0 && !this.#ended) {
      const { done, value } = await this.#chunks.next().catch((error: unknown) => {
        // Closed while somebody waited: that is an end.
        if (!this.#ended) throw error;
        return { done: true, value: undefined } as const;
      });
      if (this.#ended) break;
      if (done) await this.#finish();
      else for (const packet of this.#packets.push(value)) this.#read(this.#segment.apply(packet));
    }
    const piece = this.#ready.shift() ?? null;
    if (piece !== null) this.#given += 1;
    return piece;
  }

  close(): void {
    this.#ended = true;
    this.#ready = [];
    this.#process.close();
  }

  async #finish(): Promise<void> {
    this.#ended = true;
    const complaint = await this.#process.end();
    if (complaint === null) return;
    if (this.#given > 0) {
      this.fault = gstSentence(complaint);
      return;
    }
    const error = explain(this.#path, this.#kind, complaint);
    if (error !== null) throw error;
  }
}

/** Null: the file just has no pictures. */
function explain(path: string, kind: Kind, complaint: string): FileError | null {
  // What decodebin could not expose: our own kind has no decoder, the other kind was not asked for but is there.
  const missing = [...complaint.matchAll(/Missing decoder: (.+?) \((audio|video|image)\//g)];
  const ours = missing.find((m) => m[2] === kind);
  if (ours !== undefined) {
    const word = kind === "audio" ? "sound" : "picture";
    return new FileError("SL_FILE_CODEC", `${path}: GStreamer has no decoder for the ${word} (${ours[1]})`);
  }
  if (kind === "video") return null;
  if (missing.length > 0) return new FileError("SL_FILE_NO_SOUND", `${path} has no sound to separate`);
  return new FileError("SL_FILE_NOT_MEDIA", `${path} cannot be read as media: ${gstSentence(complaint)}`);
}

/** Buffer times to running times by the newest segment event. */
class Segment {
  #offsetMs = 0;

  apply(packet: GdpPacket): GdpPacket {
    if (packet.kind === "event") {
      const text = packet.payload.toString("latin1");
      const ns = (name: string): number => Number(new RegExp(`[ ,]${name}=\\(guint64\\)(\\d+)`).exec(text)?.[1] ?? 0);
      if (text.startsWith("GstEventSegment")) this.#offsetMs = (ns("base") - ns("start")) / 1e6;
    }
    if (packet.kind !== "buffer" || packet.ptsMs === null) return packet;
    return { ...packet, ptsMs: packet.ptsMs + this.#offsetMs };
  }
}
