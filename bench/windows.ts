import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { DecodedPicture } from "../src/channel/decode.js";
import { HOP_UNITS, latencyPlan, type Profile } from "../src/channel/latency.js";
import { geometryOf, modelStage } from "../src/channel/model-stage.js";
import { readPictures, readSound, type Track } from "../src/file/readers.js";
import { findModel } from "../src/model/cards.js";
import { LocalWindows } from "../src/model/inference/local-windows.js";
import type { WindowAnswer, WindowInference } from "../src/model/inference.js";
import { BUILT_IN_MODELS } from "../src/paths.js";
import { GainRenderer } from "../src/pipeline/gain-renderer.js";
import { AudioTimeline } from "../src/pipeline/timeline.js";
import { SAMPLE_RATE } from "../src/pipeline/types.js";
import { siSdr } from "./val/metrics.js";
import { makeMixture, type Pair, renderedPairs, validationPairs } from "./val/mixtures.js";

/**
 * A window model as channels run it (a window every hop, its trusted part, the same cutting and stitching, but without a clock), by how much of a
 * window's end is not trusted: mixtures at 0 dB of people it has not seen.
 *
 *     node dist/bench/windows.js --model DIR [--data DIR] [--rendered DIR] [--profile P] [--guards 0,150,300,600] [--limit N] [--out FILE.md]
 */
const { values } = parseArgs({
  options: {
    model: { type: "string" },
    data: { type: "string" },
    rendered: { type: "string" },
    profile: { type: "string", default: "balanced" },
    guards: { type: "string", default: "0,150,300,600" },
    limit: { type: "string" },
    seed: { type: "string", default: "1" },
    out: { type: "string" },
  },
});
const usage =
  "usage: node dist/bench/windows.js --model DIR [--data DIR] [--rendered DIR] [--profile low|balanced|quality] [--guards MS,MS] [--limit N] [--seed N] [--out FILE.md]";
if (values.model === undefined || (values.data === undefined && values.rendered === undefined)) {
  console.error(usage);
  process.exit(2);
}
const profile = values.profile as Profile;
if (!(profile in HOP_UNITS.window)) {
  console.error(usage);
  process.exit(2);
}
const guardsMs = values.guards.split(",").map(Number);

type Score = { readonly gain: number; readonly kept: boolean };
type Clip = {
  readonly sound: readonly Float32Array[];
  readonly pictures: readonly (Omit<DecodedPicture, "ptsMs"> & { readonly atSample: number })[];
};

async function all<T>(track: Track<T>): Promise<T[]> {
  const pieces: T[] = [];
  for (let piece = await track.next(); piece !== null; piece = await track.next()) pieces.push(piece);
  track.close();
  return pieces;
}

/** The clip as a channel's timeline has it. */
async function read(file: string): Promise<Clip> {
  const timeline = new AudioTimeline();
  const ns = (ms: number): bigint => BigInt(Math.round(ms * 1e6));
  const blocks = (await all(readSound(file))).flatMap(
    ({ ptsMs, channels }) => timeline.push({ ptsNs: ns(ptsMs), channels }).blocks,
  );
  const length = blocks.reduce((sum, b) => sum + b.channels[0]!.length, 0);
  const sound = blocks[0]!.channels.map(() => new Float32Array(length));
  for (const { atSample, channels } of blocks)
    for (const [c, plane] of channels.entries()) sound[c]!.set(plane, atSample);
  const pictures = (await all(readPictures(file))).map(({ ptsMs, ...picture }) => ({
    ...picture,
    atSample: timeline.toSample(ns(ptsMs))!,
  }));
  return { sound, pictures };
}

