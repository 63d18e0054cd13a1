import { PipelineError } from "./errors.js";
import { BANK_BINS } from "./filter-bank.js";
import { GainMap } from "./gain-map.js";
import { RAMP_SAMPLES, ramp } from "./ramp.js";
import type { GainGrid, Mode } from "./types.js";

/** How the sound leaves, why, and since which sample (to a bank frame). */
export type ModeState = { readonly mode: Mode; readonly reason: string | null; readonly sinceSample: number };

/** Sees each row of model gains before it is used (the user's controls). `restart`: not a continuation of the last row. */
export type ShapeGains = (centreSample: number, row: Float32Array, restart: boolean) => void;

/** One accepted grid, on the bank's bins. */
type Piece = {
  readonly start: number;
  readonly end: number;
  readonly hop: number;
  readonly rows: Float32Array;
  /** Where it takes over from the pieces before it, and over how many samples (0: at once). */
  readonly fadeFrom: number;
  readonly fadeLength: number;
};

/** What comes out while a reason holds: the sound as it came in, or none. */
type Instead = "identity" | "silence";

type Switch = { readonly sample: number; readonly reason: string; readonly to: Instead | null };

/** What the output is heading for. */
type Target = "gains" | "held" | Instead;

/** Overlapping windows are cross-faded over 64 ms; missing gains are held for 100 ms. */
export const CROSS_FADE_SAMPLES = 3072;
export const HOLD_SAMPLES = 4800;
/** 82 s at the 20 ms a frame of `live`: about 17 MB. */
const MAX_FRAMES = 4096;
const MAX_SWITCHES = 256;
const OPERATOR = "SL_BYPASS_OPERATOR";
const LATE = "SL_MODEL_LATE";

/**
 * Makes one gapless row of gains per frame out of pieces that may overlap, be late or never come.
 * - A newer piece takes over from older ones by sin^2 / cos^2 over at most 64 ms; contiguous pieces are joined linearly.
 * - Gains missing: the last row is held 100 ms, then goes to 1 (mode `late`, at 1 `bypass`, reason SL_MODEL_LATE).
 * - A mute is gains of 0, past the user's controls. Where it and a bypass hold at once, the bypass wins: nothing is lost.
 * - Bypass, mute, and every return of gains, is a ramp of 50 ms from what came out last. All of it is convex combination: weights sum
 *   to 1, no row leaves the range of what went in, and nothing steps.
 * Pieces older than the last row asked for are forgotten.
 */
export class GainTimeline {
  readonly #shape: ShapeGains;
  /** By arrival; ends strictly increase. */
  readonly #pieces: Piece[] = [];
  #storedFrames = 0;
  #map: GainMap | null = null;
  #modelRow = new Float32Array(0);

  /** Not yet reached, by sample. */
  #switches: Switch[] = [];
  readonly #reasons = new Map<string, Instead>();

  readonly #goal = new Float32Array(BANK_BINS);
  readonly #from = new Float32Array(BANK_BINS).fill(1);
  readonly #out = new Float32Array(BANK_BINS).fill(1);
  #target: Target = "identity";
  #fadeStart = Number.NEGATIVE_INFINITY;
  #lastCentre = Number.NEGATIVE_INFINITY;
  #lastPresent = Number.NEGATIVE_INFINITY;
  #mode: ModeState = { mode: "bypass", reason: LATE, sinceSample: 0 };
  readonly #counters = { grids: 0, gridsTooOld: 0, gainsRepaired: 0, timesLate: 0, switchesForced: 0 };

  constructor(shape: ShapeGains = () => {}) {
    this.#shape = shape;
  }

  get mode(): ModeState {
    return this.#mode;
  }

  get counters(): Readonly<Record<string, number>> {
    return { ...this.#counters };
  }

  /**
   * Takes gains over (the data is copied). A grid that reaches no further than what is known already, or lies before the last row
   * asked for, is counted and left. Gains outside 0..1 are clamped, NaN is 1; both counted. Throws RangeError on a wrong shape.
   */
  accept(grid: GainGrid): void {
    const { atSample, hopSamples, frames, bins, binHz, data } = grid;
    if (
      !Number.isFinite(atSample) ||
      !(hopSamples > 0) ||
      !Number.isInteger(frames) ||
      frames < 1 ||
      data.length !== frames * bins
    ) {
      throw new RangeError(
        `gain grid: ${frames} frames of ${bins} bins, hop ${hopSamples}, do not fit ${data.length} values`,
      );
    }
    this.#counters.grids++;
    const end = atSample + (frames - 1) * hopSamples;
    const previous = this.#pieces.at(-1);
    if (end < this.#lastCentre || (previous !== undefined && end <= previous.end)) {
      this.#counters.gridsTooOld++;
      return;
    }
    if (this.#storedFrames + frames > MAX_FRAMES) {
      throw new PipelineError(
        "SL_QUEUE_FULL",
        `${this.#storedFrames} frames of gains wait already; ask for them with gainsAt()`,
      );
    }
    const fadeFrom = Math.max(atSample, this.#lastCentre);
    const fadeLength = previous === undefined ? 0 : Math.max(0, Math.min(CROSS_FADE_SAMPLES, previous.end - fadeFrom));
    this.#pieces.push({
      start: atSample,
      end,
      hop: hopSamples,
      rows: this.#mapped(frames, bins, binHz, data),
      fadeFrom,
      fadeLength,
    });
    this.#storedFrames += frames;
  }

