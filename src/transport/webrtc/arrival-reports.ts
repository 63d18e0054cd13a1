import { difference16 } from "./sequence.js";

/** Time units of the format, in ms: of the reference time and of the steps between arrivals. */
const REFERENCE_MS = 64;
const STEP_MS = 0.25;
/** A sequence that leaps further begins anew: some 10 s of a line that was down. A run of lost ones is two bytes. */
const MAX_LEAP = 8191;
/** Arrivals that are kept, and that one report tells of: a good second of a fast line. */
const MAX_KEPT = 1000;
/** Of a report, so that it fits into a datagram; what does not fit is told in the next one. */
const MAX_BYTES = 1100;
const HEADER_BYTES = 20;
/** Arrivals are kept for so long beyond their report: one that comes late has those after it told again. */
const KEPT_MS = 500;
/** Of a run of equal statuses: 13 bits. */
const MAX_RUN = 8191;

/** What a report says of a packet, and so many bytes of its time. */
const [MISSING, SOON, LATER] = [0, 1, 2];
/** Between two arrivals, in steps. */
const MAX_STEP = 32_767;

/**
 * When packets arrived, for the sender's congestion control: transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).
 * A browser takes times that jump for a line that is filling up, and sends less. Pure: time is given.
 */
export class ArrivalReports {
  /** By unwrapped number; what has been told of stays for a while. */
  readonly #arrivals = new Map<number, number>();
  #highest: number | null = null;
  /** The next one that no report has spoken of. */
  #next: number | null = null;
  /** The lowest that has come since the last report; null: none. */
  #lowest: number | null = null;
  /** When the newest came. */
  #newestMs = 0;
  #reports = 0;

  /** Of which something is to be told. */
  get due(): boolean {
    return this.#lowest !== null;
  }

  /**
   * @param sequence transport-wide number of the packet, 16 bits
   * @param timeMs when it came, by a steady clock
   */
  arrived(sequence: number, timeMs: number): void {
    const step = this.#highest === null ? 0 : difference16(sequence, this.#highest & 0xffff);
    const number = (this.#highest ?? sequence) + step;
    if (Math.abs(step) > MAX_LEAP) {
      this.#arrivals.clear();
      [this.#highest, this.#next, this.#lowest] = [null, null, null];
      this.arrived(sequence, timeMs);
      return;
    }
    if (number < 0 || this.#arrivals.has(number)) return;
    this.#arrivals.set(number, timeMs);
    this.#newestMs = timeMs;
    this.#highest = Math.max(this.#highest ?? number, number);
    this.#lowest = Math.min(this.#lowest ?? number, number);
    // Nobody takes reports, or not in time: the sender takes the oldest for lost.
    if (this.#arrivals.size > MAX_KEPT) this.#arrivals.delete(this.#arrivals.keys().next().value!);
  }

  /** The report as an RTCP packet; null: nothing has come since the last one. What does not fit into it stays due. */
  take(senderSsrc: number, mediaSsrc: number): Buffer | null {
    if (this.#lowest === null || this.#highest === null) return null;
    const last = this.#highest;
    const first = Math.max(last - MAX_LEAP, Math.min(this.#next ?? this.#lowest, this.#lowest));
    const times = Array.from({ length: last - first + 1 }, (_, i) => this.#arrivals.get(first + i) ?? null);
    if (times.every((t) => t === null)) {
      this.#lowest = null;
      return null;
    }
    const { packet, told } = encoded({ senderSsrc, mediaSsrc, first, count: this.#reports++, times });
    this.#next = first + told;
    this.#lowest = told < times.length ? this.#next : null;
    for (const [number, timeMs] of this.#arrivals)
      if (timeMs < this.#newestMs - KEPT_MS && number < this.#next && number !== last) this.#arrivals.delete(number);
    return packet;
  }
}

type Report = {
  readonly senderSsrc: number;
  readonly mediaSsrc: number;
  readonly first: number;
  readonly count: number;
  /** Null: it has not come. */
  readonly times: readonly (number | null)[];
};

/** @returns the packet, and of how many of `times` it tells: as many as fit into it, in bytes and in their steps (16 bits) */
function encoded({ senderSsrc, mediaSsrc, first, count, times }: Report): { packet: Buffer; told: number } {
  const begin = times.find((t) => t !== null)!;
  const reference = Math.floor(begin / REFERENCE_MS);
  let at = (reference * REFERENCE_MS) / STEP_MS;
  const deltas: number[] = [];
  const chunks: { readonly status: number; length: number }[] = [];
  let [bytes, told] = [HEADER_BYTES, 0];
  for (const timeMs of times) {
    // Steps between rounded times: what rounding takes does not add up.
    const delta = timeMs === null ? 0 : Math.round(timeMs / STEP_MS) - at;
    const status = timeMs === null ? MISSING : delta >= 0 && delta <= 255 ? SOON : LATER;
    const run = chunks.at(-1);
    const goesOn = run?.status === status && run.length < MAX_RUN;
    const more = (goesOn ? 0 : 2) + status;
    if (bytes + more > MAX_BYTES || Math.abs(delta) > MAX_STEP) break;
    if (goesOn) run.length++;
    else chunks.push({ status, length: 1 });
    if (timeMs !== null) deltas.push(delta);
    at += delta;
    bytes += more;
    told++;
  }
  const packet = Buffer.alloc(4 * Math.ceil(bytes / 4));
  const padding = packet.length - bytes;
  packet.writeUInt8(0x80 | (padding > 0 ? 0x20 : 0) | 15, 0);
  packet.writeUInt8(205, 1);
  packet.writeUInt16BE(packet.length / 4 - 1, 2);
  packet.writeUInt32BE(senderSsrc, 4);
  packet.writeUInt32BE(mediaSsrc, 8);
  packet.writeUInt16BE(first & 0xffff, 12);
  packet.writeUInt16BE(told, 14);
  packet.writeUIntBE(reference & 0xffffff, 16, 3);
  packet.writeUInt8(count & 0xff, 19);
  let to = HEADER_BYTES;
  for (const { status, length } of chunks) to = packet.writeUInt16BE((status << 13) | length, to);
  for (const delta of deltas)
    to = delta >= 0 && delta <= 255 ? packet.writeUInt8(delta, to) : packet.writeInt16BE(delta, to);
  if (padding > 0) packet.writeUInt8(padding, packet.length - 1);
  return { packet, told };
}
