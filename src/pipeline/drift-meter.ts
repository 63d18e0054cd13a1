import { SAMPLE_RATE } from "./types.js";

/** Time constants: of the smoothed difference 0.5 s, of the drift's straight line 60 s; no drift is told before 5 s. */
const SMOOTH_SAMPLES = 0.5 * SAMPLE_RATE;
const LINE_SAMPLES = 60 * SAMPLE_RATE;
const WARM_UP_SAMPLES = 5 * SAMPLE_RATE;

/**
 * Watches e = (place by PTS) - (place by count), in samples: its slow part, and the slope of a straight line through it (least
 * squares, the past forgotten exponentially) with the corrections taken out again.
 */
export class DriftMeter {
  #error = 0;
  #last: number | null = null;
  #watched = 0;
  /** What corrections and shifts have taken out of e so far. */
  #removed = 0;
  // Sums of the line fit: weight, t, t^2, y, t y; t in samples before the newest.
  #s0 = 0;
  #st = 0;
  #stt = 0;
  #sy = 0;
  #sty = 0;

  /** The slow part of e, in samples: positive = sound is missing. */
  get error(): number {
    return this.#error;
  }

  /** Positive: more samples come than their PTS says. */
  get ppm(): number {
    const det = this.#s0 * this.#stt - this.#st * this.#st;
    if (this.#watched < WARM_UP_SAMPLES || det <= 0) return 0;
    return (-1e6 * (this.#s0 * this.#sty - this.#st * this.#sy)) / det;
  }

  /** One measurement, at sample `at` of the timeline. */
  add(at: number, error: number): void {
    const elapsed = this.#last === null ? 0 : at - this.#last;
    this.#error = this.#last === null ? error : error + Math.exp(-elapsed / SMOOTH_SAMPLES) * (this.#error - error);
    this.#last = at;
    this.#watched += elapsed;
    // The origin of t moves to the newest measurement, so that the sums stay small.
    const keep = Math.exp(-elapsed / LINE_SAMPLES);
    const y = error + this.#removed;
    this.#stt = keep * (this.#stt - 2 * elapsed * this.#st + elapsed * elapsed * this.#s0);
    this.#sty = keep * (this.#sty - elapsed * this.#sy);
    this.#st = keep * (this.#st - elapsed * this.#s0);
    this.#s0 = keep * this.#s0 + 1;
    this.#sy = keep * this.#sy + y;
  }

  /** `samples` were put in (positive) or left out by the drift's correction: e falls by as many. */
  corrected(samples: number): void {
    this.#error -= samples;
    this.#removed += samples;
  }

  /** A gap was filled or an overlap cut: e is 0 again for a reason that is no drift. */
  shift(): void {
    this.#removed += this.#error;
    this.#error = 0;
  }

  restart(): void {
    this.#error = 0;
    this.#last = null;
    this.#watched = 0;
    this.#removed = 0;
    this.#s0 = this.#st = this.#stt = this.#sy = this.#sty = 0;
  }
}
