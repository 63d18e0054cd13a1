import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "./numbers.js";
import { decodeSounds, type Pcm, soundShiftMs } from "./sound.js";
import { compareVideo, type Taker, type VideoComparison } from "./taker.js";

/** Where clips are kept between runs: made again when they are gone. */
export function clipFolder(): string {
  const folder = join(tmpdir(), "sightline-bench");
  mkdirSync(folder, { recursive: true });
  return folder;
}

export type Comparison = {
  readonly video: VideoComparison;
  /** The parameter sets at the output are those of the input, byte for byte. */
  readonly sameConfig: boolean;
  /** Constant by which the output's timestamps of pictures are later than the input's. */
  readonly pictureShiftMs: number;
  readonly input: Pcm;
  readonly output: Pcm;
  /** Lip-sync error added, every 5 s: shift of the sound minus shift of the picture. Positive: the sound has become late. */
  readonly lipSyncMs: readonly number[];
};

/** Compares what a channel let out with what went in. The sound at the output must have no gap in its timestamps. */
export async function compare(input: Taker, output: Taker): Promise<Comparison> {
  // The takers may still be taking.
  const [soundsIn, soundsOut] = [[...input.sounds], [...output.sounds]];
  const video = compareVideo(input.pictures, output.pictures);
  const pictureShiftMs = median(video.ptsShiftMs);
  const before = await decodeSounds(soundsIn, configOf(input));
  const after = await decodeSounds(soundsOut, configOf(output));
  const lipSyncMs: number[] = [];
  const [first, last] = [soundsOut[0]!, soundsOut.at(-1)!];
  for (let at = first.ptsMs - pictureShiftMs + 1000; at < last.ptsMs - pictureShiftMs - 3000; at += 5000) {
    const shift = soundShiftMs(before, after, at, pictureShiftMs);
    if (shift !== null) lipSyncMs.push(shift - pictureShiftMs);
  }
  const sameConfig = output.avcConfigs.every((c) => input.avcConfigs.some((i) => i.equals(c)));
  return { video, sameConfig, pictureShiftMs, input: before, output: after, lipSyncMs };
}

function configOf(taker: Taker): Buffer {
  const [first] = taker.aacConfigs;
  if (first === undefined) throw new Error("no sound came");
  if (taker.aacConfigs.some((c) => !c.equals(first))) throw new Error("the sound's format changed");
  return first;
}
