import { createWriteStream } from "node:fs";
import { RATIO } from "../model/paper/gains.js";
import { type PresetName, presets } from "../model/paper/presets.js";
import { FRAME_RATE } from "../model/paper/sizes.js";
import type { PaperWindow } from "../model/paper/window.js";
import { Resampler } from "../pipeline/resample.js";
import { AudioTimeline } from "../pipeline/timeline.js";
import { SAMPLE_RATE } from "../pipeline/types.js";
import { ActivationHeat, ActivationWriter, insetOf } from "./cam-map.js";
import { FileError } from "./errors.js";
import { JobLog } from "./job-log.js";
import type { MuxSound } from "./mux.js";
import { OWN_MAPS, type Results } from "./part-file.js";
import { readSound } from "./readers.js";
import { RecentSound } from "./recent-sound.js";
import type { SecondMap, SeparateOptions, SeparateReport } from "./separate-file.js";
import { writeVideos } from "./videos.js";
import { WavWriter } from "./wav.js";
import { GainOutput, PaperOutput, type WindowOutput } from "./window-output.js";
import { WindowPictures } from "./window-pictures.js";
import { type Place, WindowPlan } from "./window-plan.js";

/** Separates a file with a model that is called with whole windows (Owens & Efros 2018); memory does not grow with the length. */
export class WindowJob {
  readonly #o: SeparateOptions;
  readonly #model: PaperWindow;
  readonly #results: Results;
  readonly #log: JobLog;
  readonly #plan: WindowPlan;
  readonly #resampler = new Resampler(RATIO.up, RATIO.down);
  readonly #modes: Record<string, number> = {};
  #windows = 0;
  #engineMs = 0;
  #seen = false;
  #sound: MuxSound | null = null;

  /** @throws FileError SL_FILE_MODEL when the model cannot do it */
  constructor(options: SeparateOptions, model: PaperWindow, results: Results) {
    const { paper } = model.card;
    const name = `model ${model.card.name} (preset ${paper.preset})`;
    if (!model.separates)
      throw new FileError(
        "SL_FILE_MODEL",
        `${name} has no u-net: it tells whether sound and picture belong together, it cannot separate; ` +
          "import a checkpoint with --preset full, large, static, scratch, mono, no-audio or unet_pit",
      );
    if (options.cam && !options.camModel && !model.sees)
      throw new FileError("SL_FILE_MODEL", `${name} sees no pictures, so it has no class activation map for --cam`);
    this.#o = options;
    this.#model = model;
    this.#results = results;
    this.#log = new JobLog(options);
    // The release moves on by half of its declared seconds, which is a little more than half of its frames.
    const seconds = presets[paper.preset as PresetName]?.seconds ?? paper.window.frames / FRAME_RATE;
    const half = Math.max(paper.window.frames, seconds * FRAME_RATE) / 2;
    this.#plan = new WindowPlan(paper.window, options.releaseExact ? half : paper.window.frames / 2);
  }