  /** From `sample` on, whatever was said before about later samples, this reason for leaving the sound untouched (or muting it) holds. */
  bypassFrom(sample: number, reason: string, to: Instead = "identity"): void {
    this.#switch(sample, reason, to);
  }

  /** From `sample` on this reason, or without one every reason, no longer holds. */
  separateFrom(sample: number, reason?: string): void {
    const ended = reason !== undefined ? [reason] : [...this.#reasons.keys(), ...this.#switches.map((s) => s.reason)];
    for (const known of new Set(ended)) this.#switch(sample, known, null);
  }

  /** The newest centre up to which every row is known: by gains, or because a bypass holds. */
  get knownUntil(): number {
    const reasons = new Set(this.#reasons.keys());
    let at = this.#lastCentre;
    for (let i = 0; ; i++) {
      if (reasons.size === 0) {
        const covered = Math.max(this.#lastCentre, i > 0 ? at - 1 : this.#lastCentre, this.#coveredFrom(at));
        const next = this.#switches[i]?.sample ?? Number.POSITIVE_INFINITY;
        // Before the first row nothing need be known: rows begin at about 0.
        const begun = covered > Number.NEGATIVE_INFINITY || next > 0;
        if (covered < next && begun) return covered;
      }
      const change = this.#switches[i];
      if (change === undefined) return Number.POSITIVE_INFINITY;
      at = Math.max(at, change.sample);
      if (change.to !== null) reasons.add(change.reason);
      else reasons.delete(change.reason);
    }
  }

  /** Writes the BANK_BINS gains for the frame centred on `centre`. Ask in order, at most about 25 ms apart; going back throws. */
  gainsAt(centre: number, row: Float32Array): void {
    if (!(centre >= this.#lastCentre))
      throw new RangeError(`gains were asked for at ${centre} after ${this.#lastCentre}`);
    const previousCentre = this.#lastCentre;
    const first = previousCentre === Number.NEGATIVE_INFINITY;
    this.#lastCentre = centre;
    this.#applySwitches(centre);
    const known = this.#stitched(centre, this.#goal);
    const present = known && this.#reasons.size === 0;
    if (present) {
      this.#shape(centre, this.#goal, this.#target !== "gains");
      this.#lastPresent = centre;
    }

    const target = this.#chooseTarget(centre, present);
    if (target !== this.#target) {
      this.#from.set(this.#out);
      this.#fadeStart = first ? Number.NEGATIVE_INFINITY : previousCentre;
      // Hold ends at an exact sample, not at the frame that notices it.
      if (this.#target === "held" && target === "identity" && this.#reasons.size === 0)
        this.#fadeStart = this.#lastPresent + HOLD_SAMPLES;
      this.#target = target;
    }
    if (target === "identity" || target === "silence") this.#goal.fill(target === "identity" ? 1 : 0);
    if (target !== "held") this.#blend(ramp(centre, this.#fadeStart, RAMP_SAMPLES));
    row.set(this.#out);
    this.#updateMode(centre);
    this.#forget();
  }

  #chooseTarget(centre: number, present: boolean): Target {
    if (this.#reasons.size > 0) return this.#instead();
    if (present) return "gains";
    if (this.#target === "identity" || this.#target === "silence") return "identity";
    return centre - this.#lastPresent <= HOLD_SAMPLES ? "held" : "identity";
  }

  #instead(): Instead {
    return [...this.#reasons.values()].includes("identity") ? "identity" : "silence";
  }

  #blend(u: number): void {
    const from = this.#from;
    const goal = this.#goal;
    const out = this.#out;
    if (u === 1) out.set(goal);
    else for (let k = 0; k < BANK_BINS; k++) out[k] = from[k]! + u * (goal[k]! - from[k]!);
  }

  /** The only place where the mode changes. */
  #updateMode(centre: number): void {
    let mode: Mode = "separated";
    let reason: string | null = null;
    if (this.#reasons.size > 0) {
      const instead = this.#instead();
      mode = instead === "identity" ? "bypass" : "muted";
      const holding = [...this.#reasons].filter(([, to]) => to === instead).map(([code]) => code);
      reason = holding.includes(OPERATOR) ? OPERATOR : (holding[0] ?? null);
    } else if (this.#target !== "gains") {
      const fading = this.#target === "held" || centre < this.#fadeStart + RAMP_SAMPLES;
      mode = fading && this.#mode.mode !== "bypass" ? "late" : "bypass";
      reason = LATE;
    }
    if (mode === this.#mode.mode && reason === this.#mode.reason) return;
    if (mode === "late") this.#counters.timesLate++;
    this.#mode = { mode, reason, sinceSample: centre };
  }

  /** Model gains at `centre` from all pieces that reach it; false when none does. */
  #stitched(centre: number, row: Float32Array): boolean {
    let found = false;
    for (let i = 0; i < this.#pieces.length; i++) {
      const piece = this.#pieces[i]!;
      if (piece.end < centre) {
        const next = this.#pieces[i + 1];
        if (next !== undefined && next.start > centre && joins(piece, next)) {
          const part = (centre - piece.end) / (next.start - piece.end);
          mix(piece.rows, piece.rows.length - BANK_BINS, next.rows, 0, part, 1, row);
          found = true;
        }
        continue;
      }
      if (piece.start > centre) continue;
      const weight = found ? ramp(centre, piece.fadeFrom, piece.fadeLength) : 1;
      if (weight === 0) continue;
      const position = (centre - piece.start) / piece.hop;
      const frame = Math.floor(position);
      const last = piece.rows.length - BANK_BINS;
      const a = Math.min(frame * BANK_BINS, last);
      mix(piece.rows, a, piece.rows, Math.min(a + BANK_BINS, last), position - frame, weight, row);
      found = true;
    }
    return found;
  }

  /** How far pieces reach without a hole from `sample` on; before the first row everything from the first piece on counts. */
  #coveredFrom(sample: number): number {
    let until = Number.NEGATIVE_INFINITY;
    let last: Piece | undefined;
    for (const piece of this.#pieces) {
      if (piece.end >= sample) {
        const anyStart = last === undefined && sample === Number.NEGATIVE_INFINITY;
        const continues = piece.start <= Math.max(sample, until) || (last !== undefined && joins(last, piece));
        if (!anyStart && !continues) break;
        until = piece.end;
      }
      last = piece;
    }
    return until;
  }

  #switch(sample: number, reason: string, to: Instead | null): void {
    if (Number.isNaN(sample)) throw new RangeError("a switch of the mode needs a sample");
    const kept = this.#switches.filter((s) => s.reason !== reason || s.sample < sample);
    const last = kept.findLast((s) => s.reason === reason);
    const before = last === undefined ? (this.#reasons.get(reason) ?? null) : last.to;
    if (before !== to) {
      const at = kept.findIndex((s) => s.sample > sample);
      kept.splice(at < 0 ? kept.length : at, 0, { sample, reason, to });
    }
    this.#switches = kept;
    while (this.#switches.length > MAX_SWITCHES) {
      this.#counters.switchesForced++;
      this.#applySwitches(this.#switches[0]!.sample);
    }
  }

  #applySwitches(until: number): void {
    while (this.#switches.length > 0 && this.#switches[0]!.sample <= until) {
      const change = this.#switches.shift()!;
      if (change.to !== null) this.#reasons.set(change.reason, change.to);
      else this.#reasons.delete(change.reason);
    }
  }

  #mapped(frames: number, bins: number, binHz: number, data: Float32Array): Float32Array {
    if (this.#map === null || this.#map.bins !== bins || this.#map.binHz !== binHz) {
      this.#map = new GainMap(bins, binHz);
      this.#modelRow = new Float32Array(bins);
    }
    const rows = new Float32Array(frames * BANK_BINS);
    const clean = this.#modelRow;
    for (let f = 0; f < frames; f++) {
      for (let b = 0; b < bins; b++) {
        const gain = data[f * bins + b]!;
        if (gain >= 0 && gain <= 1) clean[b] = gain;
        else {
          clean[b] = gain < 0 ? 0 : 1;
          this.#counters.gainsRepaired++;
        }
      }
      this.#map.apply(clean, 0, rows, f * BANK_BINS);
    }
    return rows;
  }

  /** Drops pieces that no later row can need: something newer has fully taken over, or they lie too far back to be joined. */
  #forget(): void {
    const at = this.#lastCentre;
    let count = 0;
    for (let i = 0; i < this.#pieces.length; i++) {
      const piece = this.#pieces[i]!;
      const next = this.#pieces[i + 1];
      const replaced = next !== undefined && next.start <= at && next.fadeFrom + next.fadeLength <= at;
      if (!replaced && !(piece.end + 2 * piece.hop < at)) break;
      count = i + 1;
      this.#storedFrames -= piece.rows.length / BANK_BINS;
    }
    if (count > 0) this.#pieces.splice(0, count);
  }
}

/** Whether `next` continues `piece` without a hole: its first frame is where the grid's next frame would be, or a little later. */
function joins(piece: Piece, next: Piece): boolean {
  return next.start - piece.end <= 1.5 * Math.max(piece.hop, next.hop);
}

/** row = (1 - weight) row + weight ((1 - part) a + part b). */
function mix(
  a: Float32Array,
  aAt: number,
  b: Float32Array,
  bAt: number,
  part: number,
  weight: number,
  row: Float32Array,
): void {
  for (let k = 0; k < BANK_BINS; k++) {
    const x = a[aAt + k]!;
    const value = x + part * (b[bAt + k]! - x);
    row[k] = weight === 1 ? value : row[k]! + weight * (value - row[k]!);
  }
}
