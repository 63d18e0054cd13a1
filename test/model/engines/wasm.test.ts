import { suite } from "uvu";
import * as assert from "uvu/assert";
import { largestError, TOLERANCE } from "../../../src/model/engines/compare.js";
import { type Engine, tensor } from "../../../src/model/engines/engine.js";
import { cpu } from "../../../src/model/engines/onnxruntime.js";
import { wasm } from "../../../src/model/engines/wasm.js";
import { liveNets, paperNet } from "./support.js";

const test = suite("onnxruntime as WebAssembly");
const options = { threads: 1 };

test("gives what the CPU gives, on the shipped networks and the paper's small one", async () => {
  for (const { name, bytes, inputs } of [...(await liveNets()), paperNet()]) {
    const [near, far] = [await cpu.open(bytes, options), await wasm.open(bytes, options)];
    assert.is(far.name, "wasm");
    assert.match(far.label, /^onnxruntime-web 1\./);
    assert.equal([...far.inputNames].sort(), [...near.inputNames].sort());
    const [want, first] = [await near.run(inputs), await far.run(inputs)];
    const again = await far.run(inputs);
    assert.ok(largestError(first, want) <= 1e-4, `${name}: ${largestError(first, want)}`);
    assert.is(largestError(again, first), 0, "the first outputs stand although the engine ran again");
    await near.close();
    await far.close();
  }
});

test("refuses what it cannot run, with a code", async () => {
  const open = (bytes: Uint8Array): Promise<Engine> => wasm.open(bytes, options, "net");
  await open(new Uint8Array(100)).then(
    () => assert.unreachable(),
    (e) => {
      assert.is(e.code, "SL_ENGINE_UNAVAILABLE");
      assert.is(e.reason, "does-not-load");
    },
  );
  const engine = await open((await liveNets()).at(-1)!.bytes);
  await engine.run({ samples: tensor(new Float32Array(5), [5]) }).then(
    () => assert.unreachable(),
    (e) => {
      assert.is(e.code, "SL_INFERENCE_FAILED");
    },
  );
  await engine.close();
  await engine.close();
  await engine.run({}).then(
    () => assert.unreachable(),
    (e) => assert.match(e.message, /closed/),
  );
});

test("the comparison sees a wrong number, a missing output and what is not finite", () => {
  const of = (...v: number[]) => ({ y: tensor(Float32Array.from(v), [v.length]) });
  assert.is(largestError(of(1, 2), of(1, 2)), 0);
  assert.ok(Math.abs(largestError(of(1, 2.02), of(1, 2)) - 0.01) < 1e-6);
  assert.ok(largestError(of(0, 1e-9), of(0, 0)) <= TOLERANCE, "next to nothing is zero");
  for (const wrong of [{}, of(1), of(1, Number.NaN), of(Number.POSITIVE_INFINITY, 2)])
    assert.is(largestError(wrong, of(1, 2)), Number.POSITIVE_INFINITY);
});

test.run();
