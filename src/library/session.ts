import { HOP_UNITS, lookAheadOf } from "../channel/latency.js";
import { StepCutter } from "../channel/step-cutter.js";
import { type StepOutcome, StepRunner } from "../channel/step-runner.js";
import { FaceFollower } from "../model/faces/follower.js";
import type { Inference } from "../model/inference.js";
import { type Controls, checkControls, DEFAULT_CONTROLS } from "../pipeline/controls.js";
import { type AttributionPolicy, modeOf } from "../pipeline/face-policy.js";
import { GainRenderer } from "../pipeline/gain-renderer.js";
import { type SoundAt48k, SoundConverter } from "../pipeline/sound-at-48k.js";
import { rateFault } from "../pipeline/stream-resampler.js";
import { AudioTimeline } from "../pipeline/timeline.js";
import { type AudioBlock, SAMPLE_RATE } from "../pipeline/types.js";
import { LibraryError } from "./errors.js";
import { alignedI420 } from "./i420.js";
import type { MediaIn, MediaOut, PictureIn, SoundIn } from "./media.js";

export type SessionOptions = {
  /** An open model with a face detector (`openModel`); stays open, and may serve several sessions. */
  readonly model: Inference;
  /** Which voice is kept, how strongly, how far. */
  readonly controls?: Partial<Controls>;
  /** Which faces count, and what happens when nobody is visible or the visible are silent. */
  readonly policy?: Partial<AttributionPolicy>;
  /** Model units (40 ms for the shipped model) a step, 1 to 25. Default 3, as a `balanced` channel. */
  readonly hopUnits?: number;
  /**
   * Whose voice is whose is decided when so many more units were seen and heard: better, and as much later (30, 1.2 s, as a `quality` channel).
   * At most 125, and only of a model that gives its voices one by one. Default 3, as a `balanced` channel, where the model does.
   */
  readonly lookAheadUnits?: number;
  /** Whether what is taken away is wanted too (it costs little). Default false. */
  readonly removed?: boolean;
  /** A step whose pictures have not come waits for them until so much more sound is there. Default 1000 ms, at most 5000. */
  readonly pictureWaitMs?: number;
};

/** Pictures from before the first sound that are kept for it. */
const MAX_EARLY_PICTURES = 64;
/** Beside the look-ahead; sound that waits longer leaves as it is. The steps of the longest block (10 s) are due when the next one is there, so two fit. */
const MAX_WAITING_SAMPLES = 22 * SAMPLE_RATE;
const RING_SAMPLES = 23 * SAMPLE_RATE;
const MAX_CHANNELS = 8;
/** 5 s: the sound waits meanwhile. */
const MAX_LOOK_AHEAD_UNITS = 125;

let sessions = 0;

/**
 * Sound and pictures in, separated sound, gains and highlights out: timeline, faces, steps and stitching of the channels, driven by the
 * media's own times and nothing else. The same input gives the same output, however fast or slow it comes. One call at a time.
 */
export class SeparationSession {
  readonly #o: Required<Pick<SessionOptions, "hopUnits" | "lookAheadUnits" | "removed" | "pictureWaitMs">> &
    SessionOptions;
  readonly #name = `library-${process.pid}-${++sessions}`;
  readonly #timeline = new AudioTimeline();
  readonly #follower: FaceFollower;
  readonly #early: PictureIn[] = [];
  readonly #failures = new Set<string>();
  /** Samples pushed when each piece was there, oldest first; those of steps that are gone are left out. */
  readonly #arrivals: number[] = [];
  readonly #converter = new SoundConverter();
  #core: { readonly renderer: GainRenderer; readonly runner: StepRunner; readonly cutter: StepCutter } | null = null;
  #sawPicture = false;
  #closed = false;
  readonly #counts = { sounds: 0, steps: 0, steps_failed: 0, sound_forced_out: 0, early_pictures_dropped: 0 };

