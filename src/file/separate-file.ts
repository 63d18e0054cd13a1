import { stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import type { Profile } from "../channel/latency.js";
import { findModel, loadWindow, readCard } from "../model/cards.js";
import type { EngineChoice } from "../model/engines/engine.js";
import { OnnxFaceDetector } from "../model/faces/detector.js";
import { LocalInference } from "../model/inference/local.js";
import type { Inference } from "../model/inference.js";
import { PaperWindow } from "../model/paper/window.js";
import { BUILT_IN_MODELS, FACES_MODEL } from "../paths.js";
import { type Heat, h264Encoder } from "./cam.js";
import type { CamDetail } from "./cam-detail.js";
import { ActivationHeat } from "./cam-map.js";
import { CAM_LINES, type CamReport, camPass, requireCam } from "./cam-pass.js";
import { FileError, type FileWarning } from "./errors.js";
import type { Evaluate } from "./evaluate.js";
import type { JobLog } from "./job-log.js";
import type { Mask } from "./mask.js";
import { CAM_MAPS, Results } from "./part-file.js";
import type { Progress } from "./progress.js";
import { StreamJob } from "./stream-job.js";
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
  /** The steps and the look-ahead of a channel of this profile, for a model that streams. Default: the steps of `quality` and the longest look-ahead, for a file has no latency. */
  readonly profile?: Profile;
  /** In place of that look-ahead, 0 to MAX_LOOK_AHEAD_MS. */
  readonly lookAheadMs?: number;
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

/**
 * Separates a file: sound and pictures in, the same windows, gains and stitching as live but without a clock, files out.
 * Memory does not grow with the length. `out` gets onscreen.wav, offscreen.wav, highlight.jsonl, onscreen.mp4 and, with `cam`,
 * cam.mp4, with `camModel` cam.jsonl, with `camCrop` crop.mp4; all of them or, after a failure, none.
 *
 * @throws FileError, InferenceError (SL_MODEL_INVALID, SL_ENGINE_UNAVAILABLE)
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
    await results.spare(input);
    opened = await open(options, results);
    const { job } = opened;
    // Opened before the long work: a model that cannot do it is said at once.
    second = options.camModel === undefined ? null : await openCam(options, options.camModel);
    await job.separate();
    const cam = second === null ? null : await runCam(second, options, results, job.log);
    // Without pictures the second network has nothing to draw into.
    await job.writeVideos(second !== null && cam === null ? null : encoder, cam?.map ?? null);
    await results.drop(CAM_MAPS);
    job.log.throwIfStopped();
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
  const model = await PaperWindow.open(await loadWindow(folder), {
    threads,
    engine,
    strict: true,
    limitMs: TRIAL_LIMIT_MS,
  });
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

/** Nobody waits for a file as for a service: a large network may take its time to compile for a device. */
const TRIAL_LIMIT_MS = 120_000;

export const defaultThreads = (): number => Math.min(4, availableParallelism());

type Opened = { readonly job: StreamJob | WindowJob; close(): Promise<void> };

/** The job that the model's kind wants. */
async function open(options: SeparateOptions, results: Results): Promise<Opened> {
  const { inference, model = "live", engine = "auto", threads = defaultThreads() } = options;
  const folder = inference === undefined ? await findModel(model, BUILT_IN_MODELS) : null;
  if (folder !== null && (await readCard(folder)).kind === "window") {
    const window = await PaperWindow.open(await loadWindow(folder), {
      threads,
      engine,
      strict: true,
      limitMs: TRIAL_LIMIT_MS,
    });
    return { job: new WindowJob(options, window, results), close: () => window.close() };
  }
  if (options.paper || options.releaseExact) {
    const name = inference?.card.name ?? model;
    throw new FileError("SL_FILE_MODEL", `model ${name} predicts gains only; --paper needs a window model`);
  }
  if (folder === null) return { job: new StreamJob(options, inference!, results), close: async () => undefined };
  const faces = await OnnxFaceDetector.open(FACES_MODEL, { threads });
  const own = await LocalInference.open(folder, { threads, faces, engine, strict: true }).catch(
    async (error: unknown) => {
      await faces.close();
      throw error;
    },
  );
  return { job: new StreamJob(options, own, results, () => own.engines), close: () => own.close() };
}
