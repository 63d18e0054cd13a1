import { difference16 } from "./sequence.js";

/** Time units of the format, in ms: of the reference time and of the steps between arrivals. */
const REFERENCE_MS = 64;
const STEP_MS = 0.25;
/** Packets that one report may speak of; a sequence that leaps further begins anew. */
const MAX_COUNT = 1000;
/** Arrivals are kept for so long beyond their report: one that comes late has those after it told again. */
const KEPT_MS = 500;
/** Of a run of equal statuses: 13 bits. */
const MAX_RUN = 8191;

/** What a report says of a packet. */
const [MISSING, SOON, LATER] = [0, 1, 2];

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
    if (Math.abs(step) >= MAX_COUNT) {
      this.#arrivals.clear();
      [this.#highest, this.#next, this.#lowest] = [null, null, null];
      this.arrived(sequence, timeMs);
      return;
    }
    if (number < 0 || this.#arrivals.has(number)) return;
    this.#arrivals.set(number, timeMs);
    this.#highest = Math.max(this.#highest ?? number, number);
    this.#lowest = Math.min(this.#lowest ?? number, number);
  }

  /** The report as an RTCP packet; null: nothing has come since the last one. */
  take(senderSsrc: number, mediaSsrc: number): Buffer | null {
    if (this.#lowest === null || this.#highest === null) return null;
    const last = this.#highest;
    const first = Math.max(last - MAX_COUNT + 1, Math.min(this.#next ?? this.#lowest, this.#lowest));
    const times = Array.from({ length: last - first + 1 }, (_, i) => this.#arrivals.get(first + i) ?? null);
    [this.#next, this.#lowest] = [last + 1, null];
    this.#forget(Math.max(...this.#arrivals.values()) - KEPT_MS, last);
    return encoded({ senderSsrc, mediaSsrc, first, count: this.#reports++, times });
  }

  #forget(beforeMs: number, but: number): void {
    for (const [number, timeMs] of this.#arrivals)
      if ((timeMs < beforeMs && number !== but) || number <= but - MAX_COUNT) this.#arrivals.delete(number);
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

function encoded({ senderSsrc, mediaSsrc, first, count, times }: Report): Buffer {
  const known = times.filter((t) => t !== null);
  const reference = Math.floor(Math.min(...known) / REFERENCE_MS);
  let at = (reference * REFERENCE_MS) / STEP_MS;
  const deltas: number[] = [];
  const statuses = times.map((timeMs) => {
    if (timeMs === null) return MISSING;
    // Steps between rounded times: what rounding takes does not add up.
    const delta = Math.max(-32_768, Math.min(32_767, Math.round(timeMs / STEP_MS) - at));
    at += delta;
    deltas.push(delta);
    return delta >= 0 && delta <= 255 ? SOON : LATER;
  });
  const chunks = runs(statuses);
  const received = statuses.filter((status) => status !== MISSING);
  const bytes = 20 + 2 * chunks.length + received.reduce((n, status) => n + (status === SOON ? 1 : 2), 0);
  const packet = Buffer.alloc(4 * Math.ceil(bytes / 4));
  const padding = packet.length - bytes;
  packet.writeUInt8(0x80 | (padding > 0 ? 0x20 : 0) | 15, 0);
  packet.writeUInt8(205, 1);
  packet.writeUInt16BE(packet.length / 4 - 1, 2);
  packet.writeUInt32BE(senderSsrc, 4);
  packet.writeUInt32BE(mediaSsrc, 8);
  packet.writeUInt16BE(first & 0xffff, 12);
  packet.writeUInt16BE(times.length, 14);
  packet.writeUIntBE(reference & 0x7fffff, 16, 3);
  packet.writeUInt8(count & 0xff, 19);
  let to = 20;
  for (const { status, length } of chunks) to = packet.writeUInt16BE((status << 13) | length, to);
  received.forEach((status, i) => {
    to = status === SOON ? packet.writeUInt8(deltas[i]!, to) : packet.writeInt16BE(deltas[i]!, to);
  });
  if (padding > 0) packet.writeUInt8(padding, packet.length - 1);
  return packet;
}

function runs(statuses: readonly number[]): { status: number; length: number }[] {
  const out: { status: number; length: number }[] = [];
  for (const status of statuses) {
    const last = out.at(-1);
    if (last?.status === status && last.length < MAX_RUN) last.length++;
    else out.push({ status, length: 1 });
  }
  return out;
}
