import { StreamResampler } from "./stream-resampler.js";
import { SAMPLE_RATE } from "./types.js";

/** Planar sound of 48 kHz, and the time of its first sample in milliseconds. */
export type SoundAt48k = { readonly ptsMs: number; readonly channels: readonly Float32Array[] };
/** Planar sound of a rate in Hz. */
type SoundOfRate = SoundAt48k & { readonly sampleRate?: number };

/** A piece that is so near to the end of the one before continues it: as far as the timeline fills gaps. Its place is its own, whatever the filter held back. */
const CONTINUES_MS = 1000;

/**
 * Pieces of any rate to 48 kHz, by one filter as long as they follow each other; a jump, or a change of rate or channels, begins a new
 * stretch. Times are those of the pieces, not counted, so that the timeline sees a clock that drifts as it does at 48 kHz (GStreamer's
 * audioresample counts, and jumps when it is 31 ms off).
 */
export class SoundConverter {
  #resampler: StreamResampler | null = null;
  /** Where the newest piece ends, and how much of this stretch there is up to there (input samples). */
  #untilMs = 0;
  #samples = 0;

  /** @throws RangeError for a rate that `rateFault` names */
  take({ ptsMs, channels, sampleRate = SAMPLE_RATE }: SoundOfRate): SoundAt48k {
    if (sampleRate === SAMPLE_RATE) {
      this.#resampler = null;
      return { ptsMs, channels };
    }
    const continues = this.#resampler?.rate === sampleRate && Math.abs(ptsMs - this.#untilMs) < CONTINUES_MS;
    if (!continues || this.#resampler === null || this.#resampler.channels !== channels.length) {
      this.#resampler = new StreamResampler(sampleRate, channels.length);
      this.#samples = 0;
    }
    const outMs = this.#outMs(this.#resampler, ptsMs);
    const length = channels[0]!.length;
    this.#samples += length;
    this.#untilMs = ptsMs + (1000 * length) / sampleRate;
    return { ptsMs: outMs, channels: this.#resampler.push(channels) };
  }

  /** What the filter still holds back; null: nothing. */
  finish(): SoundAt48k | null {
    if (this.#resampler === null) return null;
    const ptsMs = this.#outMs(this.#resampler, this.#untilMs);
    const channels = this.#resampler.finish();
    return (channels[0]?.length ?? 0) > 0 ? { ptsMs, channels } : null;
  }

  /** Where the next sound of the filter lies when its input goes on at `ptsMs`: earlier by what it holds back. */
  #outMs({ given, rate }: StreamResampler, ptsMs: number): number {
    return ptsMs + 1000 * (given / SAMPLE_RATE - this.#samples / rate);
  }
}
