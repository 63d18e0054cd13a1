import {
  catchError,
  ignoreElements,
  interval,
  map,
  merge,
  mergeMap,
  type Observable,
  Subject,
  type Subscription,
  tap,
  throttleTime,
} from "rxjs";
import type { ChannelConfig } from "../config/schema.js";
import type { ModelCard } from "../model/card.js";
import { FaceFollower } from "../model/faces/follower.js";
import type { Inference } from "../model/inference.js";
import { pace } from "../pipeline/operators/pace.js";
import { seamCounter } from "../pipeline/operators/seam.js";
import { Separator, type StepSound } from "../pipeline/separator.js";
import { AudioTimeline } from "../pipeline/timeline.js";
import type { AudioBlock } from "../pipeline/types.js";
import type { ChannelPatch, ChannelStatus, SourceState } from "../transport/ipc/messages.js";
import { type DecodedPicture, type DecodedSound, PictureDecoder, SoundDecoder } from "./decode.js";
import { AacEncoder, type AacFrame } from "./encode.js";
import { pictureSize, type SoundInfo, soundInfo } from "./format-info.js";
import type { GatewayLink } from "./gateway-link.js";
import { type LatencyPlan, latencyPlan } from "./latency.js";
import { MediaClock } from "./media-clock.js";
import { type JoinCounter, latestJoined, monotonic, through } from "./operators.js";
import { GatewayOutput } from "./output/gateway-output.js";
import { openOutput } from "./output/open.js";
import { type Output, type OutputEvents, withoutSecrets, writeToAll } from "./output/output.js";
import { PublishSource } from "./source/publish.js";
import { PullSource } from "./source/pull.js";
import type { Source, SourceEvents } from "./source/source.js";
import { Rolling, StageTimes } from "./stats.js";
import { StepCutter } from "./step-cutter.js";
import { joinSteps, type StepOutcome, StepRunner } from "./step-runner.js";
import { type OutputUnit, releaseKeyMs, type SourceUnit, type VideoUnit } from "./units.js";
import { type StemFrame, ViewerSound } from "./viewer-sound.js";

export type Log = (
  level: "debug" | "info" | "warn" | "error",
  message: string,
  fields?: Record<string, unknown>,
) => void;

export type ChannelOptions = {
  readonly name: string;
  readonly config: ChannelConfig;
  readonly gateway: GatewayLink;
  /** Null: the model cannot be used (`noModel` says why); the programme passes with its sound untouched. */
  readonly inference: Inference | null;
  readonly noModel?: string;
  readonly log: Log;
  /** Called when the source, the mode or the reason is another than before (up to 5 ms later). */
  readonly onChange?: () => void;
};

/** How often the delay line, the steps and the rendering look at the clock. */
const TICK_MS = 5;
/** Places in the delay line, each kind: over 8 s of 60 pictures a second. */
const DELAY_PLACES = 512;
const NOTES_EVERY_MS = 100;
/** Sound is never held back for longer than this, whatever the timestamps say (the separator's ring is 8 s). */
const MAX_WAITING_SAMPLES = 7 * 48_000;
/** Decoded sound that is so old says that this process does not get the time it needs: pictures wait. */
const SOUND_BEHIND_MS = 250;
/** Rendering goes in pieces of the filter bank's hop. */
const RENDER_STEP = 256;
/** The live model's geometry, for a channel without a model: the same latency, so that a repaired model changes nothing else. */
const NO_CARD = { unitSamples: 1920, guardSamples: 4800, lookBackSamples: 99_840 };

type Geometry = Pick<ModelCard, "unitSamples" | "guardSamples" | "lookBackSamples">;
/** A unit on its way out and when it came in (null: made here). */
type Leaving = { readonly unit: OutputUnit; readonly arrivedMs: number | null };
type DueSound = { readonly frame: StemFrame; readonly ptsMs: number };
type DueNote = { readonly outcome: StepOutcome; readonly ptsMs: number };
/** What exists once the first sound has come. */
type Core = { readonly separator: Separator; readonly cutter: StepCutter | null; readonly runner: StepRunner | null };

