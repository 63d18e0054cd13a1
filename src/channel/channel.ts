import { catchError, ignoreElements, map, merge, type Observable, Subject, type Subscription, tap } from "rxjs";
import type { ChannelConfig } from "../config/schema.js";
import type { AnyInference } from "../model/inference.js";
import { pace } from "../pipeline/operators/pace.js";
import { seamCounter } from "../pipeline/operators/seam.js";
import { type AudioBlock, type Mode, SAMPLE_RATE } from "../pipeline/types.js";
import type { ChannelPatch, ChannelStatus } from "../transport/ipc/messages.js";
import { type DecodedPicture, type DecodedSound, PictureDecoder, SoundDecoder } from "./decode.js";
import { AacEncoder, type AacFrame } from "./encode.js";
import type { GatewayLink } from "./gateway-link.js";
import { Intake } from "./intake.js";
import { delayPlaces, type LatencyPlan, latencyPlan } from "./latency.js";
import { faultText, type Log } from "./log.js";
import type { MediaClock } from "./media-clock.js";
import { geometryOf } from "./model-stage.js";
import { highlightNote } from "./note.js";
import { type JoinCounter, monotonic, thinned, through, ticks } from "./operators.js";
import { Outputs } from "./output/outputs.js";
import { NO_MODEL, Separation, stepsOf } from "./separation.js";
import { Rolling, StageTimes } from "./stats.js";
import type { StepOutcome } from "./step-runner.js";
import { type OutputUnit, releaseKeyMs } from "./units.js";
import { type StemFrame, ViewerSound } from "./viewer-sound.js";

export type ChannelOptions = {
  readonly name: string;
  readonly config: ChannelConfig;
  readonly gateway: GatewayLink;
  /** Null: the model cannot be used (`noModel` says why); the programme passes with its sound untouched. */
  readonly inference: AnyInference | null;
  readonly noModel?: string;
  readonly log: Log;
  /** Called when the source, the mode or the reason is another than before (up to 5 ms later; up to 50 ms when nothing was on air). */
  readonly onChange?: () => void;
};

/** How often the steps and the rendering look at the clock, and when nothing is on air: hundreds of channels may wait for their publishers. */
const TICK_MS = 5;
const IDLE_TICK_MS = 50;
const NOTES_EVERY_MS = 100;
/** Shown while no sound comes: the last levels would stand there for ever. */
const SILENT = { inDb: -120, outDb: -120, removedDb: -120 };

/** A unit on its way out and when it came in (null: made here). */
type Leaving = { readonly unit: OutputUnit; readonly arrivedMs: number | null };
type DueSound = { readonly frame: StemFrame; readonly ptsMs: number };
type DueNote = { readonly outcome: StepOutcome; readonly ptsMs: number };

