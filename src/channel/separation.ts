import {
  filter,
  ignoreElements,
  map,
  merge,
  mergeMap,
  type Observable,
  type OperatorFunction,
  Subject,
  tap,
} from "rxjs";
import type { ChannelConfig } from "../config/schema.js";
import type { AnyInference } from "../model/inference.js";
import { checkControls, DEFAULT_CONTROLS } from "../pipeline/controls.js";
import { BANK_HOP } from "../pipeline/filter-bank.js";
import { GainRenderer, type Levels, type Rendered, type StepSound } from "../pipeline/gain-renderer.js";
import type { ModeState } from "../pipeline/gain-timeline.js";
import { AudioTimeline } from "../pipeline/timeline.js";
import { type Face, SAMPLE_RATE } from "../pipeline/types.js";
import type { ChannelPatch } from "../transport/ipc/messages.js";
import type { DecodedPicture, DecodedSound } from "./decode.js";
import type { LatencyPlan, ModelGeometry } from "./latency.js";
import type { Log } from "./log.js";
import type { MediaClock } from "./media-clock.js";
import { type ModelStage, modelStage, type Runner } from "./model-stage.js";
import { type JoinCounter, latestJoined } from "./operators.js";
import { SlowModel } from "./slow-model.js";
import type { StageTimes } from "./stats.js";
import { StepCutter } from "./step-cutter.js";
import type { StepOutcome } from "./step-runner.js";
import { joinSteps } from "./steps.js";

/** The live model's geometry, for a channel without a model: the same latency, so that a repaired model (of that kind) changes nothing else. */
export const NO_MODEL: ModelGeometry = {
  kind: "stream",
  unitSamples: 1920,
  guardSamples: 4800,
  lookBackSamples: 99_840,
  voices: true,
};

export type SeparationOptions = {
  readonly name: string;
  readonly config: ChannelConfig;
  readonly geometry: ModelGeometry;
  readonly plan: LatencyPlan;
  readonly clock: MediaClock;
  /** Null: the model cannot be used, for the reason `noModel`; the sound passes untouched. */
  readonly inference: AnyInference | null;
  readonly noModel: string;
  readonly stages: StageTimes;
  readonly log: Log;
  /** Whether what was taken away is wanted too (it costs a second synthesis). */
  readonly needsRemoved: () => boolean;
  /** Cleaned sound, in contiguous blocks; `removed` where `needsRemoved` said so. */
  readonly onRendered: (sound: Rendered) => void;
};

/** What exists once the first sound has come. */
type Core = {
  readonly renderer: GainRenderer;
  readonly cutter: StepCutter | null;
  readonly runner: Runner | null;
};

/** Sound is never held back for longer than this, whatever the timestamps say (the renderer's ring is 8 s). */
const MAX_WAITING_SAMPLES = 7 * SAMPLE_RATE;
/** Decoded sound that is so old says that this process does not get the time it needs: pictures wait. */
const SOUND_BEHIND_MS = 250;
/** Rendering goes in pieces of the filter bank's hop. */
const RENDER_STEP = BANK_HOP;
const SLOW =
  "the model needs longer than the profile has for it: a longer profile, more inferenceThreads or a smaller model";
/** Pictures are waited for so long at the most, after the sound of a step is there. */
const OVERDUE_MS = 80;

/**
 * From decoded sound and pictures to cleaned sound: timeline, faces, model steps, gains. It has no timer: whoever owns it asks again
 * and again for the steps that are due and for the sound that must leave. Failures of the model become a bypass with their code.
 */
