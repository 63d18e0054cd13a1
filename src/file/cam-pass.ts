import { createWriteStream } from "node:fs";
import type { DecodedPicture } from "../channel/decode.js";
import { rgbOf } from "../model/faces/i420.js";
import { cropFromMap } from "../model/paper/cam-crop.js";
import { slidingMap } from "../model/paper/cam-sliding.js";
import { resizePicture } from "../model/paper/resize.js";
import { FRAME_RATE } from "../model/paper/sizes.js";
import { type Size, zoomPixels } from "../model/paper/spline.js";
import type { Activation, PaperWindow } from "../model/paper/window.js";
import { SAMPLE_RATE } from "../pipeline/types.js";
import type { CamDetail } from "./cam-detail.js";
import { ActivationWriter } from "./cam-map.js";
import { FileError } from "./errors.js";
import type { JobLog } from "./job-log.js";
import { type Mask, maskRgb } from "./mask.js";
import type { PictureOptions } from "./readers.js";
import { FramePictures } from "./window-pictures.js";
import { WindowPlan } from "./window-plan.js";
import { WindowSounds } from "./window-sound.js";

export type CamPassOptions = {
  readonly input: string;
  readonly mask: Mask | null;
  readonly detail: CamDetail;
  readonly releaseExact: boolean;
  /** Files to write: the maps, for ActivationHeat, and a line for each window. */
  readonly maps: string;
  readonly lines: string;
  readonly signal?: AbortSignal | undefined;
};

export type CamReport = {
  readonly model: string;
  readonly engine: string;
  readonly windows: number;
  readonly engineMs: number;
};

/** Name of what the pass makes for the user; the maps (CAM_MAPS) are dropped when the pictures are drawn. */
export const CAM_LINES = "cam.jsonl";

/** As the release decodes whole frames: at most 600 lines. */
export const WHOLE_FRAMES: PictureOptions = { limit: { width: 4096, height: 600 }, even: true, bt601: true };

/** Of a picture of the file: what the network sees of it, and the frame's size. */
type Frame = { readonly seen: Float32Array; readonly square: Uint8Array | null; readonly size: Size };

/** A line of cam.jsonl. Crops are in fractions of the picture. */
export type CamLine = {
  readonly seconds: number;
  readonly atSample: number;
  readonly from: number;
  readonly logit: number;
  readonly crop: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
};

/**
 * The release's second network (`cam`, 14 x 14 cells) over a file, whatever separated it: whole frames, sound at its own level, one map a
 * window (spec section 5, "CAM"). Null: the file has no pictures.
 *
 * @throws FileError SL_FILE_MODEL for a model that separates or sees nothing; SL_FILE_TOO_SHORT
 */
export async function camPass(
  model: PaperWindow,
  { input, mask, detail, releaseExact, maps: mapsFile, lines: linesFile, signal }: CamPassOptions,
  log: JobLog,
): Promise<CamReport | null> {
  requireCam(model);
  const { side, window } = model.card.paper;
  // The release moves on by half of its declared 2.135 s, a little more than half of the frames of such a window.
  const half = releaseExact && window.frames === 63 ? (2.135 * FRAME_RATE) / 2 : window.frames / 2;
  const plan = new WindowPlan(window, half);
  const onProgress = (seconds: number, of: number | null): void => log.progress("cam.jsonl", seconds, of);
  const sounds = new WindowSounds({ input, plan, samples: window.samples, signal, onProgress });
  const make = (picture: DecodedPicture): Frame => frameOf(picture, side, mask, detail);
  const { toSample } = sounds;
  const pictures = new FramePictures<Frame>({ input, reading: { ...WHOLE_FRAMES, signal }, make, toSample });
  const maps = await ActivationWriter.open(mapsFile);
  const lines = createWriteStream(linesFile);
  let failure: Error | null = null;
  lines.on("error", (error) => {
    failure = error;
  });
  let windows = 0;
  let engineMs = 0;
  try {
    for await (const { place, left, right } of sounds.windows()) {
      if (windows === 0 && !(await pictures.begin())) return null;
      const frames = await pictures.window(place.frame, window.frames);
      const run = async (seen: readonly (Uint8Array | Float32Array)[], l: Float32Array, r: Float32Array) => {
        log.throwIfStopped();
        const a = await model.activation({ pictures: seen, left: l, right: r });
        engineMs += a.engineMs;
        return a;
      };
      const plain = await run(
        frames.map((f) => f.seen),
        left,
        right,
      );
      const squares = frames.map((f) => f.square!);
      const map =
        detail === "plain"
          ? plain.map
          : await slidingMap(
              { frames: squares, side: Math.sqrt(squares[0]!.length / 3), left, right },
              { shifts: detail === "shifts", releaseExact, side, map: async (...x) => (await run(...x)).map },
            );
      // The release overwrites pictures by those of the later window; else it takes over where its sound does.
      const from = releaseExact ? place.atSample : place.from;
      await maps.write({ ...place, from }, map);
      lines.write(`${JSON.stringify(lineOf(place.atSample, from, plain, frames[0]!.size))}\n`);
      windows += 1;
    }
    await maps.finish();
    await new Promise<void>((resolve) => lines.end(() => resolve()));
    if (failure !== null) throw new FileError("SL_FILE_OUTPUT", `${CAM_LINES}: ${String(failure)}`);
  } finally {
    pictures.close();
    lines.destroy();
    await maps.abandon();
  }
  const { card, engines } = model;
  return { model: `${card.name} ${card.version}`, engine: engines.label, windows, engineMs: Math.round(engineMs) };
}

/** @throws FileError SL_FILE_MODEL */
export function requireCam(model: PaperWindow): void {
  const { name, paper } = model.card;
  if (model.separates || !model.sees)
    throw new FileError(
      "SL_FILE_MODEL",
      `model ${name} (preset ${paper.preset}) is not a network for --cam-model: ` +
        "import a checkpoint with --preset cam (or shift), with --duration-mult 1 for windows as long as the separator's",
    );
}

/** A whole frame as the network sees it: RGB (side, side, 3), 0..255, resized as the release does, not rounded. */
export function wholeFrame(picture: DecodedPicture, side: number): Float32Array {
  return resizePicture(rgbOf(picture), picture, { width: side, height: side }, 3);
}

function frameOf(picture: DecodedPicture, side: number, mask: Mask | null, detail: CamDetail): Frame {
  const { width, height } = picture;
  const rgb = rgbOf(picture);
  if (mask !== null) maskRgb(rgb, width, height, mask);
  const size = { width, height };
  const seen = resizePicture(rgb, size, { width: side, height: side }, 3);
  const least = Math.min(width, height);
  const square = detail === "plain" ? null : zoomPixels(rgb, size, { width: least, height: least }, 3);
  return { seen, square, size };
}

const round = (v: number, digits: number): number => Math.round(v * 10 ** digits) / 10 ** digits;

function lineOf(atSample: number, from: number, { map, logit }: Activation, size: Size): CamLine {
  const { x, y, side } = cropFromMap(map, size);
  const fraction = (v: number, of: number): number => round(v / of, 6);
  return {
    seconds: round(from / SAMPLE_RATE, 3),
    atSample,
    from,
    logit: round(logit, 4),
    crop: {
      x: fraction(x, size.width),
      y: fraction(y, size.height),
      width: fraction(side, size.width),
      height: fraction(side, size.height),
    },
  };
}