  async separate(): Promise<void> {
    const { input, signal, mask = null } = this.#o;
    // A second network draws its own map.
    const ownMaps = this.#o.cam && !this.#o.camModel;
    const { paper } = this.#model.card;
    const sound = readSound(input, signal);
    const timeline = new AudioTimeline();
    const toSample = (ptsMs: number): number => timeline.toSample(BigInt(Math.round(ptsMs * 1e6)))!;
    const pictures = this.#model.sees ? new WindowPictures({ input, side: paper.side, mask, toSample, signal }) : null;
    const highlights = createWriteStream(this.#results.part("highlight.jsonl"));
    // An error of the stream is seen at its end; without a listener it would end the process before.
    let highlightError: Error | null = null;
    highlights.on("error", (error) => {
      highlightError = error;
    });
    const maps = ownMaps ? await ActivationWriter.open(this.#results.part(OWN_MAPS)) : null;
    const writers: WavWriter[] = [];
    try {
      const first = await sound.next();
      if (first === null) throw new FileError("SL_FILE_NO_SOUND", `${input} has no sound to separate`);
      const recent = new RecentSound(first.channels.length, 3 * this.#plan.covered + 4 * SAMPLE_RATE);
      const output = this.#output(first.channels.length);
      for (const name of ["onscreen.wav", "offscreen.wav"])
        writers.push(await WavWriter.open(this.#results.part(name), output.channels));
      const drain = async (): Promise<void> => {
        const stems = output.take();
        if (stems === null) return;
        await writers[0]!.write(stems.on);
        await writers[1]!.write(stems.off);
      };

      let blind = false;
      // For measurements: the first picture stands for all.
      const isHeld = this.#o.evaluate?.picture === "frozen";
      let held: Uint8Array | null = null;
      const runWindows = async (final: boolean): Promise<void> => {
        if (blind) return;
        const margin = final ? 0 : this.#margin;
        for (let p = this.#plan.next(recent.end - margin, final); p !== null; ) {
          const seen = (await pictures?.window(p.frame, paper.window.frames)) ?? null;
          held ??= seen?.[0] ?? null;
          const shown = isHeld && seen !== null ? seen.map(() => held!) : seen;
          const result = await this.#run(p, recent, shown);
          output.accept(p, result.voices!, result.gain);
          if (result.cam !== null) await maps?.write(p, result.cam);
          highlights.write(`${JSON.stringify(lineOf(p, result.logit))}\n`);
          await drain();
          this.#log.throwIfStopped();
          p = this.#plan.next(recent.end - margin, final);
        }
      };

      let jumps = 0;
      for (let piece: typeof first | null = first; piece !== null; piece = await sound.next()) {
        const { blocks, events } = timeline.push({
          ptsNs: BigInt(Math.round(piece.ptsMs * 1e6)),
          channels: piece.channels,
        });
        jumps += events.filter((e) => e.type === "discontinuity").length;
        if (piece === first && pictures !== null) {
          this.#seen = await pictures.begin();
          blind = !this.#seen;
          if (blind) this.#withoutPictures(output);
        }
        for (const block of blocks) {
          recent.push(block.channels);
          output.push(block);
        }
        await runWindows(false);
        if (blind) await drain();
        this.#log.progress("separate", recent.end / SAMPLE_RATE, sound.declaredSeconds);
        this.#log.throwIfStopped();
      }
      // A reader that was stopped ends as at the end of a file.
      this.#log.throwIfStopped();
      const { end } = recent;
      if (!blind && end < this.#plan.covered) {
        const [has, needs] = [end, this.#plan.covered].map((n) => (n / SAMPLE_RATE).toFixed(2));
        throw new FileError(
          "SL_FILE_TOO_SHORT",
          `${input} has ${has} s of sound; a window of this model has ${needs} s`,
        );
      }
      await runWindows(true);
      output.finish();
      await drain();
      await Promise.all(writers.map((w) => w.finish()));
      await maps?.finish();
      await new Promise<void>((resolve) => highlights.end(() => resolve()));
      if (highlightError !== null) throw new FileError("SL_FILE_OUTPUT", `highlight.jsonl: ${String(highlightError)}`);

      const kept = writers[this.#o.keep === "off-screen" ? 1 : 0]!;
      this.#sound = {
        wav: kept.path,
        channels: kept.channels,
        samples: kept.samples,
        atSample: Math.round((Number(timeline.toPtsNs(0)) * SAMPLE_RATE) / 1e9),
      };
      const heard = kept.samples / SAMPLE_RATE;
      const declared = sound.declaredSeconds;
      this.#log.faults({ sound: sound.fault, picture: pictures?.fault ?? null, heard, declared, jumps });
      this.#log.progress("separate", heard, heard, true);
    } finally {
      sound.close();
      pictures?.close();
      highlights.destroy();
      await maps?.abandon();
      await Promise.all(writers.map((w) => w.abandon()));
    }
  }

  get log(): JobLog {
    return this.#log;
  }

  async writeVideos(encoder: string | null, second: SecondMap | null): Promise<void> {
    const sound = this.#sound!;
    const { side, window } = this.#model.card.paper;
    if (this.#seen || !this.#model.sees)
      await writeVideos(this.#o, this.#log, this.#results, {
        sound,
        encoder,
        heat: () =>
          new ActivationHeat(this.#results.part(OWN_MAPS), {
            inset: insetOf(side),
            frames: window.frames,
            limit: this.#o.camLimit ?? null,
          }),
        ...second,
      });
    await this.#results.drop(OWN_MAPS);
  }

  report(): Omit<SeparateReport, "files"> {
    const { card, engines } = this.#model;
    this.#log.engine(engines);
    return {
      seconds: this.#sound!.samples / SAMPLE_RATE,
      samples: this.#sound!.samples,
      channels: this.#sound!.channels,
      model: `${card.name} ${card.version}`,
      engine: engines.label,
      steps: this.#windows,
      modes: this.#modes,
      engineMs: Math.round(this.#engineMs),
      wallSeconds: this.#log.wallSeconds,
      warnings: this.#log.warnings,
    };
  }

  #output(channels: number): WindowOutput {
    const { paper, releaseExact = false, keep = "on-screen", strengthPercent = 100 } = this.#o;
    if (paper || releaseExact) return new PaperOutput({ releaseExact });
    return new GainOutput(this.#plan, channels, { keep, strengthPercent });
  }

  /** Gains of 1 are always there; predicted sound without pictures is not. */
  #withoutPictures(output: WindowOutput): void {
    const { input } = this.#o;
    if (!(output instanceof GainOutput))
      throw new FileError("SL_FILE_MODEL", `${input} has no pictures; --paper needs them with this model`);
    this.#log.warn("SL_FILE_NO_PICTURE", `${input} has no pictures: the sound is left as it is`);
    output.bypass("SL_FILE_NO_PICTURE");
    this.#modes.SL_FILE_NO_PICTURE = 1;
  }

  /** Sound after what its spectrum covers on which a window depends. */
  get #margin(): number {
    const { samples } = this.#model.card.paper.window;
    return Math.max(0, this.#resampler.inputLength(samples) - this.#resampler.reach - this.#plan.covered);
  }

  async #run({ atSample }: Place, recent: RecentSound, pictures: readonly Uint8Array[] | null) {
    const { samples } = this.#model.card.paper.window;
    const { reach } = this.#resampler;
    const length = this.#resampler.inputLength(samples);
    const [left, right] = [0, 1].map((c) => {
      const channel = Math.min(c, recent.channels - 1);
      return this.#resampler.run(recent.copy(channel, atSample - reach, length), reach, samples);
    });
    const mixture = this.#o.releaseExact ? "left" : "mean";
    const result = await this.#model.run({ pictures, left: left!, right: right! }, mixture);
    this.#windows += 1;
    this.#engineMs += result.engineMs;
    this.#modes.separated = (this.#modes.separated ?? 0) + 1;
    return result;
  }
}

/** A line of highlight.jsonl: no faces are looked for; the logit says how well sound and picture of the window fit. */
function lineOf({ from }: Place, logit: number | null): object {
  const seconds = Math.round((from / SAMPLE_RATE) * 1000) / 1000;
  const fit = logit === null ? {} : { logit: Math.round(logit * 1000) / 1000 };
  return { seconds, atSample: from, mode: "separated", reason: null, faces: [], ...fit };
}
