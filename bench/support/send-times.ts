import { execFileSync } from "node:child_process";
import { median } from "./numbers.js";

const CLOCK = { picture: 90, sound: 48 } as const; // RTP ticks of a millisecond

export type Kind = keyof typeof CLOCK;

/**
 * When an RTP sender sent what. A sender report says "this timestamp was sent at that time", so whatever the sender's picture and sound
 * are apart when they leave, every receiver must take for the truth: it is the sender's lip-sync error, not the receiver's.
 */
export class SendTimes {
  /** Timestamps of each track's second packet: a sender that leaves out what lies before time 0 shortens the first one's step. */
  readonly #second = new Map<Kind, number>();
  readonly #lateness: Record<Kind, number[]> = { picture: [], sound: [] };
  readonly #last = new Map<Kind, number>();

  /** A packet that has just been sent; RTCP on the same port is left out. */
  note(kind: Kind, packet: Buffer): void {
    const type = packet[1]! & 0x7f;
    if (packet.length < 12 || (type >= 72 && type <= 76)) return;
    const timestamp = packet.readUInt32BE(4);
    const last = this.#last.get(kind);
    if (timestamp === last) return; // a further packet of the same picture
    this.#last.set(kind, timestamp);
    if (last === undefined) return;
    const second = this.#second.get(kind) ?? timestamp;
    this.#second.set(kind, second);
    this.#lateness[kind].push(performance.now() - ((timestamp - second) | 0) / CLOCK[kind]);
  }

  /** How much later the sound was sent than the picture (median), against the times that both have in `clip`. */
  soundLateMs(clip: string): number {
    const late = (kind: Kind): number => median(this.#lateness[kind]) - secondPtsMs(clip, kind);
    return late("sound") - late("picture");
  }
}

/** Of pictures without B-frames. */
function secondPtsMs(clip: string, kind: Kind): number {
  const text = execFileSync("ffprobe", [
    ...["-v", "error", "-select_streams", kind === "picture" ? "v" : "a", "-read_intervals", "%+#2"],
    ...["-show_entries", "packet=pts_time", "-of", "csv=p=0", clip],
  ]).toString();
  const seconds = Number.parseFloat(text.split("\n").filter((line) => line.trim() !== "")[1] ?? "");
  if (!Number.isFinite(seconds)) throw new Error(`${clip}: no time of the second ${kind}: ${text}`);
  return seconds * 1000;
}
