import { DriftMeter } from "./drift-meter.js";
import { type AudioBlock, SAMPLE_RATE } from "./types.js";

/** Sound as it comes in: 48 kHz, planar, any block size, with the PTS of its first sample. */
export type TimedAudio = { readonly ptsNs: bigint; readonly channels: readonly Float32Array[] };

/** What happened to the sound; `atSample` is where on the timeline. */
export type TimelineEvent =
  | { readonly type: "anchor"; readonly atSample: number; readonly ptsNs: bigint }
  /** Silence put in where sound was missing. */
  | { readonly type: "gap"; readonly atSample: number; readonly samples: number }
  /** Sound left out because its time was taken already. */
  | { readonly type: "overlap"; readonly atSample: number; readonly samples: number }
  /** PTS jumped; the timeline goes on, from here on under a new PTS. */
  | { readonly type: "discontinuity"; readonly atSample: number; readonly fromPtsNs: bigint; readonly toPtsNs: bigint }
  /** About 1 ms left out (negative) or doubled (positive). */
  | { readonly type: "drift"; readonly atSample: number; readonly samples: number }
  | { readonly type: "layout"; readonly atSample: number; readonly from: number; readonly to: number }
  | { readonly type: "non-finite"; readonly atSample: number; readonly samples: number };

export type TimelineOutput = { readonly blocks: readonly AudioBlock[]; readonly events: readonly TimelineEvent[] };

const MS = SAMPLE_RATE / 1000;
/** Differences below are jitter, up to the second one gaps and overlaps, beyond it discontinuities. */
const JITTER = 20 * MS;
const JUMP = SAMPLE_RATE;
/**
 * Drift: start to work it off above 4 ms for 2 s, 1 ms at a time, at most every 250 ms, until under 1 ms. It is the slow part that counts:
 * timestamps of whole milliseconds, or frames stamped in bursts, don't show in it; what a filled gap left over (a lossy line) does.
 */
const DRIFT_START = 4 * MS;
const DRIFT_PATIENCE = 2 * SAMPLE_RATE;
const DRIFT_PIECE = MS;
const DRIFT_PAUSE = SAMPLE_RATE / 4;
const DRIFT_DONE = MS;
const FADE = 5 * MS;
const MAX_BLOCK = 10 * SAMPLE_RATE;
const MAX_ANCHORS = 16;

type Anchor = { readonly sample: number; readonly ptsNs: bigint };

/**
 * Turns blocks with PTS into one gapless run of samples, n = 0, 1, 2 ... at 48 kHz, anchored at the first PTS (docs/architecture.md,
 * "Timeline"), and maps PTS to n and back for pictures and outputs. `push` gives contiguous blocks.
 *
 * A block that lies wholly in the past is a late-comer and left out; when the next one continues it, time has really jumped back and
 * the timeline is anchored anew. Seams are smoothed with the mirrored last 5 ms, so that no sound has to be held back for a fade.
 */
