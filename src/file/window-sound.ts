import { RATIO } from "../model/paper/gains.js";
import { Resampler } from "../pipeline/resample.js";
import { AudioTimeline } from "../pipeline/timeline.js";
import { SAMPLE_RATE } from "../pipeline/types.js";
import { FileError } from "./errors.js";
import { readSound } from "./readers.js";
import { RecentSound } from "./recent-sound.js";
import type { Place, WindowPlan } from "./window-plan.js";

export type WindowSoundOptions = {
  readonly input: string;
  readonly plan: WindowPlan;
  /** Of a window, at the model's 21 kHz. */
  readonly samples: number;
  readonly signal?: AbortSignal | undefined;
  /** Told how far the file was read, in seconds. */
  readonly onProgress?: (seconds: number, ofSeconds: number | null) => void;
};

/** Both channels of a window at 21 kHz; mono sound is given twice. */
export type WindowSound = { readonly place: Place; readonly left: Float32Array; readonly right: Float32Array };

/** The sound of a file window by window, for who makes no sound of it (WindowJob, which does, has a loop of its own). Memory does not grow. */
export class WindowSounds {
  readonly #o: WindowSoundOptions;
  readonly #timeline = new AudioTimeline();

  constructor(options: WindowSoundOptions) {
    this.#o = options;
  }

  /** Time of a picture to its sample at 48 kHz; known once the first window was given. */
  readonly toSample = (ptsMs: number): number => this.#timeline.toSample(BigInt(Math.round(ptsMs * 1e6)))!;

  /** @throws FileError SL_FILE_NO_SOUND; SL_FILE_TOO_SHORT when there is not one whole window */
  async *windows(): AsyncGenerator<WindowSound> {
    const { input, plan, samples, signal, onProgress } = this.#o;
    const sound = readSound(input, signal);
    const resampler = new Resampler(RATIO.up, RATIO.down);
    const length = resampler.inputLength(samples);
    const margin = Math.max(0, length - resampler.reach - plan.covered);
    let recent: RecentSound | null = null;
    try {
      for (;;) {
        const piece = await sound.next();
        if (piece !== null) {
          recent ??= new RecentSound(piece.channels.length, 3 * plan.covered + 4 * SAMPLE_RATE);
          const ptsNs = BigInt(Math.round(piece.ptsMs * 1e6));
          for (const block of this.#timeline.push({ ptsNs, channels: piece.channels }).blocks)
            recent.push(block.channels);
        }
        if (recent === null) throw new FileError("SL_FILE_NO_SOUND", `${input} has no sound`);
        const final = piece === null;
        if (final && recent.end < plan.covered) {
          const [has, needs] = [recent.end, plan.covered].map((n) => (n / SAMPLE_RATE).toFixed(2));
          throw new FileError(
            "SL_FILE_TOO_SHORT",
            `${input} has ${has} s of sound; a window of this model has ${needs} s`,
          );
        }
        const end = final ? recent.end : recent.end - margin;
        for (let place = plan.next(end, final); place !== null; place = plan.next(end, final)) {
          const [left, right] = [0, Math.min(1, recent.channels - 1)].map((c) =>
            resampler.run(recent!.copy(c, place!.atSample - resampler.reach, length), resampler.reach, samples),
          );
          yield { place, left: left!, right: right! };
        }
        onProgress?.(recent.end / SAMPLE_RATE, sound.declaredSeconds);
        if (final) return;
      }
    } finally {
      sound.close();
    }
  }
}
