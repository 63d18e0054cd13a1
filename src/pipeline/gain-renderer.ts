import type { StreamCard } from "../model/card.js";
import { BandEnergy, type GridLayout } from "./band-energy.js";
import { type Controls, GainControls } from "./controls.js";
import { PipelineError } from "./errors.js";
import { type Decision, PolicyReason } from "./face-policy.js";
import { BANK_BINS, BANK_HOP, BANK_SIZE, FilterBank, type GainsAt } from "./filter-bank.js";
import { GainTimeline, type ModeState } from "./gain-timeline.js";
import { type AudioBlock, type GainGrid, SAMPLE_RATE } from "./types.js";

/** What the renderer must know of a model; a `StreamCard` fits. Lengths in samples at 48 kHz. */
export type RendererModel = Pick<StreamCard, "unitSamples" | "guardSamples" | "lookBackSamples">;

export type RendererOptions = {
  readonly model: RendererModel;
  /** Sound channels in and out (the layout of AudioTimeline's blocks). */
  readonly channels: number;
  readonly controls?: Partial<Controls>;
  /** Sound that may wait between pushAudio and render; rounded up to the bank's hop, default 8 s, at least the look-back. */
  readonly ringSamples?: number;
};

/** Mono sound (mean of the channels) for a model step: `units * unitSamples` values from `atSample` on. */
export type StepSound = { readonly atSample: number; readonly units: number; readonly samples: Float32Array };

/** One piece of output. `kept` and `removed` lie at the input's positions and add up to the input. */
export type Rendered = {
  readonly kept: AudioBlock;
  /** Input - kept; null unless it was asked for. */
  readonly removed: AudioBlock | null;
};

/** dBFS (10 log10 of the mean square, mean over channels; floor -120), with a time constant of 300 ms. */
export type Levels = { readonly inDb: number; readonly outDb: number; readonly removedDb: number };

const LEVEL_DECAY = Math.exp(-BANK_HOP / (0.3 * SAMPLE_RATE));
const FLOOR_DB = -120;

/**
 * Sound in, model steps out, gains in, sound out. No clock and no I/O: the caller decides when to render, and what has no gains by
 * then is held and left alone (GainTimeline). The output lies at the input's positions (`kept.atSample` = position of the input that
 * it was made from) and is the same to the bit however pushAudio and render are cut into blocks.
 *
 * Live: pushAudio; nextStep -> model -> acceptGains / acceptDecision; render(n) when the declared latency of sample n has passed.
 * File: the same, with render(gainsUntil), then finish(), the last steps, render(pushedSamples).
 */
export class GainRenderer {
  readonly #model: RendererModel;
  readonly #channels: number;
  readonly #ringSize: number;
  readonly #ring: readonly Float32Array[];
  readonly #mono: Float32Array;
  readonly #bank: FilterBank;
  readonly #gains: GainTimeline;
  readonly #controls: GainControls;
  readonly #energy = new BandEnergy();
  /** A piece of input for the bank after the end of the sound, and the hop it gave that is not all delivered yet. */
  readonly #padded: readonly Float32Array[];
  readonly #hop: readonly Float32Array[];
  #hopStart = 0;
  #hopEnd = 0;
  #pushed = 0;
  #rendered = 0;
  #finished = false;
  #nextStepAt = 0;
  #decidedUntil = Number.POSITIVE_INFINITY;
  /** Mean squares: in, out, removed. */
  readonly #levels = new Float64Array(3);
  readonly #counters = { samplesRepaired: 0, stepsGiven: 0, stepsSkipped: 0 };

