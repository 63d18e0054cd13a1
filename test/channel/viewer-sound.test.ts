import { suite } from "uvu";
import * as assert from "uvu/assert";
import { SoundDecoder } from "../../src/channel/decode.js";
import { opusCaps } from "../../src/channel/source/flv-units.js";
import { type StemFrame, ViewerSound } from "../../src/channel/viewer-sound.js";
import type { AudioBlock } from "../../src/pipeline/types.js";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import type { ViewerStem } from "../../src/transport/ipc/messages.js";
import { withThreads } from "../gst/threads.js";
import { until } from "./support.js";

withThreads();
const test = suite("sound for viewers");
test.after(() => stopAllPipelines());

const BLOCK = 480;
const BLOCKS = 100;

function tone(block: number, hertz: number, amplitude: number): AudioBlock {
  const atSample = block * BLOCK;
  const plane = Float32Array.from(
    { length: BLOCK },
    (_, i) => amplitude * Math.sin((2 * Math.PI * hertz * (atSample + i)) / 48_000),
  );
  return { atSample, channels: [plane, plane] };
}

/** Root mean square of what a player hears of these packets, the encoder's first 100 ms left out. */
async function loudness(frames: readonly StemFrame[]): Promise<number> {
  let [sum, count] = [0, 0];
  const decoder = new SoundDecoder(
    ({ ptsMs, channels }) => {
      if (ptsMs < 100) return;
      for (const value of channels[0]!) sum += value * value;
      count += channels[0]!.length;
    },
    { onFault: (fault) => assert.unreachable(String(fault.message)) },
  );
  const format = { codec: "Opus" as const, caps: opusCaps(2) };
  for (const { atSample, data } of frames) decoder.push({ kind: "sound", ptsMs: atSample / 48, data, format });
  await until(() => count > 0.7 * BLOCK * BLOCKS, 5000, "the decoded sound");
  decoder.close();
  return Math.sqrt(sum / count);
}

test("each stem is what it says, and only what is wanted is encoded", async () => {
  const frames: Record<ViewerStem, StemFrame[]> = { clean: [], input: [], removed: [] };
  const sound = new ViewerSound(
    (frame) => frames[frame.stem].push(frame),
    (fault) => assert.unreachable(fault.message),
  );
  const push = (block: number): void =>
    sound.push({ kept: tone(block, 880, 0.1), removed: sound.needsRemoved ? tone(block, 440, 0.3) : null });
  for (let i = 0; i < 20; i++) push(i);
  assert.not.ok(sound.needsRemoved);
  sound.want(["clean"]);
  assert.not.ok(sound.needsRemoved, "the cleaned programme alone needs no second rendering");
  sound.want(["clean", "input", "removed"]);
  assert.ok(sound.needsRemoved);
  for (let i = 0; i < BLOCKS; i++) push(i);
  await until(() => Object.values(frames).every((f) => f.length >= 45), 5000, "the packets");
  const heard = {
    clean: await loudness(frames.clean),
    input: await loudness(frames.input),
    removed: await loudness(frames.removed),
  };
  const expected = {
    clean: 0.1 * Math.SQRT1_2,
    input: Math.hypot(0.1, 0.3) * Math.SQRT1_2,
    removed: 0.3 * Math.SQRT1_2,
  };
  for (const stem of ["clean", "input", "removed"] as const)
    assert.ok(
      Math.abs(heard[stem] / expected[stem] - 1) < 0.05,
      `${stem}: ${heard[stem].toFixed(4)}, not ${expected[stem].toFixed(4)}`,
    );
  sound.close();
});

test.run();
