import { createWriteStream } from "node:fs";
import { HOP_UNITS, lookAheadOf, MAX_LOOK_AHEAD_MS } from "../channel/latency.js";
import { type StepOutcome, StepRunner } from "../channel/step-runner.js";
import type { EngineReport } from "../model/engines/names.js";
import { FaceFollower } from "../model/faces/follower.js";
import type { Inference } from "../model/inference.js";
import { modeOf } from "../pipeline/face-policy.js";
import { GainRenderer } from "../pipeline/gain-renderer.js";
import { AudioTimeline } from "../pipeline/timeline.js";
import { type Highlight, SAMPLE_RATE } from "../pipeline/types.js";
import { FaceHeat } from "./cam.js";
import { FileError } from "./errors.js";
import { facesFor } from "./evaluate.js";
import { JobLog } from "./job-log.js";
import type { MuxSound } from "./mux.js";
import type { Results } from "./part-file.js";
import { PictureFeed } from "./picture-feed.js";
import { readPictures, readSound } from "./readers.js";
import type { SecondMap, SeparateOptions, SeparateReport } from "./separate-file.js";
import { writeVideos } from "./videos.js";
import { WavWriter } from "./wav.js";

let sessions = 0;

/** The job of a model that streams: the very steps of a live channel, without a clock. */
export class StreamJob {
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
    const { input, signal, keep = "on-screen", strengthPercent = 100, profile = "quality", evaluate = {} } = this.#o;
    const { lookAheadMs = this.#o.profile === undefined ? MAX_LOOK_AHEAD_MS : undefined } = this.#o;
    const { card } = this.#inference;
    const hopUnits = HOP_UNITS.stream[profile];
    const lookAheadUnits = lookAheadOf(profile, card, lookAheadMs);
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
      const renderer = new GainRenderer({ model: card, channels, controls: { keep, strengthPercent } });
      const [kept, removed] =
        keep === "on-screen" ? ["onscreen.wav", "offscreen.wav"] : ["offscreen.wav", "onscreen.wav"];
      const keptWav = await WavWriter.open(this.#results.part(kept!), channels);
      writers.push(keptWav);
      const removedWav = await WavWriter.open(this.#results.part(removed!), channels);
      writers.push(removedWav);
      const render = async (until: number): Promise<void> => {
        const rendered = renderer.render(until, { removed: true });
        if (rendered === null) return;
        await keptWav.write(rendered.kept.channels);
        await removedWav.write(rendered.removed!.channels);
      };

      const runner = new StepRunner({
        inference: this.#inference,
        session,
        faces: facesFor(evaluate, follower, card.unitSamples),
        renderer,
        policy: {},
        lookAheadUnits,
      });
      const feed = new PictureFeed(pictures, follower, timeline, this.#o.mask ?? null);
      const take = async (outcomes: Iterable<StepOutcome>): Promise<void> => {
        for (const outcome of outcomes) {
          if (outcome.failure !== null) {
            throw new FileError(
              "SL_INFERENCE_FAILED",
              `the model failed at ${(outcome.facesSample / SAMPLE_RATE).toFixed(1)} s (${outcome.failure})`,
            );
          }
          this.#note(outcome);
          highlights.write(`${JSON.stringify(highlightOf(outcome))}\n`);
          await render(renderer.gainsUntil);
        }
      };
      const runSteps = async (): Promise<void> => {
        if (!feed.seen) return;
        for (let step = renderer.nextStep(hopUnits); step !== null; step = renderer.nextStep(hopUnits)) {
          await feed.advanceTo(step.atSample / card.unitSamples + step.units - 1);
          await take(await runner.run(step));
        }
      };

      let jumps = 0;
      for (let piece: typeof first | null = first; piece !== null; piece = await sound.next()) {
        const { blocks, events } = timeline.push({
          ptsNs: BigInt(Math.round(piece.ptsMs * 1e6)),
          channels: piece.channels,
        });
        for (const event of events) {
          if (event.type !== "discontinuity") continue;
          jumps += 1;
          follower.reset();
          runner.beginAnew(event.atSample);
        }
        if (piece === first && !(await feed.begin())) {
          this.#log.warn("SL_FILE_NO_PICTURE", `${input} has no pictures: the sound is left as it is`);
          renderer.bypassFrom(0, "SL_FILE_NO_PICTURE");
          this.#modes.SL_FILE_NO_PICTURE = 1;
        }
        for (const block of blocks) renderer.pushAudio(block);
        await runSteps();
        if (!feed.seen) await render(renderer.soundUntil);
        const heard = renderer.pushedSamples / SAMPLE_RATE;
        this.#log.progress("separate", heard, sound.declaredSeconds);
        this.#log.throwIfStopped();
      }
      // A reader that was stopped ends as at the end of a file.
      this.#log.throwIfStopped();
      renderer.finish();
      await runSteps();
      await take(runner.finish());
      await render(renderer.pushedSamples);
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
    const mode = modeOf(decision) === "separated" ? "separated" : (decision?.reason ?? "bypass");
    this.#modes[mode] = (this.#modes[mode] ?? 0) + 1;
  }
}

const round = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits;

function highlightOf({
  decision,
  faces,
  facesSample: atSample,
}: StepOutcome): Highlight & { readonly seconds: number } {
  return {
    seconds: round(atSample / SAMPLE_RATE, 3),
    atSample,
    mode: modeOf(decision),
    reason: decision?.reason ?? null,
    faces: faces.map(({ id, box, score, speaking }) => ({
      id,
      box: { x: round(box.x, 4), y: round(box.y, 4), width: round(box.width, 4), height: round(box.height, 4) },
      score: round(score, 3),
      speaking: round(speaking, 3),
    })),
  };
}