export class Separation {
  readonly #o: SeparationOptions;
  readonly #timeline = new AudioTimeline();
  readonly #model: ModelStage | null;
  #core: Core | null = null;
  /** What an operator may change while it runs. */
  #settings: Required<ChannelPatch>;
  readonly #decided = new Subject<StepOutcome>();
  readonly #failures = new Set<string>();
  readonly #slow: SlowModel;
  #newest: StepOutcome | null = null;
  #inferenceUp = false;
  #soundAgeMs = 0;
  readonly #counts = {
    steps_in_time: 0,
    steps_late: 0,
    steps_hurried: 0,
    steps_failed: 0,
    step_resets: 0,
    steps_recalled: 0,
    faces_recognised: 0,
    sound_forced_out: 0,
    pictures_far_ahead: 0,
  };

  constructor(options: SeparationOptions) {
    this.#o = options;
    const { inference, config } = options;
    const { bypass, keep, strengthPercent, attenuationLimitDb } = config;
    this.#settings = { bypass, keep, strengthPercent, attenuationLimitDb };
    this.#slow = new SlowModel(options.plan.inferenceMs);
    const session = `${options.name}-${process.pid}`;
    this.#model = inference === null ? null : modelStage(inference, session, config, options.plan.lookAheadUnits);
  }

  close(): void {
    this.#model?.close();
  }

  get settings(): Readonly<Required<ChannelPatch>> {
    return this.#settings;
  }

  /** How the sound leaves now; null before the first sound. */
  get mode(): ModeState | null {
    return this.#core?.renderer.mode ?? null;
  }

  /** Null before the first sound. */
  get levels(): Levels | null {
    return this.#core?.renderer.levels ?? null;
  }

  /** Those of the newest step that was decided about, and the media time of their picture; null before the first one. */
  get faces(): { readonly faces: readonly Face[]; readonly ptsMs: number } | null {
    const newest = this.#newest;
    return newest === null ? null : { faces: newest.faces, ptsMs: this.ptsMs(newest.facesSample) };
  }

  get driftPpm(): number {
    return this.#timeline.driftPpm;
  }

  get counters(): Readonly<Record<string, number>> {
    return {
      ...this.#counts,
      ...this.#model?.pictures.counters,
      ...snake("timeline", this.#timeline.counters),
      ...snake("gains", this.#core?.renderer.counters ?? {}),
      steps_pictures_overdue: this.#core?.cutter?.overdue ?? 0,
    };
  }

  /** Media time of a sample. Throws RangeError before the first sound. */
  ptsMs(sample: number): number {
    return Number(this.#timeline.toPtsNs(sample)) / 1e6;
  }

  // ---- in ----------------------------------------------------------------------------------------------------------------

  /** False: pictures are of no use here. */
  get wantsPictures(): boolean {
    return this.#model !== null;
  }

  /** Pictures nearer than this to the one before are of no use. */
  get leastPictureStepMs(): number | undefined {
    return this.#model?.leastStepMs;
  }

  /** Sound first: a picture costs this thread milliseconds, and each turn of the event loop takes over one piece of sound only. */
  get hasTimeForPictures(): boolean {
    return this.#soundAgeMs < SOUND_BEHIND_MS || !this.#o.clock.has("sound", performance.now());
  }

  takeSound({ ptsMs, channels }: DecodedSound): void {
    const { clock, stages, log } = this.#o;
    this.#soundAgeMs = clock.ageMs(ptsMs, performance.now());
    stages.add("sound_decode", this.#soundAgeMs);
    const { blocks, events } = this.#timeline.push({ ptsNs: nanoseconds(ptsMs), channels });
    for (const event of events) {
      // Pictures that were placed by the old anchor may lie seconds ahead; those to come would count as late.
      if (event.type === "discontinuity") {
        this.#model?.pictures.reset();
        this.#core?.runner?.beginAnew(event.atSample);
      }
      if (event.type !== "anchor" && event.type !== "drift")
        log("debug", "timeline", { ...event, fromPtsNs: undefined, toPtsNs: undefined, ptsNs: undefined });
    }
    for (const block of blocks) {
      this.#core ??= this.#begin(block.channels.length);
      const { renderer } = this.#core;
      const length = block.channels[0]?.length ?? 0;
      const over = renderer.pushedSamples + length - renderer.renderedSamples - MAX_WAITING_SAMPLES;
      if (over > 0) this.#forceOut(renderer, over);
      renderer.pushAudio(block);
    }
  }

  takePicture({ ptsMs, ...picture }: DecodedPicture): void {
    const { clock, stages } = this.#o;
    const nowMs = performance.now();
    stages.add("picture_decode", clock.ageMs(ptsMs, nowMs));
    const atSample = this.#timeline.toSample(nanoseconds(ptsMs));
    if (atSample === null) return;
    // One wrong timestamp would make all pictures after it count as late, for as long as it lies ahead.
    if (atSample - this.#timeline.nextSample > MAX_WAITING_SAMPLES) {
      this.#counts.pictures_far_ahead += 1;
      return;
    }
    this.#model?.pictures.push({ ...picture, atSample });
    stages.add("faces", performance.now() - nowMs);
  }

  /** A burst, or timestamps that promise to be due much later: the oldest sound goes now. */
  #forceOut(renderer: GainRenderer, samples: number): void {
    const { needsRemoved, onRendered } = this.#o;
    const until = renderer.renderedSamples + samples;
    this.#decideFor(renderer, until);
    const out = renderer.render(until, { removed: needsRemoved() });
    this.#counts.sound_forced_out += out?.kept.channels[0]?.length ?? 0;
    if (out !== null) onRendered(out);
  }

  #begin(channels: number): Core {
    const { noModel, geometry, plan, clock } = this.#o;
    const { bypass, ...controls } = this.#settings;
    const renderer = new GainRenderer({ model: geometry, channels, controls });
    if (bypass) renderer.bypassFrom(0, "SL_BYPASS_OPERATOR");
    for (const code of this.#failures) renderer.bypassFrom(0, code);
    const model = this.#model;
    if (model === null) {
      renderer.bypassFrom(0, noModel);
      return { renderer, cutter: null, runner: null };
    }
    const cutter = new StepCutter({
      renderer,
      unitSamples: geometry.unitSamples,
      hopUnits: plan.hopUnits,
      decidedUnit: () => model.pictures.decidedUnit,
      hasPictures: () => clock.has("video", performance.now()),
      overdueMs: Math.min(OVERDUE_MS, plan.captureDecodeMs),
    });
    return { renderer, cutter, runner: model.runner(renderer) };
  }

  // ---- steps -------------------------------------------------------------------------------------------------------------

  dueSteps(): readonly StepSound[] {
    const steps: StepSound[] = [];
    const cutter = this.#core?.cutter;
    const next = (): StepSound | null => cutter?.next(performance.now()) ?? null;
    for (let step = next(); step !== null; step = next()) steps.push(step);
    return steps;
  }

  /** Null: the two cannot be one step (a hole between them, or longer than a look-back). */
  joined(waiting: StepSound, next: StepSound): StepSound | null {
    const { unitSamples, lookBackSamples } = this.#o.geometry;
    const maxUnits = Math.max(this.#o.plan.hopUnits, Math.floor(lookBackSamples / unitSamples));
    return joinSteps(waiting, next, unitSamples, maxUnits);
  }

  /** What was decided, in order: by steps that were run, or because their sound must leave. */
  get decided$(): Observable<StepOutcome> {
    return this.#decided;
  }

  async runStep(step: StepSound): Promise<void> {
    const begun = performance.now();
    const outcomes = await this.#core!.runner!.run(step);
    this.#o.stages.add("step", performance.now() - begun);
    for (const outcome of outcomes) this.#take(outcome);
  }

  #take(outcome: StepOutcome): void {
    const { stages, log } = this.#o;
    const { renderer } = this.#core!;
    stages.add("engine", outcome.engineMs);
    const slow = outcome.failure === null ? this.#slow.take(outcome.engineMs, performance.now()) : null;
    if (slow !== null) log("warn", SLOW, { code: "SL_MODEL_LATE", ...slow });
    this.#counts.step_resets += outcome.resets;
    if (outcome.recalled) this.#counts.steps_recalled += 1;
    this.#counts.faces_recognised += outcome.recognised;
    this.#newest = outcome;
    const { fromSample } = outcome;
    if (outcome.failure !== null) {
      this.#counts.steps_failed += 1;
      // Of before the connection came back: the connection itself says nothing more.
      const isOld = outcome.failure === "SL_INFERENCE_DOWN" && this.#inferenceUp;
      this.#fail(isOld ? "SL_INFERENCE_LATE" : outcome.failure, fromSample);
    } else {
      for (const code of [...this.#failures]) if (code !== "SL_INFERENCE_DOWN") this.#recover(code, fromSample);
      // The gains of the very first step begin before the sound does.
      if (renderer.renderedSamples > Math.max(0, fromSample)) this.#counts.steps_late += 1;
      else this.#counts.steps_in_time += 1;
      if (outcome.hurried) this.#counts.steps_hurried += 1;
    }
    this.#decided.next(outcome);
  }

  /** The connection to the inference process came up or broke. */
  inferenceConnected(up: boolean): void {
    this.#inferenceUp = up;
    if (up) this.#recover("SL_INFERENCE_DOWN", 0);
    else this.#fail("SL_INFERENCE_DOWN", 0);
  }

  #fail(code: string, atSample: number): void {
    // A lost connection is told by the connection, which also tells its return.
    if (code === "SL_INFERENCE_DOWN" && atSample > 0) return;
    this.#failures.add(code);
    this.#core?.renderer.bypassFrom(atSample, code);
  }

  #recover(code: string, atSample: number): void {
    if (this.#failures.delete(code)) this.#core?.renderer.separateFrom(atSample, code);
  }

  // ---- out ---------------------------------------------------------------------------------------------------------------

  /** Renders what must be in the encoder by now. */
  renderDue(): void {
    const { clock, plan, stages, needsRemoved, onRendered } = this.#o;
    const renderer = this.#core?.renderer;
    if (renderer === undefined) return;
    const nowMs = performance.now();
    const isDue = (sample: number): boolean => clock.releaseAtMs(this.ptsMs(sample)) - plan.encodeMs <= nowMs;
    let until = renderer.renderedSamples;
    // Of a hop the first sample is the one that must leave: it wants its gains to be known as far as the declared latency says.
    while (until + RENDER_STEP <= renderer.soundUntil && isDue(until)) until += RENDER_STEP;
    if (until > renderer.renderedSamples) this.#decideFor(renderer, until);
    const out = renderer.render(until, { removed: needsRemoved() });
    if (out === null) return;
    stages.add("render", performance.now() - nowMs);
    onRendered(out);
  }

  /** What waits for its look-ahead and is needed now is decided with what is known. */
  #decideFor(renderer: GainRenderer, until: number): void {
    const runner = this.#core?.runner ?? null;
    if (runner !== null) for (const outcome of runner.decideBefore(renderer.gainsFor(until))) this.#take(outcome);
  }

  /** Changes of a running channel; ramped by the renderer, never stepped. Throws RangeError on values out of range, and changes nothing. */
  set(patch: ChannelPatch): void {
    checkControls({ ...DEFAULT_CONTROLS, ...this.#settings, ...patch });
    this.#settings = { ...this.#settings, ...patch };
    const renderer = this.#core?.renderer;
    if (renderer === undefined) return;
    const { bypass, ...controls } = this.#settings;
    renderer.setControls(controls);
    if (bypass) renderer.bypassFrom(renderer.renderedSamples, "SL_BYPASS_OPERATOR");
    else renderer.separateFrom(renderer.renderedSamples, "SL_BYPASS_OPERATOR");
  }
}

/** At every change (sound, picture, tick): what must leave is rendered, and the steps that are due are run, one at a time. Gives what was decided. */
export function stepsOf(separation: Separation, counter: JoinCounter): OperatorFunction<unknown, StepOutcome> {
  return (changes$) => {
    const run$ = changes$.pipe(
      tap(() => separation.renderDue()),
      map(() => separation.dueSteps()),
      // Hardly any tick has one.
      filter((steps) => steps.length > 0),
      mergeMap((steps) => steps),
      latestJoined(
        counter,
        (waiting, next) => separation.joined(waiting, next),
        (step) => separation.runStep(step),
      ),
      ignoreElements(),
    );
    return merge(separation.decided$, run$);
  };
}

const nanoseconds = (ms: number): bigint => BigInt(Math.round(ms * 1e6));

function snake(prefix: string, counters: Readonly<Record<string, number>>): Record<string, number> {
  const name = (key: string): string => `${prefix}_${key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)}`;
  return Object.fromEntries(Object.entries(counters).map(([key, value]) => [name(key), value]));
}