  constructor({ model, channels, controls, ringSamples = 8 * SAMPLE_RATE }: RendererOptions) {
    const ringSize =
      Math.ceil(Math.max(ringSamples, model.lookBackSamples + model.unitSamples, 4 * BANK_SIZE) / BANK_HOP) * BANK_HOP;
    this.#model = model;
    this.#channels = channels;
    this.#ringSize = ringSize;
    this.#bank = new FilterBank(channels);
    const each = (length: number) => Array.from({ length: channels }, () => new Float32Array(length));
    this.#ring = each(ringSize);
    this.#padded = each(BANK_HOP);
    this.#hop = each(BANK_HOP);
    this.#mono = new Float32Array(ringSize);
    this.#controls = new GainControls(BANK_BINS, controls);
    this.#gains = new GainTimeline((centre, row, restart) => {
      if (restart) this.#controls.restart();
      this.#controls.apply(centre, row);
    });
  }

  /** Samples pushed so far. */
  get pushedSamples(): number {
    return this.#pushed;
  }

  /** Samples rendered so far: the next block begins here. */
  get renderedSamples(): number {
    return this.#rendered;
  }

  /** render() can go this far, with gains or without: the newest sound less the bank's latency. */
  get soundUntil(): number {
    if (this.#finished) return this.#pushed;
    return Math.max(0, Math.floor(this.#pushed / BANK_HOP) * BANK_HOP - (BANK_SIZE - BANK_HOP));
  }

  /**
   * render() can go this far with all gains known (or with a bypass that needs none). A hole in the gains stops it: go on with
   * soundUntil when the missing gains will not come.
   */
  get gainsUntil(): number {
    // Sample n needs the frames up to the one centred a hop after the end of its own.
    const centre = Math.min(this.#gains.knownUntil, this.#decidedUntil);
    const until = Math.floor((centre - BANK_HOP) / BANK_HOP) * BANK_HOP;
    return Math.max(this.#rendered, Math.min(until, this.soundUntil));
  }

  /** The newest centre whose gains render(untilSample) asks for. */
  gainsFor(untilSample: number): number {
    return Math.ceil(untilSample / BANK_HOP) * BANK_HOP + BANK_HOP;
  }

  /** How the sound leaves at the newest rendered sample. */
  get mode(): ModeState {
    return this.#gains.mode;
  }

  get controls(): Controls {
    return this.#controls.controls;
  }

  get levels(): Levels {
    const db = (i: number) => Math.max(FLOOR_DB, 10 * Math.log10(this.#levels[i]! + 1e-30));
    return { inDb: db(0), outDb: db(1), removedDb: db(2) };
  }

  get counters(): Readonly<Record<string, number>> {
    return { ...this.#gains.counters, ...this.#counters };
  }

  /**
   * Takes sound over (copied). Blocks are contiguous from sample 0 on (AudioTimeline sees to that). NaN and Inf become 0, counted.
   * Throws PipelineError SL_SOUND_NOT_CONTIGUOUS, or SL_SOUND_NOT_RENDERED when the ring would lose sound that was not rendered.
   */
  pushAudio({ atSample, channels }: AudioBlock): void {
    if (atSample !== this.#pushed || this.#finished) {
      throw new PipelineError(
        "SL_SOUND_NOT_CONTIGUOUS",
        `sound at ${atSample} was pushed where ${this.#pushed}${this.#finished ? " was the end" : " comes next"}`,
      );
    }
    const length = channels[0]?.length ?? 0;
    if (channels.length !== this.#channels || channels.some((c) => c.length !== length)) {
      throw new RangeError(
        `expected ${this.#channels} channels of equal length, got [${channels.map((c) => c.length).join(", ")}]`,
      );
    }
    if (this.#pushed + length - this.#rendered > this.#ringSize) {
      const waiting = ((this.#pushed - this.#rendered) / SAMPLE_RATE).toFixed(1);
      throw new PipelineError(
        "SL_SOUND_NOT_RENDERED",
        `${waiting} s of sound wait; render() before ${length} samples more`,
      );
    }
    for (let done = 0; done < length; ) {
      const at = (this.#pushed + done) % this.#ringSize;
      const count = Math.min(length - done, this.#ringSize - at);
      this.#mono.fill(0, at, at + count);
      for (let c = 0; c < this.#channels; c++) {
        const from = channels[c]!;
        const to = this.#ring[c]!;
        for (let i = 0; i < count; i++) {
          let sample = from[done + i]!;
          if (!Number.isFinite(sample)) {
            sample = 0;
            this.#counters.samplesRepaired++;
          }
          to[at + i] = sample;
          this.#mono[at + i]! += sample / this.#channels;
        }
      }
      done += count;
    }
    this.#pushed += length;
  }

  /** No more sound comes: steps go on, zero-padded, until their gains cover the end; the tail can be rendered. */
  finish(): void {
    this.#finished = true;
  }

  /**
   * The sound of the next model step, or null while it is not there (after finish(): when no more are needed). Steps are contiguous and
   * begin at multiples of unitSamples * hopUnits; when hopUnits changes, one shorter step leads back to them. Steps that were not
   * fetched before their sound left the ring are skipped and counted.
   */
  nextStep(hopUnits: number): StepSound | null {
    if (!Number.isInteger(hopUnits) || hopUnits < 1 || hopUnits * this.#model.unitSamples > this.#ringSize) {
      throw new RangeError(`hopUnits must be a whole number above 0 whose sound fits the ring, not ${hopUnits}`);
    }
    const unit = this.#model.unitSamples;
    const oldest = Math.max(0, this.#pushed - this.#ringSize);
    if (this.#nextStepAt < oldest) {
      this.#nextStepAt = Math.ceil(oldest / (unit * hopUnits)) * unit * hopUnits;
      this.#counters.stepsSkipped++;
    }
    const atSample = this.#nextStepAt;
    const units = hopUnits - ((atSample / unit) % hopUnits);
    const end = atSample + units * unit;
    if (end > this.#pushed) {
      const lastCentre = Math.ceil(this.#pushed / BANK_HOP) * BANK_HOP + BANK_HOP;
      if (!this.#finished || this.#pushed === 0 || atSample - this.#model.guardSamples >= lastCentre) return null;
    }
    this.#nextStepAt = end;
    this.#counters.stepsGiven++;
    return { atSample, units, samples: this.#copyMono(atSample, units * unit) };
  }

  /**
   * Sound that re-makes a model's state: whole units that end at `endSample` (where the next step begins), together at least the
   * model's look-back where that much is there; 0 units at the very beginning. Throws PipelineError SL_SOUND_FORGOTTEN.
   */
  lookBack(endSample: number): StepSound {
    const unit = this.#model.unitSamples;
    const oldest = Math.max(0, this.#pushed - this.#ringSize);
    if (!Number.isInteger(endSample) || endSample < oldest || (endSample > this.#pushed && !this.#finished)) {
      throw new PipelineError(
        "SL_SOUND_FORGOTTEN",
        `a look-back to ${endSample} is not in the ring (${oldest} to ${this.#pushed})`,
      );
    }
    const units = Math.min(Math.ceil(this.#model.lookBackSamples / unit), Math.floor((endSample - oldest) / unit));
    const atSample = endSample - units * unit;
    return { atSample, units, samples: this.#copyMono(atSample, units * unit) };
  }

  /** Planes of `count` samples from `from` on; 0 before the beginning. Throws PipelineError SL_SOUND_FORGOTTEN. */
  sound(from: number, count: number): Float32Array[] {
    const oldest = Math.max(0, this.#pushed - this.#ringSize);
    if (Math.max(0, from) < oldest || from + count > this.#pushed) {
      const asked = `${from} to ${from + count}`;
      throw new PipelineError("SL_SOUND_FORGOTTEN", `${asked} is not in the ring (${oldest} to ${this.#pushed})`);
    }
    return this.#ring.map((ring) => {
      const out = new Float32Array(count);
      for (let n = Math.max(0, from); n < from + count; n++) out[n - from] = ring[n % this.#ringSize]!;
      return out;
    });
  }

  /** Energy of the input in the cells of a grid, for FacePolicy. Cells whose sound is not in the ring are 0. */
  energies(layout: GridLayout): Float32Array {
    const oldest = Math.max(0, this.#pushed - this.#ringSize);
    return this.#energy.measure(layout, (n) => (n >= oldest && n < this.#pushed ? this.#mono[n % this.#ringSize]! : 0));
  }

  /** On-screen gains of a step (or of a window's trusted part). Late or early, GainTimeline makes the best of it. */
  acceptGains(grid: GainGrid): void {
    this.#gains.accept(grid);
  }

  /** What FacePolicy decided for a step: its gains, or leaving the sound alone over the step's frames and until it says otherwise. */
  acceptDecision({ layout, gains, mute, reason }: Decision): void {
    const left = gains === null ? reason : null;
    for (const known of Object.values(PolicyReason)) {
      // From the last frame of the step before, so that no frame between the two steps is without an answer.
      if (known === left)
        this.#gains.bypassFrom(layout.atSample - layout.hopSamples, known, mute ? "silence" : "identity");
      else this.#gains.separateFrom(layout.atSample, known);
    }
    if (gains !== null) this.#gains.accept(gains);
    this.#decidedUntil = layout.atSample + (layout.frames - 1) * layout.hopSamples;
  }

  /** From `sample` on the sound leaves untouched, for this reason; several reasons may hold at once. Earlier than rendered: now. */
  bypassFrom(sample: number, reason: string): void {
    this.#gains.bypassFrom(sample, reason);
  }

  /** From `sample` on this reason (or, without one, every reason) no longer holds. */
  separateFrom(sample: number, reason?: string): void {
    this.#gains.separateFrom(sample, reason);
  }

  /** Ramped from the next frame on. Throws RangeError on values out of range. */
  setControls(patch: Partial<Controls>): void {
    this.#controls.set(patch);
  }

  /**
   * Everything up to `untilSample` that was not rendered yet and whose sound is there (soundUntil); null when that is nothing. Gains
   * are asked for only as far as needed, so that they may come as late as possible.
   */
  render(untilSample: number, options: { readonly removed?: boolean } = {}): Rendered | null {
    const start = this.#rendered;
    const count = Math.min(Math.floor(untilSample), this.soundUntil) - start;
    if (!(count > 0)) return null;
    const each = () => Array.from({ length: this.#channels }, () => new Float32Array(count));
    const kept = each();
    const removed = options.removed ? each() : null;
    for (let done = 0; done < count; ) {
      const position = start + done;
      if (position === this.#hopEnd) this.#renderHop();
      const from = position - this.#hopStart;
      const piece = Math.min(count - done, this.#hopEnd - position);
      const ringAt = position % this.#ringSize; // hops do not wrap: the ring is a multiple of them
      for (let c = 0; c < this.#channels; c++) {
        const hop = this.#hop[c]!;
        const out = kept[c]!;
        for (let i = 0; i < piece; i++) out[done + i] = hop[from + i]!;
        if (removed === null) continue;
        const input = this.#ring[c]!;
        const rest = removed[c]!;
        for (let i = 0; i < piece; i++) rest[done + i] = input[ringAt + i]! - hop[from + i]!;
      }
      done += piece;
    }
    this.#rendered += count;
    return {
      kept: { atSample: start, channels: kept },
      removed: removed === null ? null : { atSample: start, channels: removed },
    };
  }

  readonly #gainsAt: GainsAt = (centre, row) => this.#gains.gainsAt(centre, row);

  /** Feeds the bank until it gives its next hop of output. */
  #renderHop(): void {
    let given = 0;
    while (given === 0) {
      const at = this.#bank.inputSamples;
      if (at + BANK_HOP <= this.#pushed) {
        given = this.#bank.process(this.#ring, at % this.#ringSize, BANK_HOP, this.#gainsAt, this.#hop);
        continue;
      }
      for (let c = 0; c < this.#channels; c++) {
        const padded = this.#padded[c]!.fill(0);
        for (let n = at; n < this.#pushed; n++) padded[n - at] = this.#ring[c]![n % this.#ringSize]!;
      }
      given = this.#bank.process(this.#padded, 0, BANK_HOP, this.#gainsAt, this.#hop);
    }
    this.#hopStart = this.#hopEnd;
    this.#hopEnd += given;
    this.#meter();
  }

  #meter(): void {
    const ringAt = this.#hopStart % this.#ringSize;
    const count = Math.min(BANK_HOP, this.#pushed - this.#hopStart);
    let input = 0;
    let output = 0;
    let removed = 0;
    for (let c = 0; c < this.#channels; c++) {
      const ring = this.#ring[c]!;
      const hop = this.#hop[c]!;
      for (let i = 0; i < count; i++) {
        const x = ring[ringAt + i]!;
        const y = hop[i]!;
        input += x * x;
        output += y * y;
        removed += (x - y) * (x - y);
      }
    }
    const weight = (1 - LEVEL_DECAY) / (BANK_HOP * this.#channels);
    this.#levels[0] = LEVEL_DECAY * this.#levels[0]! + weight * input;
    this.#levels[1] = LEVEL_DECAY * this.#levels[1]! + weight * output;
    this.#levels[2] = LEVEL_DECAY * this.#levels[2]! + weight * removed;
  }

  /** Mono sound; 0 beyond the end. */
  #copyMono(from: number, count: number): Float32Array {
    const samples = new Float32Array(count);
    const end = Math.min(from + count, this.#pushed);
    for (let n = from; n < end; ) {
      const at = n % this.#ringSize;
      const piece = Math.min(end - n, this.#ringSize - at);
      samples.set(this.#mono.subarray(at, at + piece), n - from);
      n += piece;
    }
    return samples;
  }
}