/** On-screen sound, mono, of a channel whose windows have this guard; the same windows are asked for once. */
async function live(
  { sound, pictures }: Clip,
  model: LocalWindows,
  guardMs: number,
  answers: Map<number, Promise<WindowAnswer>>,
): Promise<Float32Array> {
  const guardSamples = Math.round((guardMs * SAMPLE_RATE) / 1000);
  const inference: WindowInference = {
    card: { ...model.card, paper: { ...model.card.paper, guardSamples } },
    window: (request) => {
      const known = answers.get(request.atSample) ?? model.window(request);
      answers.set(request.atSample, known);
      return known;
    },
    close: () => model.close(),
  };
  const stage = modelStage(inference, "bench", { whenNobodyVisible: "keep", whenVisibleSilent: "reduce" });
  const length = sound[0]!.length;
  const renderer = new GainRenderer({
    model: geometryOf(inference),
    channels: sound.length,
    ringSamples: length + SAMPLE_RATE,
  });
  renderer.pushAudio({ atSample: 0, channels: sound });
  const runner = stage.runner(renderer);
  const hopUnits = HOP_UNITS.window[profile];
  let shown = 0;
  for (let step = renderer.nextStep(hopUnits); step !== null; step = renderer.nextStep(hopUnits)) {
    const end = step.atSample + step.samples.length;
    while (shown < pictures.length && pictures[shown]!.atSample <= end) stage.pictures.push(pictures[shown++]!);
    const [outcome] = await runner.run(step);
    const failure = outcome?.failure ?? null;
    if (failure !== null) throw new Error(`a window failed: ${failure}`);
  }
  const { kept } = renderer.render(renderer.gainsUntil)!;
  return Float32Array.from(kept.channels[0]!, (_, n) =>
    kept.channels.reduce((sum, c) => sum + c[n]! / sound.length, 0),
  );
}

async function evaluate(pair: Pair, model: LocalWindows): Promise<Score[]> {
  const folder = mkdtempSync(join(tmpdir(), "sightline-windows-"));
  try {
    const { file, on, off } = makeMixture(pair, join(folder, "mixture.mov"));
    const clip = await read(file);
    const answers = new Map<number, Promise<WindowAnswer>>();
    const scores: Score[] = [];
    for (const guardMs of guardsMs) {
      const sound = await live(clip, model, guardMs, answers);
      const [want, other] = [on, off].map((x) => x.subarray(0, sound.length));
      const mix = Float32Array.from(want!, (v, n) => v + other![n]!);
      scores.push({
        gain: siSdr(sound, want!) - siSdr(mix, want!),
        kept: siSdr(sound, want!) > siSdr(sound, other!),
      });
    }
    return scores;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const begin = performance.now();
const model = await LocalWindows.open(await findModel(values.model, BUILT_IN_MODELS), { threads: 2 });
const every = [
  ...(values.data === undefined ? [] : validationPairs(values.data, Number(values.seed))),
  ...(values.rendered === undefined ? [] : renderedPairs(values.rendered)),
];
const count = values.limit === undefined ? every.length : Math.min(every.length, Number(values.limit));
const pairs = Array.from({ length: count }, (_, i) => every[Math.floor((i * every.length) / count)]!);
const results: Score[][] = [];
for (const pair of pairs) {
  results.push(await evaluate(pair, model));
  process.stderr.write(
    `${results.length}/${pairs.length}\t${pair.name}\t${results
      .at(-1)!
      .map((s) => s.gain.toFixed(2))
      .join("\t")}\n`,
  );
}
const percent = (values: readonly boolean[]): string =>
  `${Math.round((100 * values.filter(Boolean).length) / values.length)} %`;
const lines = [
  "| guard (ms) | declared latency (ms) | SI-SDR improvement (dB) | above 0 | kept |",
  "| --- | --- | --- | --- | --- |",
  ...guardsMs.map((guardMs, g) => {
    const scores = results.map((r) => r[g]!);
    const mean = scores.reduce((sum, s) => sum + s.gain, 0) / scores.length;
    const card = { ...model.card, paper: { ...model.card.paper, guardSamples: (guardMs * SAMPLE_RATE) / 1000 } };
    const { declaredMs } = latencyPlan(profile, geometryOf({ ...model, card } as WindowInference));
    return `| ${guardMs} | ${declaredMs} | ${mean.toFixed(2)} | ${percent(scores.map((s) => s.gain > 0))} | ${percent(scores.map((s) => s.kept))} |`;
  }),
  "",
  `Model ${model.card.name} ${model.card.version}, profile ${profile}, ${pairs.length} mixtures at 0 dB, seed ${values.seed}, ${Math.round((performance.now() - begin) / 1000)} s.`,
  "",
];
await model.close();
process.stdout.write(lines.join("\n"));
if (values.out !== undefined) writeFileSync(values.out, lines.join("\n"));
