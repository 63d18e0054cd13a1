import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { z } from "zod";
import { OnnxEngine, tensor } from "../../src/model/engines/onnxruntime.js";
import { StepNetwork } from "../../src/model/inference/step-network.js";
import { initialStates } from "../../src/model/initial-states.js";
import { loadedFrom, makeLive } from "../../src/model/live/build.js";
import { clockOf, liveConfig, UNIT } from "../../src/model/live/config.js";
import { voiceGraph } from "../../src/model/live/graph.js";
import { readWeights } from "../../src/model/weights.js";
import { liveShapes, noise, noiseWeights } from "./noise.js";

const segmentsOf = z.array(z.object({ units: z.int(), picture: z.int(), memory: z.int() }));

/** What attribution tells of each picture. */
const TOLD = ["confidence", "lips", "belief", "fit", "speaker"] as const;

/** One network: what PyTorch gave (file of train/parity_live.py) and, unless it is hashed noise, its weights. */
function compare(path: string, weightPath?: string): void {
  const { tensors: expected, notes } = readWeights(readFileSync(path), path);
  const config = liveConfig.parse(JSON.parse(notes.config!));
  const { bins, frames } = clockOf(config.separator);
  const segments = segmentsOf.parse(JSON.parse(notes.segments!));
  const weights = weightPath ? readWeights(readFileSync(weightPath), weightPath).tensors : noiseWeights(notes.shapes!);

  const units = segments.reduce((n, s) => n + s.units, 0);
  const sound = Float32Array.from(noise("sound", units * UNIT), (v, i) => v * 0.3 * Math.abs(Math.sin(i * 0.0005)));
  const crops = Uint8Array.from(noise("crops", units * config.side ** 2), (v) => Math.floor(v * 60 + 128));
  const memory = Float32Array.from(noise("memory", config.edim));

  /** Runs everything in calls of `chunk` units; gives gain and rest, frame after frame, and what is told of each picture, voice by voice. */
  async function stream(
    chunk: number,
  ): Promise<{ gain: Float32Array; rest: Float32Array; told: Record<(typeof TOLD)[number], Float32Array> }> {
    const network = await StepNetwork.open(model, { threads: 1 });
    const cells = units * frames * bins;
    const [one, two] = [() => new Float32Array(units), () => new Float32Array(2 * units)];
    const size = config.attribution?.speaker ?? 0;
    const told = {
      confidence: one(),
      lips: one(),
      belief: two(),
      fit: two(),
      speaker: new Float32Array(2 * units * size),
    };
    const out = { gain: new Float32Array(cells), rest: new Float32Array(cells), told };
    let states = initialStates(model.card.states);
    let at = 0;
    for (const s of segments) {
      for (let done = 0; done < s.units; ) {
        const n = Math.min(chunk, s.units - done);
        const side = config.side;
        // Without a picture the crops must not matter: bright noise in its place.
        const pictures = s.picture
          ? crops.slice(at * side * side, (at + n) * side * side)
          : new Uint8Array(n * side * side).fill(255);
        const y = await network.run(states, {
          samples: tensor(sound.slice(at * UNIT, (at + n) * UNIT), [1, n * UNIT]),
          crops: tensor(pictures, [1, n, side, side]),
          has_picture: tensor(Float32Array.of(s.picture), [1, 1]),
          memory: tensor(memory, [1, config.edim]),
          has_memory: tensor(Float32Array.of(s.memory), [1, 1]),
        });
        assert.equal(y.gain!.dims, [1, n * frames, bins]);
        out.gain.set(y.gain!.data as Float32Array, at * frames * bins);
        out.rest.set(y.rest!.data as Float32Array, at * frames * bins);
        for (const name of TOLD) {
          const data = y[name]?.data as Float32Array | undefined;
          const each = name === "speaker" ? size : 1;
          for (let v = 0; data !== undefined && v < data.length / n / each; v++)
            told[name].set(data.subarray(v * n * each, (v + 1) * n * each), (v * units + at) * each);
        }
        states = Object.fromEntries(model.card.states.map((q) => [q.name, y[`${q.name}_next`]!]));
        at += n;
        done += n;
      }
    }
    await network.close();
    return out;
  }

  function farthest(got: Float32Array, name: "gain" | "rest"): number {
    const want = expected.get(name)!.data;
    const every = Number(notes.every);
    const columns = Math.ceil(bins / every);
    assert.is(want.length, units * frames * columns);
    let most = 0;
    for (let t = 0; t < units * frames; t++)
      for (let k = 0; k < columns; k++)
        most = Math.max(most, Math.abs(got[t * bins + k * every]! - want[t * columns + k]!));
    return most;
  }

  const test = suite(`live graph against PyTorch, ${config.separator.kind}`);
  const made = makeLive(
    { tensors: weights, notes: { config: JSON.stringify(config) } },
    { name: "parity", version: "1" },
  );
  const model = loadedFrom(made, "parity");

  for (const chunk of [1, 5, 3]) {
    test(`streamed in calls of ${chunk} units it gives the masks of one pass in PyTorch, with picture and memory switched on the way`, async () => {
      const got = await stream(chunk);
      const [a, b] = [farthest(got.gain, "gain"), farthest(got.rest, "rest")];
      if (process.env.SIGHTLINE_PARITY)
        console.log(`calls of ${chunk}: gain ${a.toExponential(1)}, rest ${b.toExponential(1)}`);
      assert.ok(a < 1e-4 && b < 1e-4, `gain ${a}, rest ${b}`);
      assert.is(expected.has("fit"), config.attribution !== undefined);
      assert.is(expected.has("speaker"), (config.attribution?.speaker ?? 0) > 0);
      for (const name of TOLD)
        expected.get(name)?.data.forEach((c, i) => {
          assert.ok(Math.abs(c - got.told[name][i]!) < 1e-4, `${name} ${i}: ${got.told[name][i]}, expected ${c}`);
        });
    });
  }

  test("the voice memory is PyTorch's", async () => {
    const engine = await OnnxEngine.open(voiceGraph(config, weights).bytes, { threads: 1 });
    const { memory: got } = await engine.run({ samples: tensor(sound, [1, sound.length]) });
    await engine.close();
    const want = expected.get("voice")!.data;
    const most = Math.max(...want.map((v, i) => Math.abs(v - (got!.data as Float32Array)[i]!)));
    if (process.env.SIGHTLINE_PARITY) console.log(`voice: ${most.toExponential(1)}`);
    assert.ok(most < 1e-4, `off by ${most}`);
  });

  test("the graph uses every trained tensor and needs no other", () => {
    if (weightPath) return;
    assert.equal(Object.fromEntries([...weights].map(([k, v]) => [k, v.shape])), liveShapes(config));
  });

  test.run();
}

/** Other sizes: SIGHTLINE_PARITY=file.safetensors, and SIGHTLINE_PARITY_WEIGHTS=weights.safetensors for a trained model. */
if (process.env.SIGHTLINE_PARITY) compare(process.env.SIGHTLINE_PARITY, process.env.SIGHTLINE_PARITY_WEIGHTS);
else for (const kind of ["band", "lite", "blind"]) compare(`test/model/fixtures/${kind}.safetensors`);
