import type { GainRenderer, StepSound } from "../pipeline/gain-renderer.js";

export type StepCutterOptions = {
  readonly renderer: GainRenderer;
  readonly unitSamples: number;
  readonly hopUnits: number;
  /** Newest unit whose picture is certain. */
  readonly decidedUnit: () => number;
  /** False: no pictures come, nothing is waited for. */
  readonly hasPictures: () => boolean;
  /** Pictures are waited for so long after the sound of a step is there. */
  readonly overdueMs: number;
  /**
   * When the sound up to a sample was there, on the clock that `next` is given. Default: when its step was first asked for, which is the
   * same for who keeps up; one who asks for many steps at once would have each of them wait anew.
   */
  readonly soundThereMs?: (endSample: number) => number;
};

/** Gives the next step as soon as its sound is there and its pictures are there, or overdue. The clock comes with each question. */
export class StepCutter {
  /** Steps that went without their last pictures. */
  overdue = 0;
  readonly #o: StepCutterOptions;
  #next = 0;
  #soundThereMs: number | null = null;

  constructor(options: StepCutterOptions) {
    this.#o = options;
  }

  next(nowMs: number): StepSound | null {
    const { renderer, unitSamples, hopUnits } = this.#o;
    const units = hopUnits - ((this.#next / unitSamples) % hopUnits);
    const end = this.#next + units * unitSamples;
    if (end > renderer.pushedSamples) return null;
    this.#soundThereMs ??= this.#o.soundThereMs?.(end) ?? nowMs;
    const waits = this.#o.hasPictures() && this.#o.decidedUnit() < end / unitSamples - 1;
    if (waits && nowMs - this.#soundThereMs < this.#o.overdueMs) return null;
    if (waits) this.overdue += 1;
    this.#soundThereMs = null;
    const step = renderer.nextStep(hopUnits);
    if (step !== null) this.#next = step.atSample + step.units * unitSamples;
    return step;
  }
}