  constructor(options: SessionOptions) {
    const { hopUnits = HOP_UNITS.stream.balanced, removed = false, pictureWaitMs = 1000 } = options;
    const { lookAheadUnits = lookAheadOf("balanced", options.model.card) } = options;
    if (!Number.isInteger(hopUnits) || hopUnits < 1 || hopUnits > 25)
      throw new RangeError(`hopUnits must be a whole number from 1 to 25, not ${hopUnits}`);
    if (!Number.isInteger(lookAheadUnits) || lookAheadUnits < 0 || lookAheadUnits > MAX_LOOK_AHEAD_UNITS)
      throw new RangeError(
        `lookAheadUnits must be a whole number from 0 to ${MAX_LOOK_AHEAD_UNITS}, not ${lookAheadUnits}`,
      );
    if (lookAheadUnits > 0 && options.model.card.voices === undefined)
      throw new RangeError(`lookAheadUnits: model ${options.model.card.name} does not give its voices one by one`);
    if (!(pictureWaitMs >= 0 && pictureWaitMs <= 5000))
      throw new RangeError(`pictureWaitMs must be a number from 0 to 5000, not ${pictureWaitMs}`);
    this.#o = { ...options, hopUnits, lookAheadUnits, removed, pictureWaitMs };
    const { card } = options.model;
    this.#follower = new FaceFollower({
      inference: options.model,
      side: card.picture.side,
      unitSamples: card.unitSamples,
    });
  }

  get counters(): Readonly<Record<string, number>> {
    const overdue = this.#core?.cutter.overdue ?? 0;
    return { ...this.#counts, ...this.#follower.counters, steps_pictures_overdue: overdue };
  }

  /** From the next block on, ramped. Throws RangeError on values out of range. */
  setControls(patch: Partial<Controls>): void {
    if (this.#core === null) {
      checkControls({ ...DEFAULT_CONTROLS, ...this.#o.controls, ...patch });
      Object.assign(this.#o, { controls: { ...this.#o.controls, ...patch } });
    } else this.#core.renderer.setControls(patch);
  }

  /**
   * What can be told after this piece. Pieces come in order of time, sound and pictures interleaved (`interleave`).
   * @throws LibraryError SL_MEDIA_INVALID; RangeError from the timeline for blocks that are too long
   */
  async take(piece: MediaIn): Promise<MediaOut[]> {
    if (this.#closed) throw new LibraryError("the session has ended; make a new one");
    const out: MediaOut[] = [];
    if (piece.kind === "sound") await this.#sound(piece, out);
    else if (piece.kind === "picture") await this.#picture(piece);
    else throw new LibraryError(`kind ${JSON.stringify((piece as { kind: unknown }).kind)}; allowed: sound, picture`);
    await this.#steps(out);
    return out;
  }

  /** No more comes: the rest, up to the last sample that went in. Ends the session. */
  async finish(): Promise<MediaOut[]> {
    const out: MediaOut[] = [];
    if (this.#core !== null && !this.#closed) {
      const { renderer } = this.#core;
      const rest = this.#converter.finish();
      if (rest !== null) this.#push(rest, out);
      renderer.finish();
      for (let step = this.#nextStep(true); step !== null; step = this.#nextStep(true)) await this.#run(step, out);
      this.#take(this.#core.runner.finish(), out);
      this.#render(renderer.pushedSamples, out);
    }
    this.close();
    return out;
  }

  /** Frees the model's states of this session. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#early.length = 0;
    this.#o.model.forget(this.#name);
  }

  async #sound(sound: SoundIn, out: MediaOut[]): Promise<void> {
    checkSound(sound);
    this.#counts.sounds += 1;
    this.#push(this.#converter.take(sound), out);
    for (const picture of this.#early.splice(0)) await this.#picture(picture);
  }

  #push(sound: SoundAt48k, out: MediaOut[]): void {
    const { blocks, events } = this.#timeline.push({ ptsNs: nanoseconds(sound.ptsMs), channels: sound.channels });
    for (const event of events) {
      if (event.type !== "discontinuity") continue;
      this.#follower.reset();
      this.#core?.runner.beginAnew(event.atSample);
    }
    for (const block of blocks.flatMap(inSeconds)) {
      this.#core ??= this.#begin(block.channels.length);
      const { renderer } = this.#core;
      const over =
        renderer.pushedSamples +
        block.channels[0]!.length -
        renderer.renderedSamples -
        MAX_WAITING_SAMPLES -
        this.#lookAheadSamples;
      if (over > 0) {
        const until = renderer.renderedSamples + over;
        this.#counts.sound_forced_out += over;
        this.#take(this.#core.runner.decideBefore(renderer.gainsFor(until)), out);
        this.#render(until, out);
      }
      renderer.pushAudio(block);
    }
    const pushed = this.#core?.renderer.pushedSamples ?? 0;
    if (pushed > (this.#arrivals.at(-1) ?? 0)) this.#arrivals.push(pushed);
  }

  async #picture(picture: PictureIn): Promise<void> {
    if (!Number.isFinite(picture.ptsMs)) throw new LibraryError(`a picture at ${picture.ptsMs} ms`);
    const aligned = alignedI420(picture.data, picture.width, picture.height, picture.rotation);
    const atSample = this.#timeline.toSample(nanoseconds(picture.ptsMs));
    if (atSample === null) {
      this.#early.push({ ...picture, ...aligned, rotation: 0 });
      if (this.#early.length > MAX_EARLY_PICTURES) {
        this.#early.shift();
        this.#counts.early_pictures_dropped += 1;
      }
      return;
    }
    this.#sawPicture = true;
    this.#follower.push({ atSample, ...aligned, fullRange: picture.fullRange ?? false });
    // Detections are waited for, so that the same input gives the same output.
    await this.#follower.settle();
  }

  #begin(channels: number) {
    const { model, controls = {}, policy = {}, hopUnits, lookAheadUnits, pictureWaitMs } = this.#o;
    const { unitSamples } = model.card;
    const renderer = new GainRenderer({
      model: model.card,
      channels,
      controls,
      ringSamples: RING_SAMPLES + this.#lookAheadSamples,
    });
    const runner = new StepRunner({
      inference: model,
      session: this.#name,
      faces: this.#follower,
      renderer,
      policy,
      lookAheadUnits,
    });
    const cutter = new StepCutter({
      renderer,
      unitSamples,
      hopUnits,
      decidedUnit: () => this.#follower.decidedUnit,
      hasPictures: () => true,
      overdueMs: pictureWaitMs,
      soundThereMs: (endSample) => this.#thereMs(endSample),
    });
    return { renderer, runner, cutter };
  }

  /** When the piece came that a step's sound ends in: pictures beside a long piece come after it. */
  #thereMs(endSample: number): number {
    while ((this.#arrivals[0] ?? endSample) < endSample) this.#arrivals.shift();
    return (1000 * (this.#arrivals[0] ?? endSample)) / SAMPLE_RATE;
  }

  /** The cutter's clock is the sound that has come. */
  #nextStep(last: boolean): ReturnType<StepCutter["next"]> {
    const { renderer, cutter } = this.#core!;
    return last ? renderer.nextStep(this.#o.hopUnits) : cutter.next((1000 * renderer.pushedSamples) / SAMPLE_RATE);
  }

  async #steps(out: MediaOut[]): Promise<void> {
    if (this.#core === null) return;
    for (let step = this.#nextStep(false); step !== null; step = this.#nextStep(false)) await this.#run(step, out);
  }

  async #run(step: NonNullable<ReturnType<StepCutter["next"]>>, out: MediaOut[]): Promise<void> {
    const outcomes = await this.#core!.runner.run(step);
    this.#counts.steps += 1;
    this.#take(outcomes, out);
  }

  get #lookAheadSamples(): number {
    return this.#o.lookAheadUnits * this.#o.model.card.unitSamples;
  }

  #take(outcomes: Iterable<StepOutcome>, out: MediaOut[]): void {
    const { renderer } = this.#core!;
    for (const outcome of outcomes) {
      const { failure, layout, decision } = outcome;
      if (failure !== null) {
        this.#counts.steps_failed += 1;
        this.#failures.add(failure);
        renderer.bypassFrom(layout.atSample - layout.hopSamples, failure);
      } else {
        for (const code of this.#failures) renderer.separateFrom(layout.atSample, code);
        this.#failures.clear();
      }
      if (decision?.gains != null)
        out.push({ kind: "gains", ptsMs: this.#ptsMs(decision.gains.atSample), gains: decision.gains });
      out.push(this.#highlight(outcome));
      // A failed step gives no gains to wait for: its sound leaves as it is.
      const untouchedUntil = layout.atSample + (layout.frames - 1) * layout.hopSamples;
      this.#render(failure === null ? renderer.gainsUntil : untouchedUntil, out);
    }
  }

  #highlight({ decision, failure, faces, facesSample: atSample }: StepOutcome): MediaOut {
    const reason = failure ?? this.#reason(decision?.reason ?? null);
    return { kind: "highlight", ptsMs: this.#ptsMs(atSample), atSample, mode: modeOf(decision), reason, faces };
  }

  /** "Frozen" means something else to somebody who has sent no picture at all. */
  #reason(reason: string | null): string | null {
    return reason === "SL_PICTURE_FROZEN" && !this.#sawPicture ? "SL_NO_VIDEO" : reason;
  }

  #render(until: number, out: MediaOut[]): void {
    const { renderer } = this.#core!;
    const rendered = renderer.render(until, { removed: this.#o.removed });
    if (rendered === null) return;
    const { atSample, channels } = rendered.kept;
    const { mode, reason } = renderer.mode;
    out.push({
      kind: "sound",
      ptsMs: this.#ptsMs(atSample),
      atSample,
      kept: channels,
      removed: rendered.removed?.channels ?? null,
      mode,
      reason: this.#reason(reason),
    });
  }

  #ptsMs(sample: number): number {
    return Number(this.#timeline.toPtsNs(sample)) / 1e6;
  }
}

/** In pieces of at most a second: the ring that sound waits in holds less than the longest block that is allowed. */
function inSeconds({ atSample, channels }: AudioBlock): AudioBlock[] {
  const pieces = Math.ceil((channels[0]?.length ?? 0) / SAMPLE_RATE);
  return Array.from({ length: pieces }, (_, i) => ({
    atSample: atSample + i * SAMPLE_RATE,
    channels: channels.map((c) => c.subarray(i * SAMPLE_RATE, (i + 1) * SAMPLE_RATE)),
  }));
}

const nanoseconds = (ms: number): bigint => BigInt(Math.round(ms * 1e6));

/** @throws LibraryError */
function checkSound({ ptsMs, channels, sampleRate = SAMPLE_RATE }: SoundIn): void {
  const no = (what: string): LibraryError => new LibraryError(`sound at ${ptsMs} ms: ${what}`);
  if (!Number.isFinite(ptsMs)) throw no("ptsMs must be a number of milliseconds");
  if (!Array.isArray(channels) || channels.length < 1 || channels.length > MAX_CHANNELS)
    throw no(`channels must be an array of 1 to ${MAX_CHANNELS} Float32Arrays`);
  for (const channel of channels as readonly unknown[])
    if (!(channel instanceof Float32Array) || channel.length !== channels[0]!.length)
      throw no("channels must be Float32Arrays of equal length (planar, -1..1)");
  const fault = rateFault(sampleRate);
  if (fault !== null) throw no(fault);
}