/**
 * One programme from source to outputs:
 * source -> timeline -> steps -> inference -> gains -> delay line -> outputs.
 *
 * Pictures never leave this process decoded: their access units wait in the delay line. Sound is decoded, put on the timeline, and
 * rendered when the declared latency says so, with the gains that are there by then. Whatever fails becomes a state and a code.
 */
export class Channel {
  readonly plan: LatencyPlan;
  readonly #o: ChannelOptions;
  readonly #geometry: Geometry;
  readonly #source: Source;
  readonly #clock: MediaClock;
  readonly #timeline = new AudioTimeline();
  readonly #follower: FaceFollower | null;
  readonly #soundDecoder: SoundDecoder;
  readonly #pictureDecoder: PictureDecoder;
  readonly #encoder: AacEncoder;
  readonly #viewerSound: ViewerSound;
  readonly #outputs: readonly Output[];

  readonly #video$ = new Subject<Leaving & { unit: VideoUnit }>();
  readonly #decodedSound$ = new Subject<DecodedSound>();
  readonly #decodedPicture$ = new Subject<DecodedPicture>();
  readonly #rendered$ = new Subject<AudioBlock>();
  readonly #aac$ = new Subject<AacFrame>();
  readonly #opus$ = new Subject<StemFrame>();
  #running: Subscription | null = null;

