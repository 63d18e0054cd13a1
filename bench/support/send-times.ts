import { execFileSync } from "node:child_process";
import { median } from "./numbers.js";

const CLOCK = { picture: 90, sound: 48 } as const; // RTP ticks of a millisecond

export type Kind = keyof typeof CLOCK;

/**
 * When an RTP sender sent what. A sender report says "this timestamp was sent at that time", so whatever the sender's picture and sound
 * are apart when they leave, every receiver must take for the truth: it is the sender's lip-sync error, not the receiver's.
 */
export class SendTimes {
  readonly #first = new Map<Kind, number>();
  readonly #lateness: Record<Kind, number[]> = { picture: [], sound: [] };
  readonly #last = new Map<Kind, number>();

  /** A packet that has just been sent; RTCP on the same port is left out. */
  note(kind: Kind, packet: Buffer): void {
    const type = packet[1]! & 0x7f;
    if (packet.length < 12 || (type >= 72 && type <= 76)) return;
    const timestamp = packet.readUInt32BE(4);
    if (timestamp === this.#last.get(kind)) return; // a further packet of the same picture
    this.#last.set(kind, timestamp);
    const first = this.#first.get(kind) ?? timestamp;
    this.#first.set(kind, first);
    this.#lateness[kind].push(performance.now() - ((timestamp - first) | 0) / CLOCK[kind]);
  }

  /** How much later the sound was sent than the picture (median), against the times that both have in `clip`. */
  soundLateMs(clip: string): number {
    const late = (kind: Kind): number => median(this.#lateness[kind]) - firstPtsMs(clip, kind);
    return late("sound") - late("picture");
  }
}

function firstPtsMs(clip: string, kind: Kind): number {
  const text = execFileSync("ffprobe", [
    ...["-v", "error", "-select_streams", kind === "picture" ? "v" : "a", "-read_intervals", "%+#1"],
    ...["-show_entries", "packet=pts_time", "-of", "csv=p=0", clip],
  ]).toString();
  const seconds = Number.parseFloat(text);
  if (!Number.isFinite(seconds)) throw new Error(`${clip}: no time of the first ${kind}: ${text}`);
  return seconds * 1000;
}
