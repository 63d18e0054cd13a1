import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { SoundDecoder } from "../../src/channel/decode.js";
import { opusCaps } from "../../src/channel/source/flv-units.js";
import type { AccessUnit } from "../../src/transport/webrtc/h264-depacketizer.js";
import { until } from "../channel/support.js";

/** What a peer got of an H.264 and an Opus track; timestamps as they came. */
export type Received = {
  readonly units: readonly AccessUnit[];
  readonly sounds: readonly { readonly timestamp: number; readonly data: Buffer }[];
};
/** Milliseconds that the timestamps of both tracks stand for. */
export type Times = { picture(ticks: number): number; sound(ticks: number): number };

/** Louder is a beep: of these clips only the beeps are. */
const LOUD = 0.15;
/** Mean luma of a picture that is a flash. */
const LIGHT = 170;
/** A beep belongs to the flash that is nearer than this. */
const NEAR_MS = 400;
const START_CODE = Buffer.from([0, 0, 0, 1]);

/** When a flash was, and how much later its beep; milliseconds. */
export type Flash = { readonly atMs: number; readonly soundLaterMs: number };

/** Each flash that has a beep, by decoding both tracks. */
export async function lipSync(received: Received, times: Times): Promise<Flash[]> {
  const beeps = await beepsMs(received, times);
  const flashes = flashesMs(received, times);
  return flashes.flatMap((flash) => {
    const beep = beeps.find((b) => Math.abs(b - flash) < NEAR_MS);
    return beep === undefined ? [] : [{ atMs: flash, soundLaterMs: beep - flash }];
  });
}

async function beepsMs({ sounds }: Received, times: Times): Promise<number[]> {
  const beeps: number[] = [];
  let [decoded, lastLoud] = [0, Number.NEGATIVE_INFINITY];
  const decoder = new SoundDecoder(
    ({ ptsMs, channels }) => {
      decoded += 1;
      for (const [i, value] of channels[0]!.entries()) {
        if (Math.abs(value) <= LOUD) continue;
        const atMs = ptsMs + i / 48;
        if (atMs - lastLoud > 500) beeps.push(atMs);
        lastLoud = atMs;
      }
    },
    { onFault: () => {} },
  );
  const format = { codec: "Opus" as const, caps: opusCaps(2) };
  const firstMs = times.sound(sounds[0]!.timestamp);
  for (const { timestamp, data } of sounds) {
    decoder.push({ kind: "sound", ptsMs: times.sound(timestamp) - firstMs, data, format });
    await sleep(1);
  }
  await until(() => decoded > sounds.length - 5, 5000, "the decoded sound");
  decoder.close();
  return beeps.map((ms) => ms + firstMs);
}

/** @throws Error when a picture cannot be decoded: which one would be a flash is not known then */
function flashesMs({ units }: Received, times: Times): number[] {
  const decode = ["-v", "error", "-f", "h264", "-i", "pipe:0", "-vsync", "passthrough"];
  const lumas = execFileSync(
    "ffmpeg",
    [...decode, "-vf", "scale=1:1:flags=area", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"],
    { input: Buffer.concat(units.flatMap(({ nals }) => nals.flatMap((nal) => [START_CODE, nal]))), timeout: 60_000 },
  );
  if (lumas.length !== units.length) throw new Error(`${units.length} pictures decoded to ${lumas.length}`);
  return units.flatMap(({ timestamp }, i) =>
    i > 0 && lumas[i]! > LIGHT && lumas[i - 1]! <= LIGHT ? [times.picture(timestamp)] : [],
  );
}
