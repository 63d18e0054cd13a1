import { RATIO, windowGains, windowGrid } from "../model/paper/gains.js";
import { type Spectrum, waveform } from "../model/paper/spectrum.js";
import type { WindowResult } from "../model/paper/window.js";
import { BANK_SIZE } from "../pipeline/filter-bank.js";
import { GainRenderer, type RendererOptions } from "../pipeline/gain-renderer.js";
import { CROSS_FADE_SAMPLES } from "../pipeline/gain-timeline.js";
import { ramp } from "../pipeline/ramp.js";
import { Resampler } from "../pipeline/resample.js";
import { type AudioBlock, SAMPLE_RATE } from "../pipeline/types.js";
import type { Place, WindowPlan } from "./window-plan.js";

type Voices = NonNullable<WindowResult["voices"]>;
/** Planes of the two stems, as long as each other. */
export type Stems = { readonly on: readonly Float32Array[]; readonly off: readonly Float32Array[] };

/** What becomes of windows: sound that is final comes out as it does, in order, from sample 0 to the end of the input. */
export type WindowOutput = {
  readonly channels: number;
  push(block: AudioBlock): void;
  accept(place: Place, voices: Voices, gain: number): void;
  /** All sound was pushed and every window accepted. */
  finish(): void;
  take(): Stems | null;
};

/** Gains on the input's own sound, by the pipeline that live channels use: the stems add up to the input. */
export class GainOutput implements WindowOutput {
  readonly channels: number;
  readonly #plan: WindowPlan;
  readonly #renderer: GainRenderer;
  readonly #kept: "on" | "off";
  #finished = false;
  #bypassed = false;

  constructor(plan: WindowPlan, channels: number, controls: NonNullable<RendererOptions["controls"]>) {
    this.channels = channels;
    this.#plan = plan;
    this.#kept = controls.keep === "off-screen" ? "off" : "on";
    const model = { unitSamples: plan.covered, guardSamples: 0, lookBackSamples: plan.covered };
    // A window waits for its end while the sound from the middle of the one before on is not rendered yet.
    const ringSamples = 3 * plan.covered + 4 * SAMPLE_RATE;
    this.#renderer = new GainRenderer({ model, channels, controls, ringSamples });
  }

  push(block: AudioBlock): void {
    this.#renderer.pushAudio(block);
  }

  accept({ atSample, from }: Place, { on, off }: Voices): void {
    const begin = from === 0 ? -BANK_SIZE : from;
    this.#renderer.acceptGains(
      windowGrid(windowGains(on, off), atSample, begin, atSample + this.#plan.covered + 2 * BANK_SIZE),
    );
  }

  /** No window comes: the sound leaves untouched. */
  bypass(reason: string): void {
    this.#bypassed = true;
    this.#renderer.bypassFrom(0, reason);
  }

  finish(): void {
    this.#finished = true;
    this.#renderer.finish();
  }

  take(): Stems | null {
    const { gainsUntil, soundUntil } = this.#renderer;
    const certain = this.#finished || this.#bypassed;
    const until = certain ? soundUntil : Math.min(gainsUntil, this.#plan.certainUntil - BANK_SIZE);
    const rendered = this.#renderer.render(until, { removed: true });
    if (rendered === null) return null;
    const [kept, removed] = [rendered.kept.channels, rendered.removed!.channels];
    return this.#kept === "on" ? { on: kept, off: removed } : { on: removed, off: kept };
  }
}

type Piece = { from: number; on: Float32Array; off: Float32Array };

/**
 * The predicted voices themselves, mono, as the paper does it: magnitude and phase back to sound at 21 kHz, from there to 48 kHz. By
 * default at the input's level and cross-faded; `releaseExact` leaves the release's level, its ends and its seams (the first window
 * that covers a sample wins), clipped to -1..1 (spec section 5, steps 6 to 8).
 */
export class PaperOutput implements WindowOutput {
  readonly channels = 1;
  readonly #exact: boolean;
  readonly #resampler = new Resampler(RATIO.down, RATIO.up);
  #pushed = 0;
  #given = 0;
  #finished = false;
  /** The newest window from its `from` on; what lies before is in `#final`. */
  #open: Piece | null = null;
  #final: Piece[] = [];

  constructor(options: { readonly releaseExact: boolean }) {
    this.#exact = options.releaseExact;
  }

  push({ channels }: AudioBlock): void {
    this.#pushed += channels[0]?.length ?? 0;
  }

  accept(place: Place, { on, off }: Voices, gain: number): void {
    const wave = (s: Spectrum): Float32Array => this.#sound(s, gain);
    const [wholeOn, wholeOff] = [wave(on), wave(off)];
    const before = this.#open;
    const end = before === null ? 0 : before.from + before.on.length;
    const from = before === null ? 0 : this.#exact ? Math.max(end, place.atSample) : place.from;
    const cut = (x: Float32Array): Float32Array => x.slice(Math.max(0, from - place.atSample));
    const piece = { from, on: cut(wholeOn), off: cut(wholeOff) };
    if (before !== null) {
      const until = from - before.from;
      this.#final.push({ from: before.from, on: before.on.slice(0, until), off: before.off.slice(0, until) });
      if (!this.#exact)
        for (const voice of ["on", "off"] as const)
          fade(before[voice].subarray(until), piece[voice], CROSS_FADE_SAMPLES);
    }
    this.#open = piece;
  }

  finish(): void {
    this.#finished = true;
    if (this.#open !== null) this.#final.push(this.#open);
    this.#open = null;
  }

  take(): Stems | null {
    const until = this.#finished ? this.#pushed : (this.#open?.from ?? 0);
    const count = until - this.#given;
    if (count <= 0) return null;
    const stems = { on: new Float32Array(count), off: new Float32Array(count) };
    for (const piece of this.#final)
      for (const voice of ["on", "off"] as const) {
        const skip = Math.max(0, this.#given - piece.from);
        const room = until - piece.from;
        if (room > skip) stems[voice].set(piece[voice].subarray(skip, room), piece.from + skip - this.#given);
      }
    this.#final = [];
    this.#given = until;
    return { on: [stems.on], off: [stems.off] };
  }

  #sound(s: Spectrum, gain: number): Float32Array {
    const wave = waveform(s, { releaseExact: this.#exact });
    const count = Math.floor((wave.length * RATIO.down) / RATIO.up);
    const sound = this.#resampler.run(wave, 0, count);
    return this.#exact ? sound.map((v) => Math.max(-1, Math.min(1, v))) : sound.map((v) => v / gain);
  }
}

/** The first `length` samples of `to` come in by sin^2 while those of `from` go by cos^2; in place. */
export function fade(from: Float32Array, to: Float32Array, length: number): void {
  const count = Math.min(length, from.length, to.length);
  for (let n = 0; n < count; n++) {
    const weight = ramp(n, 0, count);
    to[n] = from[n]! + weight * (to[n]! - from[n]!);
  }
}