  #core: Core | null = null;
  #state: { source: SourceState; code: string | null } = { source: "connecting", code: null };
  /** Source, mode and reason of which `onChange` has told. */
  #told = "";
  /** What an operator may change while it runs. */
  #set: Required<ChannelPatch>;
  #soundFormat: { format: object; info: SoundInfo } | null = null;
  #videoFormat: { config: Buffer; width: number; height: number } | null = null;
  #newest: StepOutcome | null = null;
  readonly #failures = new Set<string>();
  readonly #faultyOutputs = new Set<Output>();
  readonly #stages = new StageTimes();
  readonly #latency = new Rolling(64);
  #lastPtsMs: number[] = [];
  readonly #seams = {
    video: seamCounter(),
    aac: seamCounter(),
    opus: seamCounter(),
    notes: seamCounter(),
    steps: { ...seamCounter(), joined: 0 } satisfies JoinCounter,
  };
  #lostSeen = 0;
  #soundAgeMs = 0;
  readonly #counts = {
    video_units_in: 0,
    video_units_out: 0,
    sound_units_in: 0,
    sound_frames_out: 0,
    notes_out: 0,
    steps_in_time: 0,
    steps_late: 0,
    steps_failed: 0,
    step_resets: 0,
    sound_forced_out: 0,
    faults: 0,
  };

  /** @throws GstError when GStreamer lacks a decoder or encoder that every channel needs */
  constructor(options: ChannelOptions) {
    this.#o = options;
    const { config, gateway, inference } = options;
    this.#geometry = inference?.card ?? NO_CARD;
    this.plan = latencyPlan(config.profile, this.#geometry);
    const { bypass, keep, strengthPercent, attenuationLimitDb } = config;
    this.#set = { bypass, keep, strengthPercent, attenuationLimitDb };

    const faulty = (what: string) => ({
      onFault: (fault: { element: string; message: string }) =>
        options.log("warn", `${what} failed and is started again`, { ...fault }),
    });
    this.#source = openSource(config.input, gateway, this.#sourceEvents());
    this.#clock = new MediaClock(this.#source.wraps32, this.plan.declaredMs);
    this.#soundDecoder = new SoundDecoder((sound) => this.#decodedSound$.next(sound), faulty("the sound decoder"));
    // Sound first: a picture costs this thread milliseconds, and each turn of the event loop takes over one piece of sound only.
    this.#pictureDecoder = new PictureDecoder(
      (picture) => this.#decodedPicture$.next(picture),
      faulty("the picture decoder"),
      () => this.#soundAgeMs < SOUND_BEHIND_MS || !this.#clock.has("sound", performance.now()),
    );
    this.#encoder = new AacEncoder((frame) => this.#aac$.next(frame), faulty("the sound encoder").onFault);
    this.#viewerSound = new ViewerSound((frame) => this.#opus$.next(frame), faulty("viewers' sound").onFault);
    gateway.onWanted((stems) => this.#viewerSound.want(stems));
    this.#follower =
      inference === null
        ? null
        : new FaceFollower({ inference, side: inference.card.picture.side, unitSamples: inference.card.unitSamples });
    const events = (uri: string): OutputEvents => ({
      onState: (status, detail) =>
        options.log(status.reason === null ? "info" : "warn", "output", {
          ...status,
          ...(detail === undefined ? {} : { detail: withoutSecrets(detail, uri) }),
        }),
    });
    this.#outputs = [new GatewayOutput(gateway), ...config.outputs.map((uri) => openOutput(uri, events(uri)))];
  }

  start(): void {
    this.#running = this.#programme().subscribe((leaving) => this.#leave(leaving));
    this.#source.start();
  }

  /** The sentence. */
  #programme(): Observable<Leaving> {
    const tick$ = interval(TICK_MS).pipe(tap(() => this.#tellChange()));
    const sound$ = this.#decodedSound$.pipe(tap((sound) => this.#ontoTimeline(sound)));
    const pictures$ = this.#decodedPicture$.pipe(tap((picture) => this.#follow(picture)));
    const changes$ = merge(sound$, pictures$, tick$).pipe(this.#guarded("sound and pictures"));

    const outcomes$ = changes$.pipe(
      tap(() => this.#renderDue()),
      mergeMap(() => this.#dueSteps()),
      latestJoined(this.#seams.steps, this.#joinSteps, (step) => this.#runStep(step)),
      this.#guarded("a model step"),
    );
    const notes$ = outcomes$.pipe(
      throttleTime(NOTES_EVERY_MS),
      map((outcome): DueNote => ({ outcome, ptsMs: this.#ptsMs(outcome.layout.atSample) })),
      pace({ ...this.#delay((note: DueNote) => note.ptsMs), counter: this.#seams.notes }),
      // The mode is that of the moment of leaving.
      map(({ outcome, ptsMs }) => this.#note(outcome, ptsMs)),
    );
    const aac$ = this.#rendered$.pipe(
      through((block) => this.#encoder.push(block), this.#aac$),
      map(
        ({ atSample, data, config }): Leaving => ({
          unit: { kind: "aac", ptsMs: this.#ptsMs(atSample), data, config },
          arrivedMs: null,
        }),
      ),
      pace({ ...this.#delay(leavingKeyMs), counter: this.#seams.aac }),
    );
    const video$ = this.#video$.pipe(pace({ ...this.#delay(leavingKeyMs), counter: this.#seams.video }));
    const opus$ = this.#opus$.pipe(
      map((frame): DueSound => ({ frame, ptsMs: this.#ptsMs(frame.atSample) })),
      pace({ ...this.#delay((due: DueSound) => due.ptsMs), counter: this.#seams.opus }),
      tap(({ frame, ptsMs }) => this.#o.gateway.sendOpus(frame.stem, ptsMs, frame.data)),
      ignoreElements(),
    );
    return merge(video$, aac$, notes$, opus$).pipe(this.#guarded("the outputs"));
  }

  #delay<T>(keyMs: (value: T) => number) {
    return {
      releaseAtMs: (value: T) => this.#clock.releaseAtMs(keyMs(value)),
      limit: DELAY_PLACES,
      policy: "drop-oldest" as const,
      scheduler: monotonic,
    };
  }

  /** A fault of ours in one stage is logged and counted; the stage goes on with what comes next. */
  #guarded<T>(stage: string) {
    return catchError<T, Observable<T>>((error: unknown, again) => {
      this.#counts.faults += 1;
      this.#o.log("error", `${stage}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      return again;
    });
  }

  // ---- in ----------------------------------------------------------------------------------------------------------------

  #sourceEvents(): SourceEvents {
    return {
      onUnit: (unit) => this.#take(unit),
      onRestart: () => this.#clock.restart(),
      onState: (source, code, detail) => {
        this.#state = { source, code };
        this.#o.log(code === null ? "info" : "warn", "source", {
          state: source,
          code,
          ...(detail === undefined ? {} : { detail: withoutSecrets(detail, this.#o.config.input) }),
        });
      },
    };
  }

  #take(raw: SourceUnit): void {
    const nowMs = performance.now();
    const unit = this.#clock.place(raw, nowMs);
    if (unit.kind === "sound") {
      this.#counts.sound_units_in += 1;
      if (this.#soundFormat?.format !== unit.format) this.#newSoundFormat(unit.format, soundInfo(unit.format));
      this.#soundDecoder.push(unit);
      return;
    }
    this.#counts.video_units_in += 1;
    if (this.#videoFormat?.config !== unit.config) {
      this.#videoFormat = { config: unit.config, ...(pictureSize(unit.config) ?? { width: 0, height: 0 }) };
    }
    this.#measureRate(unit.ptsMs);
    this.#video$.next({ unit, arrivedMs: nowMs });
    if (this.#follower !== null) this.#pictureDecoder.push(unit);
  }

  #newSoundFormat(format: object, info: SoundInfo): void {
    this.#soundFormat = { format, info };
    if (info.channels > 2)
      this.#o.log("warn", "the sound is mixed down to stereo", { code: "SL_SOUND_DOWNMIXED", channels: info.channels });
  }

  #ontoTimeline({ ptsMs, channels }: DecodedSound): void {
    this.#soundAgeMs = this.#clock.ageMs(ptsMs, performance.now());
    this.#stages.add("sound_decode", this.#soundAgeMs);
    const { blocks, events } = this.#timeline.push({ ptsNs: BigInt(Math.round(ptsMs * 1e6)), channels });
    for (const event of events) {
      // Pictures that were placed by the old anchor may lie seconds ahead; those to come would count as late.
      if (event.type === "discontinuity") this.#follower?.reset();
      if (event.type !== "anchor" && event.type !== "drift")
        this.#o.log("debug", "timeline", { ...event, fromPtsNs: undefined, toPtsNs: undefined, ptsNs: undefined });
    }
    for (const block of blocks) {
      this.#core ??= this.#begin(block.channels.length);
      const { separator } = this.#core;
      const length = block.channels[0]?.length ?? 0;
      const over = separator.pushedSamples + length - separator.renderedSamples - MAX_WAITING_SAMPLES;
      if (over > 0) this.#forceOut(separator, over);
      separator.pushAudio(block);
    }
  }

  /** A burst, or timestamps that promise to be due much later: the oldest sound goes now. */
  #forceOut(separator: Separator, samples: number): void {
    const out = separator.render(separator.renderedSamples + samples, { removed: this.#viewerSound.needsRemoved });
    this.#counts.sound_forced_out += out?.kept.channels[0]?.length ?? 0;
    if (out === null) return;
    this.#viewerSound.push(out);
    this.#rendered$.next(out.kept);
  }

  #begin(channels: number): Core {
    const { inference, config, name, noModel } = this.#o;
    const { keep, strengthPercent, attenuationLimitDb } = this.#set;
    const separator = new Separator({
      model: this.#geometry,
      channels,
      controls: { keep, strengthPercent, attenuationLimitDb },
    });
    if (this.#set.bypass) separator.bypassFrom(0, "SL_BYPASS_OPERATOR");
    for (const code of this.#failures) separator.bypassFrom(0, code);
    if (inference === null || this.#follower === null) {
      separator.bypassFrom(0, noModel ?? "SL_MODEL_INVALID");
      return { separator, cutter: null, runner: null };
    }
    const follower = this.#follower;
    const cutter = new StepCutter({
      separator,
      unitSamples: this.#geometry.unitSamples,
      hopUnits: this.plan.hopUnits,
      decidedUnit: () => follower.decidedUnit,
      hasPictures: () => this.#clock.has("video", performance.now()),
      overdueMs: Math.min(80, this.plan.captureDecodeMs),
    });
    const { region, whenNobodyVisible, whenVisibleSilent } = config;
    const policy = { region: region ?? null, whenNobodyVisible, whenVisibleSilent };
    return {
      separator,
      cutter,
      runner: new StepRunner({ inference, session: `${name}-${process.pid}`, faces: follower, separator, policy }),
    };
  }

  #follow({ ptsMs, ...picture }: DecodedPicture): void {
    const nowMs = performance.now();
    this.#stages.add("picture_decode", this.#clock.ageMs(ptsMs, nowMs));
    const atSample = this.#timeline.toSample(BigInt(Math.round(ptsMs * 1e6)));
    if (atSample === null) return;
    this.#follower?.push({ ...picture, atSample });
    this.#stages.add("faces", performance.now() - nowMs);
  }

  // ---- steps -------------------------------------------------------------------------------------------------------------

  *#dueSteps(): Iterable<StepSound> {
    const cutter = this.#core?.cutter;
    if (cutter == null) return;
    for (let step = cutter.next(performance.now()); step !== null; step = cutter.next(performance.now())) yield step;
  }

  readonly #joinSteps = (waiting: StepSound, next: StepSound): StepSound | null => {
    const { unitSamples, lookBackSamples } = this.#geometry;
    return joinSteps(
      waiting,
      next,
      unitSamples,
      Math.max(this.plan.hopUnits, Math.floor(lookBackSamples / unitSamples)),
    );
  };

  async #runStep(step: StepSound): Promise<StepOutcome> {
    const { runner, separator } = this.#core!;
    const begun = performance.now();
    const outcome = await runner!.run(step);
    this.#stages.add("step", performance.now() - begun);
    this.#stages.add("engine", outcome.engineMs);
    this.#counts.step_resets += outcome.resets;
    this.#newest = outcome;
    if (outcome.failure !== null) {
      this.#counts.steps_failed += 1;
      this.#fail(outcome.failure, outcome.layout.atSample);
    } else {
      for (const code of [...this.#failures])
        if (code !== "SL_INFERENCE_DOWN") this.#recover(code, outcome.layout.atSample);
      if (separator.renderedSamples > outcome.layout.atSample) this.#counts.steps_late += 1;
      else this.#counts.steps_in_time += 1;
    }
    return outcome;
  }

  /** The connection to the inference process came up or broke. */
  inferenceConnected(up: boolean): void {
    if (up) this.#recover("SL_INFERENCE_DOWN", 0);
    else this.#fail("SL_INFERENCE_DOWN", 0);
  }

  #fail(code: string, atSample: number): void {
    // A lost connection is told by the connection, which also tells its return.
    if (code === "SL_INFERENCE_DOWN" && atSample > 0) return;
    this.#failures.add(code);
    this.#core?.separator.bypassFrom(atSample, code);
  }

  #recover(code: string, atSample: number): void {
    if (this.#failures.delete(code)) this.#core?.separator.separateFrom(atSample, code);
  }

  // ---- out ---------------------------------------------------------------------------------------------------------------

  /** Renders what must be in the encoder by now. */
  #renderDue(): void {
    const separator = this.#core?.separator;
    if (separator === undefined) return;
    const nowMs = performance.now();
    const isDue = (sample: number): boolean =>
      this.#clock.releaseAtMs(this.#ptsMs(sample)) - this.plan.encodeMs <= nowMs;
    let until = separator.renderedSamples;
    while (until + RENDER_STEP <= separator.soundUntil && isDue(until + RENDER_STEP)) until += RENDER_STEP;
    const out = separator.render(until, { removed: this.#viewerSound.needsRemoved });
    if (out === null) return;
    this.#stages.add("render", performance.now() - nowMs);
    this.#viewerSound.push(out);
    this.#rendered$.next(out.kept);
  }

  #ptsMs(sample: number): number {
    return Number(this.#timeline.toPtsNs(sample)) / 1e6;
  }

  #note({ layout, faces }: StepOutcome, ptsMs: number): Leaving {
    const mode = this.#core?.separator.mode;
    const value = {
      pts: Math.round(ptsMs),
      mode: mode?.mode ?? "bypass",
      reason: mode?.reason ?? null,
      sample: layout.atSample,
      faces: faces.map(({ id, box, score, speaking }) => ({ id, ...box, score, speaking })),
    };
    return { unit: { kind: "note", ptsMs, name: "onHighlight", value }, arrivedMs: null };
  }

  #leave({ unit, arrivedMs }: Leaving): void {
    const nowMs = performance.now();
    if (arrivedMs !== null) this.#latency.add(nowMs - arrivedMs);
    else if (unit.kind === "aac" && !this.#clock.has("video", nowMs))
      this.#latency.add(this.#clock.ageMs(unit.ptsMs, nowMs));
    const lost = this.#seams.video.dropped + this.#seams.aac.dropped;
    if (lost !== this.#lostSeen) {
      this.#lostSeen = lost;
      for (const output of this.#outputs) output.interrupted();
    }
    if (unit.kind === "video") this.#counts.video_units_out += 1;
    else if (unit.kind === "aac") this.#counts.sound_frames_out += 1;
    else this.#counts.notes_out += 1;
    writeToAll(this.#outputs, unit, this.#onOutputFault);
  }

  /** Logged once for each output: what fails for one unit will fail for the next. */
  readonly #onOutputFault = (output: Output, error: unknown): void => {
    this.#counts.faults += 1;
    if (this.#faultyOutputs.has(output)) return;
    this.#faultyOutputs.add(output);
    this.#o.log("error", `an output: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  };

  // ---- from outside ------------------------------------------------------------------------------------------------------

  /** Changes of a running channel; ramped by the separator, never stepped. */
  set(patch: ChannelPatch): void {
    this.#set = { ...this.#set, ...patch };
    const separator = this.#core?.separator;
    if (separator === undefined) return;
    const { keep, strengthPercent, attenuationLimitDb, bypass } = this.#set;
    separator.setControls({ keep, strengthPercent, attenuationLimitDb });
    if (bypass) separator.bypassFrom(separator.renderedSamples, "SL_BYPASS_OPERATOR");
    else separator.separateFrom(separator.renderedSamples, "SL_BYPASS_OPERATOR");
  }

  status(): ChannelStatus {
    const nowMs = performance.now();
    const separator = this.#core?.separator;
    const hasVideo = this.#clock.has("video", nowMs);
    const sound = this.#soundFormat?.info;
    return {
      name: this.#o.name,
      source: this.#state.source,
      mode: separator?.mode.mode ?? "bypass",
      reason: this.#reason(nowMs),
      ...this.#set,
      declaredLatencyMs: this.plan.declaredMs,
      latencyParts: { ...this.plan.parts },
      measuredLatencyMs: this.#state.source === "live" ? this.#latency.summary() : null,
      stageMs: this.#stages.summary(),
      levels: separator?.levels ?? { inDb: -120, outDb: -120, removedDb: -120 },
      faces: this.#newest?.faces ?? [],
      video:
        hasVideo && this.#videoFormat !== null
          ? { codec: "H.264", width: this.#videoFormat.width, height: this.#videoFormat.height, fps: this.#rate() }
          : null,
      audio: sound !== undefined && this.#clock.has("sound", nowMs) ? { ...sound } : null,
      driftPpm: this.#timeline.driftPpm,
      counters: this.#counters(),
      outputs: this.#outputs.map((output) => output.status),
    };
  }

  /** Resolves when the outputs have ended what needs an end. */
  async close(): Promise<void> {
    this.#source.close();
    this.#running?.unsubscribe();
    this.#running = null;
    await Promise.all(this.#outputs.map((output) => output.close()));
    this.#soundDecoder.close();
    this.#pictureDecoder.close();
    this.#encoder.close();
    this.#viewerSound.close();
  }

  /** The most important thing that is not as it should be. */
  #reason(nowMs: number): string | null {
    if (this.#state.source !== "live") return this.#state.code ?? "SL_SOURCE_WAITING";
    if (!this.#clock.has("sound", nowMs)) return "SL_NO_AUDIO";
    const reason = this.#core?.separator.mode.reason ?? null;
    const aboutPicture = reason === "SL_PICTURE_FROZEN" || reason === "SL_NO_FACE";
    return aboutPicture && !this.#clock.has("video", nowMs) ? "SL_NO_VIDEO" : reason;
  }

  #tellChange(): void {
    const mode = this.#core?.separator.mode.mode ?? "bypass";
    const now = `${this.#state.source} ${mode} ${this.#reason(performance.now())}`;
    if (now === this.#told) return;
    this.#told = now;
    this.#o.onChange?.();
  }

  #measureRate(ptsMs: number): void {
    this.#lastPtsMs.push(ptsMs);
    if (this.#lastPtsMs.length > 64) this.#lastPtsMs.shift();
  }

  /** Pictures a second, of the last 64 (in any order). */
  #rate(): number {
    const n = this.#lastPtsMs.length;
    if (n < 2) return 0;
    const span = Math.max(...this.#lastPtsMs) - Math.min(...this.#lastPtsMs);
    return span > 0 ? Math.round(((n - 1) * 100_000) / span) / 100 : 0;
  }

  #counters(): Record<string, number> {
    const out: Record<string, number> = {
      ...this.#counts,
      ...this.#source.counters,
      ...this.#soundDecoder.counters,
      ...this.#pictureDecoder.counters,
      ...this.#encoder.counters,
      ...this.#viewerSound.counters,
      ...this.#follower?.counters,
      ...snake("timeline", this.#timeline.counters),
      ...snake("gains", this.#core?.separator.counters ?? {}),
      source_discontinuities: this.#clock.epoch.discontinuities,
      source_restarts: this.#clock.epoch.restarts,
      steps_cut: this.#seams.steps.received,
      steps_joined: this.#seams.steps.joined,
      steps_dropped: this.#seams.steps.dropped,
      steps_pictures_overdue: this.#core?.cutter?.overdue ?? 0,
      delay_line_dropped: this.#seams.video.dropped + this.#seams.aac.dropped + this.#seams.notes.dropped,
      delay_line_waiting: this.#seams.video.waiting + this.#seams.aac.waiting,
    };
    for (const output of this.#outputs)
      for (const [name, value] of Object.entries(output.counters)) out[name] = (out[name] ?? 0) + value;
    return out;
  }
}

const leavingKeyMs = (leaving: Leaving): number => releaseKeyMs(leaving.unit);

function snake(prefix: string, counters: Readonly<Record<string, number>>): Record<string, number> {
  const name = (key: string): string => `${prefix}_${key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)}`;
  return Object.fromEntries(Object.entries(counters).map(([key, value]) => [name(key), value]));
}

/** @throws TypeError for an address that nothing can be fetched from */
function openSource(input: string, gateway: GatewayLink, events: SourceEvents): Source {
  if (input === "publish") return new PublishSource(gateway, events);
  return new PullSource(input, events);
}
