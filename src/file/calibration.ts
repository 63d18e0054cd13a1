import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { WindowCard } from "../model/card.js";
import type { CalibrationWindow } from "../model/paper/quantise.js";
import { activationTensors, windowTensors } from "../model/paper/window-tensors.js";
import { WHOLE_FRAMES, wholeFrame } from "./cam-pass.js";
import { FileError } from "./errors.js";
import { FramePictures, WindowPictures } from "./window-pictures.js";
import { WindowPlan } from "./window-plan.js";
import { WindowSounds } from "./window-sound.js";

export type CalibrationOptions = {
  readonly folder: string;
  /** How many in all; fewer when the clips have no more. */
  readonly windows: number;
  readonly signal?: AbortSignal;
  /** Told of each clip that is left out, and why. */
  readonly onSkipped?: (clip: string, why: string) => void;
};

/** Files of a folder, in the order of their names. Throws FileError SL_FILE_MISSING, SL_FILE_NOT_MEDIA. */
export async function clipsOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((e: NodeJS.ErrnoException) => {
    throw new FileError(
      "SL_FILE_MISSING",
      `--calibrate ${folder}: cannot be read as a folder (${e.code ?? e.message})`,
    );
  });
  const files = entries.filter((e) => e.isFile() && !e.name.startsWith(".")).map((e) => e.name);
  if (files.length === 0) throw new FileError("SL_FILE_NOT_MEDIA", `--calibrate ${folder}: holds no files`);
  return files.sort();
}

/**
 * Windows of the clips of a folder, as file mode would give them to the model: evenly chosen clips, the same number of windows of each,
 * from its beginning, side by side; the last of a clip ends with it. Clips that give none (no pictures, too short, no media) are left out.
 */
export async function* calibrationWindows(
  card: WindowCard,
  { folder, windows, signal, onSkipped }: CalibrationOptions,
): AsyncGenerator<CalibrationWindow> {
  const files = await clipsOf(folder);
  const clips = Math.min(files.length, windows);
  const each = Math.ceil(windows / clips);
  for (let i = 0; i < clips; i++) {
    const clip = files[Math.floor((i * files.length) / clips)]!;
    try {
      let given = 0;
      for await (const tensors of windowsOf(card, join(folder, clip), signal)) {
        yield { clip, tensors };
        if (++given === each) break;
      }
    } catch (error) {
      if (!(error instanceof FileError) || error.code === "SL_FILE_TOOLS" || signal?.aborted) throw error;
      onSkipped?.(clip, error.message);
    }
  }
}

async function* windowsOf(
  card: WindowCard,
  input: string,
  signal?: AbortSignal,
): AsyncGenerator<CalibrationWindow["tensors"]> {
  const { side, window } = card.paper;
  const separates = window.spectrum > 0;
  const plan = new WindowPlan(window, window.frames);
  const sounds = new WindowSounds({ input, plan, samples: window.samples, signal });
  const { toSample } = sounds;
  const pictures: FramePictures<Uint8Array | Float32Array> = separates
    ? new WindowPictures({ input, side, mask: null, toSample, signal })
    : new FramePictures<Float32Array>({
        input,
        reading: { ...WHOLE_FRAMES, signal },
        make: (p) => wholeFrame(p, side),
        toSample,
      });
  let begun = false;
  try {
    for await (const { place, left, right } of sounds.windows()) {
      if (!begun && !(await pictures.begin())) throw new FileError("SL_FILE_NOT_MEDIA", `${input} has no pictures`);
      begun = true;
      const seen = await pictures.window(place.frame, window.frames);
      yield separates
        ? windowTensors(card, { pictures: seen as Uint8Array[], left, right }).tensors
        : activationTensors(card, { pictures: seen, left, right });
    }
  } finally {
    pictures.close();
  }
}
