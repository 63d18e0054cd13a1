import { createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { HOP_UNITS } from "../channel/latency.js";
import { type StepOutcome, StepRunner } from "../channel/step-runner.js";
import { findModel, loadWindow, readCard } from "../model/cards.js";
import type { EngineChoice } from "../model/engines/engine.js";
import type { EngineReport } from "../model/engines/names.js";
import { OnnxFaceDetector } from "../model/faces/detector.js";
import { FaceFollower } from "../model/faces/follower.js";
import type { Inference } from "../model/inference.js";
import { LocalInference } from "../model/local-inference.js";
import { PaperWindow } from "../model/paper/window.js";
import { Separator } from "../pipeline/separator.js";
import { AudioTimeline } from "../pipeline/timeline.js";
import { type Highlight, SAMPLE_RATE } from "../pipeline/types.js";
import { BUILT_IN_MODELS, FACES_MODEL } from "../supervisor/paths.js";
import { FaceHeat, type Heat, h264Encoder } from "./cam.js";
import type { CamDetail } from "./cam-detail.js";
import { ActivationHeat } from "./cam-map.js";
import { CAM_LINES, CAM_MAPS, type CamReport, camPass, requireCam } from "./cam-pass.js";
import { FileError, type FileWarning } from "./errors.js";
import { type Evaluate, facesFor } from "./evaluate.js";
import { JobLog } from "./job-log.js";
import { type Mask, maskPicture } from "./mask.js";
import type { MuxSound } from "./mux.js";
import { Results } from "./part-file.js";
import type { Progress } from "./progress.js";
import { readPictures, readSound } from "./readers.js";
import { writeVideos } from "./videos.js";
import { WavWriter } from "./wav.js";
import { WindowJob } from "./window-job.js";

export type SeparateOptions = {
  readonly input: string;
  readonly out: string;
  /** Name below models/ or a path; not needed with `inference`. */
  readonly model?: string;
  /** An open model with a face detector; stays open. */
  readonly inference?: Inference;
  readonly mask?: Mask | null;
  readonly keep?: "on-screen" | "off-screen";
  readonly strengthPercent?: number;
  readonly cam?: boolean;
  /** A second network (presets `cam`, `shift`) that draws cam.mp4 in place of the separator; name below models/ or a path. */
  readonly camModel?: string;
  /** How finely it looks; default `plain`. */
  readonly camDetail?: CamDetail;
  /** Value of a map that is full heat; default: the 97th percentile of each window. */
  readonly camLimit?: number;
  /** Also crop.mp4: 224 x 224 pictures of where the second network finds the sound. */
  readonly camCrop?: boolean;
  /** Window models: predicted magnitude and phase back to sound, in place of gains. */
  readonly paper?: boolean;
  /** With `paper`: to the letter of the release (left channel, its seams, level and ends). */
  readonly releaseExact?: boolean;
  /** False: only the two WAV files and highlight.jsonl. */
  readonly mp4?: boolean;
  readonly threads?: number;
  /** Default `auto`. One that is named must work: SL_ENGINE_UNAVAILABLE else. */
  readonly engine?: EngineChoice;
  readonly evaluate?: Evaluate;
  readonly onProgress?: (progress: Progress) => void;
  readonly onWarning?: (warning: FileWarning) => void;
  readonly signal?: AbortSignal;
};

export type SeparateReport = {
  readonly files: Readonly<Record<string, string>>;
  readonly seconds: number;
  readonly samples: number;
  readonly channels: number;
  readonly model: string;
  /** Engine that ran at the end: package, version, device. Null: an open model of the caller's. */
  readonly engine: string | null;
  readonly steps: number;
  /** Steps by what was done with their sound: `separated`, or the reason why it was left alone. */
  readonly modes: Readonly<Record<string, number>>;
  readonly engineMs: number;
  /** Of the second network, if one was asked for and there were pictures. */
  readonly cam?: CamReport;
  readonly wallSeconds: number;
  readonly warnings: readonly FileWarning[];
};

/** Steps as long as those of a `balanced` channel: a file gets the very windows that a live programme gets. */
const HOP = HOP_UNITS.balanced;

/**
 * Separates a file: sound and pictures in, the same windows, gains and stitching as live but without a clock, files out.
 * Memory does not grow with the length. `out` gets onscreen.wav, offscreen.wav, highlight.jsonl, onscreen.mp4 and, with `cam`,
 * cam.mp4; all of them or, after a failure, none.
 *
 * @throws FileError, InferenceError (SL_MODEL_INVALID)
 */
export async function separateFile(options: SeparateOptions): Promise<SeparateReport> {
  const { input, signal } = options;
  const info = await stat(input).catch(() => null);
  if (info === null) throw new FileError("SL_FILE_MISSING", `${input}: there is no such file`);
  if (!info.isFile()) throw new FileError("SL_FILE_NOT_MEDIA", `${input} is not a file`);
  if (info.size === 0) throw new FileError("SL_FILE_NOT_MEDIA", `${input} is empty`);
  if (options.camModel === undefined && (options.camCrop || options.camDetail !== undefined))
    throw new FileError("SL_FILE_MODEL", "crops and sliding maps need a second network (camModel)");
  const encoder = options.cam || options.camCrop ? await h264Encoder() : null;
  const results = await Results.open(options.out);
  let opened: Opened | null = null;
  let second: PaperWindow | null = null;
  try {
    opened = await open(options, results);
    const { job } = opened;
    // Opened before the long work: a model that cannot do it is said at once.
    second = options.camModel === undefined ? null : await openCam(options, options.camModel);
    await job.separate();
    const cam = second === null ? null : await runCam(second, options, results, job.log);
    // Without pictures the second network has nothing to draw into.
    await job.writeVideos(second !== null && cam === null ? null : encoder, cam?.map ?? null);
    await results.drop(CAM_MAPS);
    return { ...job.report(), ...(cam && { cam: cam.report }), files: await results.commit() };
  } catch (error) {
    await results.discard();
    if (signal?.aborted) throw new FileError("SL_FILE_STOPPED", `${input}: stopped; nothing was written`);
    throw error;
  } finally {
    await second?.close();
    await opened?.close();
  }
}

/** What a second network gives the videos in place of the separator's own map; without pictures there is no heat to draw. */
export type SecondMap = { readonly heat: () => Heat; readonly camLines: string };

async function openCam(
  { engine = "auto", threads = defaultThreads() }: SeparateOptions,
  name: string,
): Promise<PaperWindow> {
  const folder = await findModel(name, BUILT_IN_MODELS);
  const { kind } = await readCard(folder);
  if (kind !== "window")
    throw new FileError("SL_FILE_MODEL", `model ${name} is of kind ${kind}; --cam-model needs preset cam or shift`);
  const model = await PaperWindow.open(await loadWindow(folder), { threads, engine, strict: true });
  try {
    requireCam(model);
    return model;
  } catch (error) {
    await model.close();
    throw error;
  }
}

async function runCam(
  model: PaperWindow,
  { input, mask = null, camDetail: detail = "plain", camLimit, releaseExact = false, signal }: SeparateOptions,
  results: Results,
  log: JobLog,
): Promise<{ readonly map: SecondMap; readonly report: CamReport } | null> {
  const lines = results.part(CAM_LINES);
  const maps = results.part(CAM_MAPS);
  const report = await camPass(model, { input, mask, detail, releaseExact, signal, lines, maps }, log);
  if (report === null) {
    if (!log.warnings.some((w) => w.code === "SL_FILE_NO_PICTURE"))
      log.warn("SL_FILE_NO_PICTURE", `${input} has no pictures: there is no map of them`);
    await Promise.all([results.drop(CAM_LINES), results.drop(CAM_MAPS)]);
    return null;
  }
  const { frames } = model.card.paper.window;
  return {
    map: { heat: () => new ActivationHeat(maps, { inset: 0, frames, limit: camLimit ?? null }), camLines: lines },
    report,
  };
}

export const defaultThreads = (): number => Math.min(4, availableParallelism());

type Opened = { readonly job: Job | WindowJob; close(): Promise<void> };

/** The job that the model's kind wants. */
async function open(options: SeparateOptions, results: Results): Promise<Opened> {
  const { inference, model = "live", engine = "auto", threads = defaultThreads() } = options;
  const folder = inference === undefined ? await findModel(model, BUILT_IN_MODELS) : null;
  if (folder !== null && (await readCard(folder)).kind === "window") {
    const window = await PaperWindow.open(await loadWindow(folder), { threads, engine, strict: true });
    return { job: new WindowJob(options, window, results), close: () => window.close() };
  }
  if (options.paper || options.releaseExact) {
    const name = inference?.card.name ?? model;
    throw new FileError("SL_FILE_MODEL", `model ${name} predicts gains only; --paper needs a window model`);
  }
  if (folder === null) return { job: new Job(options, inference!, results), close: async () => undefined };
  const faces = await OnnxFaceDetector.open(FACES_MODEL, { threads });
  const own = await LocalInference.open(folder, { threads, faces, engine, strict: true }).catch(
    async (error: unknown) => {
      await faces.close();
      throw error;
    },
  );
  return { job: new Job(options, own, results, () => own.engines), close: () => own.close() };
}

let sessions = 0;

class Job {
  readonly #o: SeparateOptions;
  readonly #inference: Inference;
  readonly #results: Results;
  readonly #log: JobLog;
  readonly #modes: Record<string, number> = {};
  #steps = 0;
  #engineMs = 0;
  #hasPictures = false;
  #sound: MuxSound | null = null;

  constructor(
    options: SeparateOptions,
    inference: Inference,
    results: Results,
    private readonly engines: () => EngineReport | null = () => null,
  ) {
    this.#o = options;
    this.#inference = inference;
    this.#results = results;
    this.#log = new JobLog(options);
  }

  async separate(): Promise<void> {
    const { input, signal, keep = "on-screen", strengthPercent = 100, evaluate = {} } = this.#o;
    const { card } = this.#inference;
    const session = `file-${++sessions}`;
    const sound = readSound(input, signal);
    const pictures = readPictures(input, { signal });
    const timeline = new AudioTimeline();
    const follower = new FaceFollower({
      inference: this.#inference,
      side: card.picture.side,
      unitSamples: card.unitSamples,
    });
    const writers: WavWriter[] = [];
    const highlights = createWriteStream(this.#results.part("highlight.jsonl"));
    // An error of the stream is seen at its end; without a listener it would end the process before.
    let highlightError: Error | null = null;
    highlights.on("error", (error) => {
      highlightError = error;
    });
    try {
      const first = await sound.next();
      if (first === null) throw new FileError("SL_FILE_NO_SOUND", `${input} has no sound to separate`);
      const channels = first.channels.length;
      const separator = new Separator({ model: card, channels, controls: { keep, strengthPercent } });
      const [kept, removed] =
        keep === "on-screen" ? ["onscreen.wav", "offscreen.wav"] : ["offscreen.wav", "onscreen.wav"];
      const keptWav = await WavWriter.open(this.#results.part(kept!), channels);
      writers.push(keptWav);
      const removedWav = await WavWriter.open(this.#results.part(removed!), channels);
      writers.push(removedWav);
      const render = async (until: number): Promise<void> => {
        const rendered = separator.render(until, { removed: true });
        if (rendered === null) return;
        await keptWav.write(rendered.kept.channels);
        await removedWav.write(rendered.removed!.channels);
      };

      const runner = new StepRunner({
        inference: this.#inference,
        session,
        faces: facesFor(evaluate, follower, card.unitSamples),
        separator,
        policy: {},
      });
      const feed = new PictureFeed(pictures, follower, timeline, this.#o.mask ?? null);
      const runSteps = async (): Promise<void> => {
        if (!feed.seen) return;
        for (let step = separator.nextStep(HOP); step !== null; step = separator.nextStep(HOP)) {
          await feed.advanceTo(step.atSample / card.unitSamples + step.units - 1);
          const outcome = await runner.run(step);
          if (outcome.failure !== null) {
            throw new FileError(
              "SL_INFERENCE_FAILED",
              `the model failed at ${(step.atSample / SAMPLE_RATE).toFixed(1)} s (${outcome.failure})`,
            );
          }
          this.#note(outcome);
          highlights.write(`${JSON.stringify(highlightOf(step.atSample, outcome))}\n`);
          await render(separator.gainsUntil);
        }
      };

      let jumps = 0;
      for (let piece: typeof first | null = first; piece !== null; piece = await sound.next()) {
        const { blocks, events } = timeline.push({
          ptsNs: BigInt(Math.round(piece.ptsMs * 1e6)),
          channels: piece.channels,
        });
        jumps += events.filter((e) => e.type === "discontinuity").length;
        if (piece === first && !(await feed.begin())) {
          this.#log.warn("SL_FILE_NO_PICTURE", `${input} has no pictures: the sound is left as it is`);
          separator.bypassFrom(0, "SL_FILE_NO_PICTURE");
          this.#modes.SL_FILE_NO_PICTURE = 1;
        }
        for (const block of blocks) separator.pushAudio(block);
        await runSteps();
        if (!feed.seen) await render(separator.soundUntil);
        const heard = separator.pushedSamples / SAMPLE_RATE;
        this.#log.progress("separate", heard, sound.declaredSeconds);
        if (signal?.aborted) throw new FileError("SL_FILE_STOPPED", "stopped");
      }
      separator.finish();
      await runSteps();
      await render(separator.pushedSamples);
      await Promise.all(writers.map((w) => w.finish()));
      await new Promise<void>((resolve) => highlights.end(() => resolve()));
      if (highlightError !== null) throw new FileError("SL_FILE_OUTPUT", `highlight.jsonl: ${String(highlightError)}`);

      this.#hasPictures = feed.seen;
      this.#sound = {
        wav: keptWav.path,
        channels,
        samples: keptWav.samples,
        atSample: Math.round((Number(timeline.toPtsNs(0)) * SAMPLE_RATE) / 1e9),
      };
      const heard = keptWav.samples / SAMPLE_RATE;
      this.#log.faults({ sound: sound.fault, picture: feed.fault, heard, declared: sound.declaredSeconds, jumps });
      if (feed.resizedAt !== null) {
        const message = `the size of the picture changes at ${feed.resizedAt.toFixed(1)} s; players may show onscreen.mp4 only up to there`;
        this.#log.warn("SL_FILE_RESIZED", `${input}: ${message}`);
      }
      this.#log.progress("separate", heard, heard, true);
    } finally {
      sound.close();
      pictures.close();
      this.#inference.forget(session);
      highlights.destroy();
      await Promise.all(writers.map((w) => w.abandon()));
    }
  }

  get log(): JobLog {
    return this.#log;
  }

  async writeVideos(encoder: string | null, second: SecondMap | null): Promise<void> {
    if (!this.#hasPictures || this.#sound === null) return;
    await writeVideos(this.#o, this.#log, this.#results, {
      sound: this.#sound,
      encoder,
      heat: () => new FaceHeat(this.#results.part("highlight.jsonl")),
      ...second,
    });
  }

  report(): Omit<SeparateReport, "files"> {
    const { card } = this.#inference;
    const engines = this.engines();
    if (engines) this.#log.engine(engines);
    return {
      seconds: this.#sound!.samples / SAMPLE_RATE,
      samples: this.#sound!.samples,
      channels: this.#sound!.channels,
      model: `${card.name} ${card.version}`,
      engine: engines?.label ?? null,
      steps: this.#steps,
      modes: this.#modes,
      engineMs: Math.round(this.#engineMs),
      wallSeconds: this.#log.wallSeconds,
      warnings: this.#log.warnings,
    };
  }

  #note({ decision, engineMs }: StepOutcome): void {
    this.#steps += 1;
    this.#engineMs += engineMs;
    const mode = decision?.gains != null ? "separated" : (decision?.reason ?? "bypass");
    this.#modes[mode] = (this.#modes[mode] ?? 0) + 1;
  }
}

/** Gives the follower the pictures that a step needs, no more. */
class PictureFeed {
  readonly #pictures: ReturnType<typeof readPictures>;
  readonly #follower: FaceFollower;
  readonly #timeline: AudioTimeline;
  readonly #mask: Mask | null;
  #next: Awaited<ReturnType<ReturnType<typeof readPictures>["next"]>> = null;
  seen = false;
  /** Seconds at which pictures of another size than the first begin; null: none came. */
  resizedAt: number | null = null;
  #size = "";

  constructor(
    pictures: ReturnType<typeof readPictures>,
    follower: FaceFollower,
    timeline: AudioTimeline,
    mask: Mask | null,
  ) {
    this.#pictures = pictures;
    this.#follower = follower;
    this.#timeline = timeline;
    this.#mask = mask;
  }

  get fault(): string | null {
    return this.#pictures.fault;
  }

  /** False when there is no picture at all. */
  async begin(): Promise<boolean> {
    this.#next = await this.#pictures.next();
    this.seen = this.#next !== null;
    return this.seen;
  }

  /** Until the picture of a unit is certain, or no more come. */
  async advanceTo(unit: number): Promise<void> {
    while (this.#next !== null && this.#follower.decidedUnit < unit) {
      const { ptsMs, data, width, height, fullRange } = this.#next;
      this.#noteSize(`${width}x${height}`, ptsMs);
      if (this.#mask !== null) maskPicture(data, width, height, this.#mask);
      const atSample = this.#timeline.toSample(BigInt(Math.round(ptsMs * 1e6)))!;
      this.#follower.push({ atSample, data, width, height, fullRange });
      // Detections are waited for, so that the same file gives the same result each time.
      await this.#follower.settle();
      this.#next = await this.#pictures.next();
    }
  }

  #noteSize(size: string, ptsMs: number): void {
    if (this.#size === "") this.#size = size;
    else if (size !== this.#size) this.resizedAt ??= ptsMs / 1000;
  }
}

const round = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits;

function highlightOf(atSample: number, { decision, faces }: StepOutcome): Highlight & { readonly seconds: number } {
  return {
    seconds: round(atSample / SAMPLE_RATE, 3),
    atSample,
    mode: decision?.gains != null ? "separated" : "bypass",
    reason: decision?.reason ?? null,
    faces: faces.map(({ id, box, score, speaking }) => ({
      id,
      box: { x: round(box.x, 4), y: round(box.y, 4), width: round(box.width, 4), height: round(box.height, 4) },
      score: round(score, 3),
      speaking: round(speaking, 3),
    })),
  };
}