/** An answer reaches the outputs so long after the declared latency: they are not to ask again before. */
const KEY_TAKES_MS = 2500;

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
  readonly #intake: Intake;
  readonly #soundDecoder: SoundDecoder;
  readonly #pictureDecoder: PictureDecoder;
  readonly #separation: Separation;
  readonly #encoder: AacEncoder;
  readonly #viewerSound: ViewerSound;
  readonly #outputs: Outputs;

  readonly #video$ = new Subject<Leaving>();
  readonly #sound$ = new Subject<DecodedSound>();
  readonly #pictures$ = new Subject<DecodedPicture>();
  readonly #rendered$ = new Subject<AudioBlock>();
  readonly #aac$ = new Subject<AacFrame>();
  readonly #opus$ = new Subject<StemFrame>();
  #running: Subscription | null = null;

  readonly #seams = {
    video: seamCounter(),
    aac: seamCounter(),
    opus: seamCounter(),
    notes: seamCounter(),
    steps: { ...seamCounter(), joined: 0 } satisfies JoinCounter,
  };
  /** Units dropped in the delay line of which the outputs have been told. */
  #lostSeen = 0;
  /** Source, mode and reason of which `onChange` has told. */
  #told = "";
  #keyAskedMs = Number.NEGATIVE_INFINITY;
  readonly #stages = new StageTimes();
  readonly #latency = new Rolling(64);
  readonly #counts = { video_units_out: 0, sound_frames_out: 0, notes_out: 0, faults: 0 };

  /** @throws GstError when GStreamer lacks a decoder or encoder that every channel needs */
  constructor(options: ChannelOptions) {
    this.#o = options;
    const { name, config, gateway, inference, noModel = "SL_MODEL_INVALID", log } = options;
    const geometry = inference === null ? NO_MODEL : geometryOf(inference);
    this.plan = latencyPlan(config.profile, geometry, { lookAheadMs: config.lookAheadMs });
    this.#intake = new Intake({
      input: config.input,
      gateway,
      declaredMs: this.plan.declaredMs,
      log,
      onSound: (unit) => this.#soundDecoder.push(unit),
      onVideo: (unit, arrivedMs) => {
        if (unit.reencoded !== undefined) this.#stages.add("reencode", unit.reencoded.tookMs);
        this.#video$.next({ unit, arrivedMs });
        if (this.#separation.wantsPictures) this.#pictureDecoder.push(unit);
        this.#askForKey(arrivedMs);
      },
    });
    this.#separation = new Separation({
      name,
      config,
      geometry,
      plan: this.plan,
      clock: this.#clock,
      inference,
      noModel,
      stages: this.#stages,
      log,
      needsRemoved: () => this.#viewerSound.needsRemoved,
      onRendered: (sound) => {
        this.#viewerSound.push(sound);
        this.#rendered$.next(sound.kept);
      },
    });
    const faulty = (what: string) => ({
      onFault: (fault: { element: string; message: string }) =>
        log("warn", `${what} failed and is started again`, { ...fault }),
    });
    this.#soundDecoder = new SoundDecoder((sound) => this.#sound$.next(sound), faulty("the sound decoder"));
    this.#pictureDecoder = new PictureDecoder(
      (picture) => this.#pictures$.next(picture),
      faulty("the picture decoder"),
      () => this.#separation.hasTimeForPictures,
      this.#separation.leastPictureStepMs,
    );
    this.#encoder = new AacEncoder((frame) => this.#aac$.next(frame), faulty("the sound encoder").onFault);
    this.#viewerSound = new ViewerSound((frame) => this.#opus$.next(frame), faulty("viewers' sound").onFault);
    gateway.onWanted((stems) => this.#viewerSound.want(stems));
    gateway.onTimeline((leavingMs) => this.#clock.continueFrom(leavingMs, performance.now()));
    this.#outputs = new Outputs(gateway, config.outputs, log);
  }

  start(): void {
    this.#running = this.#programme().subscribe((leaving) => this.#leave(leaving));
    this.#intake.start();
  }

  /** The programme as one RxJS graph: what comes in, what is separated, what leaves when. */
  #programme(): Observable<Leaving> {
    const separation = this.#separation;
    const changes$ = merge(
      this.#sound$.pipe(tap((sound) => separation.takeSound(sound))),
      this.#pictures$.pipe(tap((picture) => separation.takePicture(picture))),
      ticks(() => (this.#idle ? IDLE_TICK_MS : TICK_MS)).pipe(tap(() => this.#tellChange())),
    ).pipe(this.#guarded("sound and pictures"));
    const outcomes$ = changes$.pipe(stepsOf(separation, this.#seams.steps), this.#guarded("a model step"));

    const video$ = this.#video$.pipe(pace({ ...this.#delay(leavingKeyMs), counter: this.#seams.video }));
    const aac$ = this.#rendered$.pipe(
      through((block) => this.#encoder.push(block), this.#aac$),
      map((frame) => this.#aacUnit(frame)),
      pace({ ...this.#delay(leavingKeyMs), counter: this.#seams.aac }),
    );
    const notes$ = outcomes$.pipe(
      thinned(({ facesSample }) => facesSample, (NOTES_EVERY_MS * SAMPLE_RATE) / 1000),
      map((outcome): DueNote => ({ outcome, ptsMs: separation.ptsMs(outcome.facesSample) })),
      pace({ ...this.#delay((note: DueNote) => note.ptsMs), counter: this.#seams.notes }),
      // The mode is that of the moment of leaving.
      map(({ outcome, ptsMs }): Leaving => ({ unit: highlightNote(outcome, ptsMs, separation.mode), arrivedMs: null })),
    );
    const opus$ = this.#opus$.pipe(
      map((frame): DueSound => ({ frame, ptsMs: separation.ptsMs(frame.atSample) })),
      pace({ ...this.#delay((due: DueSound) => due.ptsMs), counter: this.#seams.opus }),
      tap(({ frame, ptsMs }) => this.#o.gateway.sendOpus(frame.stem, ptsMs, frame.data)),
      ignoreElements(),
    );
    return merge(video$, aac$, notes$, opus$).pipe(this.#guarded("the outputs"));
  }

  /** The delay line: each value leaves when the declared latency says so. */
  #delay<T>(keyMs: (value: T) => number) {
    return {
      releaseAtMs: (value: T) => this.#clock.releaseAtMs(keyMs(value)),
      limit: delayPlaces(this.plan.declaredMs),
      policy: "drop-oldest" as const,
      scheduler: monotonic,
    };
  }

  /** A fault of ours in one stage is logged and counted; the stage goes on with what comes next. */
  #guarded<T>(stage: string) {
    return catchError<T, Observable<T>>((error: unknown, again) => {
      this.#counts.faults += 1;
      this.#o.log("error", `${stage}: ${faultText(error)}`);
      return again;
    });
  }

  /** A browser makes key frames when it is asked for one, and else hardly ever: whoever waits would wait for minutes. */
  #askForKey(nowMs: number): void {
    const waits = this.#outputs.waitForKey || (this.#separation.wantsPictures && this.#pictureDecoder.waitsForKey);
    if (!waits || nowMs - this.#keyAskedMs < this.plan.declaredMs + KEY_TAKES_MS) return;
    this.#keyAskedMs = nowMs;
    this.#o.gateway.wantKeyFrame();
  }

  #aacUnit({ atSample, data, config }: AacFrame): Leaving {
    return { unit: { kind: "aac", ptsMs: this.#separation.ptsMs(atSample), data, config }, arrivedMs: null };
  }

  #leave({ unit, arrivedMs }: Leaving): void {
    const nowMs = performance.now();
    if (arrivedMs !== null) this.#latency.add(nowMs - arrivedMs);
    else if (unit.kind === "aac" && !this.#clock.has("video", nowMs))
      this.#latency.add(this.#clock.ageMs(unit.ptsMs, nowMs));
    const lost = this.#seams.video.dropped + this.#seams.aac.dropped;
    if (lost !== this.#lostSeen) {
      this.#lostSeen = lost;
      this.#outputs.interrupted();
    }
    if (unit.kind === "video") this.#counts.video_units_out += 1;
    else if (unit.kind === "aac") this.#counts.sound_frames_out += 1;
    else this.#counts.notes_out += 1;
    this.#outputs.write(unit);
  }

  // ---- from outside ------------------------------------------------------------------------------------------------------

  /** Changes of a running channel; ramped, never stepped. */
  set(patch: ChannelPatch): void {
    this.#separation.set(patch);
  }

  /** The connection to the inference process came up or broke. */
  inferenceConnected(up: boolean): void {
    this.#separation.inferenceConnected(up);
  }

  status(): ChannelStatus {
    const nowMs = performance.now();
    const separation = this.#separation;
    const { source } = this.#intake.state;
    return {
      name: this.#o.name,
      source,
      mode: this.#mode(nowMs),
      reason: this.#reason(nowMs),
      ...separation.settings,
      declaredLatencyMs: this.plan.declaredMs,
      latencyParts: { ...this.plan.parts },
      measuredLatencyMs: source === "live" ? this.#latency.summary() : null,
      stageMs: this.#stages.summary(),
      levels: (this.#clock.has("sound", nowMs) ? separation.levels : null) ?? SILENT,
      ...this.#faces(nowMs),
      video: this.#intake.videoInfo(nowMs),
      audio: this.#intake.soundInfo(nowMs),
      driftPpm: separation.driftPpm,
      line: this.#intake.line,
      counters: this.#counters(),
      outputs: this.#outputs.statuses,
    };
  }

  /** Resolves when the outputs have ended what needs an end. */
  async close(): Promise<void> {
    this.#intake.close();
    this.#running?.unsubscribe();
    this.#running = null;
    await this.#outputs.close();
    this.#soundDecoder.close();
    this.#pictureDecoder.close();
    this.#encoder.close();
    this.#viewerSound.close();
  }

  get #clock(): MediaClock {
    return this.#intake.clock;
  }

  /** Whatever came has left. */
  get #idle(): boolean {
    return this.#clock.quietMs(performance.now()) > this.plan.declaredMs + 1000;
  }

  /** Without sound nothing is separated, and nothing is late: the separation keeps the mode of its last sample. */
  #mode(nowMs: number): Mode {
    const onAir = this.#intake.state.source === "live" && this.#clock.has("sound", nowMs);
    return (onAir ? this.#separation.mode?.mode : null) ?? "bypass";
  }

  /** The most important thing that is not as it should be. */
  #reason(nowMs: number): string | null {
    const { source, code } = this.#intake.state;
    if (source !== "live") return code ?? "SL_SOURCE_WAITING";
    if (!this.#clock.has("sound", nowMs)) return "SL_NO_AUDIO";
    const reason = this.#separation.mode?.reason ?? null;
    const aboutPicture = reason === "SL_PICTURE_FROZEN" || reason === "SL_NO_FACE";
    return aboutPicture && !this.#clock.has("video", nowMs) ? "SL_NO_VIDEO" : reason;
  }

  /** Steps are cut from sound: without it the faces of the last one would stand there for ever. */
  #faces(nowMs: number): Pick<ChannelStatus, "faces" | "facesAgeMs"> {
    const faces = this.#separation.faces;
    if (faces === null || !this.#clock.has("video", nowMs) || !this.#clock.has("sound", nowMs))
      return { faces: [], facesAgeMs: 0 };
    return { faces: faces.faces, facesAgeMs: Math.max(0, Math.round(this.#clock.ageMs(faces.ptsMs, nowMs))) };
  }

  #tellChange(): void {
    const nowMs = performance.now();
    const now = `${this.#intake.state.source} ${this.#mode(nowMs)} ${this.#reason(nowMs)}`;
    if (now === this.#told) return;
    this.#told = now;
    this.#o.onChange?.();
  }

  #counters(): Record<string, number> {
    const { video, aac, opus, notes, steps } = this.#seams;
    return {
      ...this.#intake.counters,
      ...this.#soundDecoder.counters,
      ...this.#pictureDecoder.counters,
      ...this.#separation.counters,
      steps_cut: steps.received,
      steps_joined: steps.joined,
      steps_dropped: steps.dropped,
      ...this.#encoder.counters,
      ...this.#viewerSound.counters,
      delay_line_dropped: video.dropped + aac.dropped + opus.dropped + notes.dropped,
      delay_line_waiting: video.waiting + aac.waiting,
      ...this.#outputs.counters,
      ...this.#counts,
      faults: this.#counts.faults + this.#outputs.faults,
    };
  }
}

const leavingKeyMs = (leaving: Leaving): number => releaseKeyMs(leaving.unit);