export class AudioTimeline {
  readonly #drift = new DriftMeter();
  /** Newest last. */
  readonly #anchors: Anchor[] = [];
  #layout = 0;
  #inputLayout = 0;
  #next = 0;
  /** PTS at which the sound left out last ended, on the present anchor; null: the last block was used. */
  #leftOutUntil: number | null = null;
  #driftSince: number | null = null;
  #working = false;
  #lastPiece = Number.NEGATIVE_INFINITY;
  /** Newest FADE samples of each channel, oldest first. */
  #history: Float32Array[] = [];
  readonly #counters = {
    gaps: 0,
    gapSamples: 0,
    overlaps: 0,
    overlapSamples: 0,
    discontinuities: 0,
    driftPieces: 0,
    layoutChanges: 0,
    nonFiniteSamples: 0,
  };

  /** `channels`: 1 or 2; without it the first block decides (more than two are mixed down to two). */
  constructor(options: { readonly channels?: 1 | 2 } = {}) {
    this.#layout = options.channels ?? 0;
  }

  /** The timeline's next sample = samples given so far. */
  get nextSample(): number {
    return this.#next;
  }

  /** Channels of every block; 0 before the first. */
  get channels(): number {
    return this.#layout;
  }

  /** By how much more samples come than their PTS says, in parts per million; 0 in the first 5 s. */
  get driftPpm(): number {
    return this.#drift.ppm;
  }

  get counters(): Readonly<Record<string, number>> {
    return { ...this.#counters };
  }

  /** Throws RangeError when channels differ in length or a block is longer than 10 s. The arrays are copied. */
  push({ ptsNs, channels }: TimedAudio): TimelineOutput {
    const blocks: AudioBlock[] = [];
    const events: TimelineEvent[] = [];
    const length = channels[0]?.length ?? 0;
    if (channels.some((c) => c.length !== length)) throw new RangeError("channels of one block differ in length");
    if (length > MAX_BLOCK) throw new RangeError(`a block of ${length} samples is too long (${MAX_BLOCK})`);
    if (length === 0) return { blocks, events };

    let sound = this.#conform(channels, events);
    let join = false;
    if (this.#anchors.length === 0) {
      this.#history = sound.map(() => new Float32Array(FADE));
      this.#anchor(ptsNs);
      events.push({ type: "anchor", atSample: 0, ptsNs });
    }
    const error = this.#position(ptsNs) - this.#next;
    const overlap = Math.min(length, Math.round(-error));
    const jumped = Math.abs(error) >= JUMP || (error <= -JITTER && overlap === length && this.#continuesLeftOut(error));
    if (jumped) {
      events.push({ type: "discontinuity", atSample: this.#next, fromPtsNs: this.toPtsNs(this.#next), toPtsNs: ptsNs });
      this.#counters.discontinuities++;
      this.#anchor(ptsNs);
      join = true;
    } else if (error >= JITTER) {
      blocks.push(this.#silence(Math.round(error), events));
      join = true;
    } else if (error <= -JITTER) {
      events.push({ type: "overlap", atSample: this.#next, samples: overlap });
      this.#counters.overlaps++;
      this.#counters.overlapSamples += overlap;
      this.#drift.shift();
      if (overlap === length) {
        this.#leftOutUntil = this.#next + error + length;
        return { blocks, events };
      }
      sound = sound.map((c) => c.subarray(overlap));
      join = true;
    } else {
      this.#drift.add(this.#next, error);
      const piece = this.#driftPiece();
      if (piece !== 0) {
        const changed = piece > 0 ? doubled(sound) : shortened(sound);
        if (changed !== null) {
          events.push({ type: "drift", atSample: this.#next, samples: piece });
          this.#counters.driftPieces++;
          this.#lastPiece = this.#next;
          this.#drift.corrected(piece);
          sound = changed;
        }
      }
    }
    this.#leftOutUntil = null;
    if (join) this.#join(sound);
    blocks.push(this.#emit(sound));
    return { blocks, events };
  }

  /** Place of a PTS on the timeline, a whole sample (of pictures: may be negative, or ahead of the sound); null before the first sound. */
  toSample(ptsNs: bigint): number | null {
    if (this.#anchors.length === 0) return null;
    // A PTS near a discontinuity may belong to either side of it: the side nearer to the present sound is meant.
    let best = 0;
    let bestDistance = Number.POSITIVE_INFINITY;
    for (let i = this.#anchors.length - 1; i >= 0; i--) {
      const sample = samplesFrom(this.#anchors[i]!, ptsNs);
      const distance = Math.abs(sample - this.#next);
      if (distance < bestDistance) {
        best = sample;
        bestDistance = distance;
      }
    }
    return Math.round(best);
  }

  /** PTS of sample n by the anchor in force there. Throws RangeError before the first sound. */
  toPtsNs(sample: number): bigint {
    const anchor = this.#anchors.findLast((a) => a.sample <= sample) ?? this.#anchors[0];
    if (anchor === undefined) throw new RangeError("the timeline has no PTS before its first sound");
    return anchor.ptsNs + BigInt(Math.round(((sample - anchor.sample) * 1e9) / SAMPLE_RATE));
  }

  #position(ptsNs: bigint): number {
    return samplesFrom(this.#anchors.at(-1)!, ptsNs);
  }

  #anchor(ptsNs: bigint): void {
    this.#anchors.push({ sample: this.#next, ptsNs });
    if (this.#anchors.length > MAX_ANCHORS) this.#anchors.shift();
    this.#drift.restart();
    this.#driftSince = null;
    this.#working = false;
  }

  #continuesLeftOut(error: number): boolean {
    return this.#leftOutUntil !== null && Math.abs(this.#next + error - this.#leftOutUntil) < JITTER;
  }

  /** How much to put in (positive) or leave out now, in samples. */
  #driftPiece(): number {
    const error = this.#drift.error;
    if (Math.abs(error) < DRIFT_START) this.#driftSince = null;
    else this.#driftSince ??= this.#next;
    if (this.#driftSince !== null && this.#next - this.#driftSince >= DRIFT_PATIENCE) this.#working = true;
    if (Math.abs(error) < DRIFT_DONE) this.#working = false;
    if (!this.#working || this.#next - this.#lastPiece < DRIFT_PAUSE) return 0;
    return Math.sign(error) * DRIFT_PIECE;
  }

  /** Copies the block into the timeline's layout; non-finite samples become 0. */
  #conform(channels: readonly Float32Array[], events: TimelineEvent[]): Float32Array[] {
    const count = channels.length;
    if (this.#layout === 0) this.#layout = Math.min(2, count);
    if (this.#inputLayout !== count) {
      if (this.#inputLayout !== 0) {
        events.push({ type: "layout", atSample: this.#next, from: this.#inputLayout, to: count });
        this.#counters.layoutChanges++;
      }
      this.#inputLayout = count;
    }
    let bad = 0;
    const clean = channels.map((channel) => {
      const copy = channel.slice();
      for (let i = 0; i < copy.length; i++) {
        if (!Number.isFinite(copy[i]!)) {
          copy[i] = 0;
          bad++;
        }
      }
      return copy;
    });
    if (bad > 0) {
      events.push({ type: "non-finite", atSample: this.#next, samples: bad });
      this.#counters.nonFiniteSamples += bad;
    }
    return mixTo(clean, this.#layout);
  }

  #silence(samples: number, events: TimelineEvent[]): AudioBlock {
    events.push({ type: "gap", atSample: this.#next, samples });
    this.#counters.gaps++;
    this.#counters.gapSamples += samples;
    this.#drift.shift();
    const silence = Array.from({ length: this.#layout }, () => new Float32Array(samples));
    this.#join(silence);
    return this.#emit(silence);
  }

  /** Fades `sound` in under the mirrored, fading end of what came before: continuous in value, nothing held back. */
  #join(sound: readonly Float32Array[]): void {
    for (let c = 0; c < sound.length; c++) {
      const samples = sound[c]!;
      const history = this.#history[c]!;
      const count = Math.min(FADE, samples.length);
      for (let i = 0; i < count; i++) {
        const up = Math.sin((Math.PI / 2) * ((i + 1) / (count + 1))) ** 2;
        samples[i] = up * samples[i]! + (1 - up) * history[FADE - 1 - i]!;
      }
    }
  }

  #emit(channels: Float32Array[]): AudioBlock {
    const atSample = this.#next;
    const length = channels[0]!.length;
    this.#next += length;
    for (let c = 0; c < channels.length; c++) {
      const history = this.#history[c]!;
      const tail = channels[c]!.subarray(Math.max(0, length - FADE));
      history.copyWithin(0, tail.length);
      history.set(tail, FADE - tail.length);
    }
    return { atSample, channels };
  }
}

function samplesFrom(anchor: Anchor, ptsNs: bigint): number {
  return anchor.sample + (Number(ptsNs - anchor.ptsNs) * SAMPLE_RATE) / 1e9;
}

/** 5.1 in the order FL FR FC LFE BL BR: centre and backs at -3 dB into both sides, scaled so that nothing clips that did not. */
function mixTo(channels: Float32Array[], layout: number): Float32Array[] {
  const count = channels.length;
  if (count === layout) return channels;
  if (count === 1) return Array.from({ length: layout }, () => channels[0]!.slice());
  const stereo = count === 2 ? channels : count === 6 ? from51(channels) : [mean(channels, 0, 2), mean(channels, 1, 2)];
  return layout === 1 ? [mean(stereo, 0, 1)] : stereo;
}

function from51(channels: readonly Float32Array[]): Float32Array[] {
  const scale = 1 / (1 + 2 * Math.SQRT1_2);
  const centre = channels[2]!;
  return [0, 1].map((side) => {
    const back = channels[4 + side]!;
    return channels[side]!.map((x, i) => scale * (x + Math.SQRT1_2 * (centre[i]! + back[i]!)));
  });
}

/** Mean of every `step`th channel from `first` on. */
function mean(channels: readonly Float32Array[], first: number, step: number): Float32Array {
  const used = channels.filter((_, c) => c % step === first);
  const out = new Float32Array(channels[0]!.length);
  for (const channel of used) for (let i = 0; i < out.length; i++) out[i]! += channel[i]! / used.length;
  return out;
}

/** One piece more: the block up to its 2nd piece, then again from its 1st on, cross-faded over one piece. Null: too short. */
function doubled(sound: readonly Float32Array[]): Float32Array[] | null {
  const length = sound[0]!.length;
  if (length < 2 * DRIFT_PIECE) return null;
  return sound.map((x) => {
    const out = new Float32Array(length + DRIFT_PIECE);
    out.set(x.subarray(0, DRIFT_PIECE));
    out.set(x.subarray(DRIFT_PIECE), 2 * DRIFT_PIECE);
    crossFade(x, DRIFT_PIECE, 0, out, DRIFT_PIECE);
    return out;
  });
}

/** One piece less: the first piece fades over into the second. Null: too short. */
function shortened(sound: readonly Float32Array[]): Float32Array[] | null {
  const length = sound[0]!.length;
  if (length < 2 * DRIFT_PIECE) return null;
  return sound.map((x) => {
    const out = new Float32Array(length - DRIFT_PIECE);
    out.set(x.subarray(2 * DRIFT_PIECE), DRIFT_PIECE);
    crossFade(x, 0, DRIFT_PIECE, out, 0);
    return out;
  });
}

/** out[at ..] = x[from ..] going over to x[to ..] within one piece. */
function crossFade(x: Float32Array, from: number, to: number, out: Float32Array, at: number): void {
  for (let i = 0; i < DRIFT_PIECE; i++) {
    const up = Math.sin((Math.PI / 2) * ((i + 0.5) / DRIFT_PIECE)) ** 2;
    out[at + i] = (1 - up) * x[from + i]! + up * x[to + i]!;
  }
}
