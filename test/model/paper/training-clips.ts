import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Clips that a network of 40 000 parameters can learn from in seconds: a lamp and a tone that go on and off together. */
const SIDE = 32;
const FPS = 30;
const RATE = 21_000;

/** Numbers in [0, 1), the same for the same seed. */
function random(seed: number): () => number {
  let state = seed * 7919 + 1;
  return () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return state / 2 ** 31;
  };
}

export type Lamp = {
  readonly seconds: number;
  readonly seed: number;
  /** Frequency of the tone. */
  readonly hz: number;
  /** Colour of the lamp while it is on. */
  readonly rgb: readonly [number, number, number];
};

/** Writes an mp4 with sound. Throws Error with ffmpeg's words. */
export function writeLamp(path: string, { seconds, seed, hz, rgb }: Lamp): void {
  const next = random(seed);
  const frames = Math.round(seconds * FPS);
  const on: boolean[] = [];
  while (on.length < frames) on.push(...new Array<boolean>(3 + Math.floor(next() * 8)).fill(!on.at(-1)));
  const video = Buffer.alloc(frames * SIDE * SIDE * 3, 40);
  for (let f = 0; f < frames; f++)
    if (on[f])
      for (let p = 0; p < SIDE * SIDE; p++) for (let c = 0; c < 3; c++) video[(f * SIDE * SIDE + p) * 3 + c] = rgb[c]!;
  const sound = Buffer.alloc(Math.round(seconds * RATE) * 2);
  for (let n = 0; n < sound.length / 2; n++) {
    const level = on[Math.min(frames - 1, Math.floor((n / RATE) * FPS))] ? 0.5 : 0.01;
    sound.writeInt16LE(Math.round(32767 * level * Math.sin((2 * Math.PI * hz * n) / RATE)), 2 * n);
  }
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.s16`, sound);
  const raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", `${SIDE}x${SIDE}`, "-r", String(FPS), "-i", "-"];
  const heard = ["-f", "s16le", "-ar", String(RATE), "-ac", "1", "-i", `${path}.s16`];
  const coded = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ar", "44100"];
  const done = spawnSync("ffmpeg", ["-v", "error", ...raw, ...heard, ...coded, "-y", path], { input: video });
  if (done.status !== 0) throw new Error(`ffmpeg: ${done.error?.message ?? done.stderr.toString()}`);
}

/** A folder as train/paper reads it: manifest.tsv, clips of `people` to train on and two to judge on. */
export function writeManifest(folder: string, people = 4, seconds = 4): void {
  const rows = ["id\tfile\tsplit\tdomain\tperson"];
  for (let i = 0; i < people + 2; i++) {
    const split = i < people ? "train" : "val";
    const file = `${split}/lamp${i}.mp4`;
    const rgb = [200 + 5 * i, 90 + 20 * i, 220] as const;
    writeLamp(join(folder, file), { seconds, seed: i + 1, hz: i % 2 ? 2500 : 300, rgb });
    rows.push([`lamp${i}`, file, split, "lamp", `person${i}`].join("\t"));
  }
  writeFileSync(join(folder, "manifest.tsv"), `${rows.join("\n")}\n`);
}

/** UCF-101's layout with two classes; group 1 is held out. */
export function writeClasses(folder: string): void {
  for (const [i, name] of ["High", "Low"].entries())
    for (const group of [1, 8, 9]) {
      const lamp = {
        seconds: 2,
        seed: 10 * group + i,
        hz: i ? 300 : 2500,
        rgb: [i ? 80 : 240, 120, i ? 240 : 80],
      } as const;
      writeLamp(join(folder, name, `v_${name}_g${String(group).padStart(2, "0")}_c01.mp4`), lamp);
    }
}
