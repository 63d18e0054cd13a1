import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { SAMPLE_RATE } from "../../src/pipeline/types.js";
import { random, speechRms } from "./metrics.js";

/** One visible person and one voice from off-screen. */
export type Pair = {
  readonly name: string;
  readonly domain: string;
  /** File whose picture is shown. */
  readonly picture: string;
  readonly onVoice: string;
  readonly offVoice: string;
  readonly seconds: number;
  /** m or f, null where not known. */
  readonly genders: readonly [string | null, string | null];
};

export type Mixture = { readonly file: string; readonly on: Float32Array; readonly off: Float32Array };

const LEAST_SECONDS = 4;
const MOST_SECONDS = 10;
const PEAK = 0.9;

export type Row = Readonly<Record<string, string>>;

/** Rows of a table with one line of column names. */
export function readTsv(path: string): Row[] {
  const [head, ...lines] = readFileSync(path, "utf8").trimEnd().split("\n");
  const names = head!.split("\t");
  return lines.map((line) => {
    const cells = line.split("\t");
    return Object.fromEntries(names.map((name, i) => [name, cells[i] ?? ""]));
  });
}

/** m or f, also where it is a guess; null: not known, or several people. */
export const gender = (text: string | undefined): string | null =>
  text !== undefined && /^[mf]\??$/.test(text) ? text[0]! : null;

/**
 * Pairs of the validation split: every clip of at least 4 s (but "meeting", where both voices are in the sound) with the voice of
 * another person, in turn from another clip and from the voices without picture. The same for the same seed and data.
 */
export function validationPairs(data: string, seed: number): Pair[] {
  const clips = readTsv(join(data, "manifest.tsv"))
    .filter((r) => r.split === "val" && r.domain !== "meeting" && Number(r.seconds) >= LEAST_SECONDS)
    .sort((a, b) => (a.id! < b.id! ? -1 : 1));
  const voices = readTsv(join(data, "audio", "manifest.tsv"))
    .filter((r) => r.split === "val" && r.kind === "speech" && Number(r.seconds) >= LEAST_SECONDS)
    .sort((a, b) => (a.id! < b.id! ? -1 : 1));
  const draw = random(seed);
  const pick = (rows: readonly Row[]): Row => rows[Math.floor(draw() * rows.length)]!;
  return clips.map((clip, i) => {
    const other = i % 2 === 0 ? pick(clips.filter((c) => c.person !== clip.person)) : pick(voices);
    return {
      name: clip.id!,
      domain: clip.domain!,
      picture: join(data, clip.file!),
      onVoice: join(data, clip.file!),
      offVoice: join(data, i % 2 === 0 ? "" : "audio", other.file!),
      seconds: Math.min(MOST_SECONDS, Number(clip.seconds)),
      genders: [gender(clip.gender), gender(other.gender)],
    };
  });
}

/** Folders with clip.mp4, on_screen.wav and off_screen.wav (render-heads.py, or the renderer's scene b). */
export function renderedPairs(folder: string): Pair[] {
  const names = readdirSync(folder).sort();
  return names
    .filter((name) => ["clip.mp4", "on_screen.wav", "off_screen.wav"].every((f) => existsSync(join(folder, name, f))))
    .map((name) => {
      const at = join(folder, name);
      const pair = existsSync(join(at, "pair.json"))
        ? (JSON.parse(readFileSync(join(at, "pair.json"), "utf8")) as { genders?: string })
        : {};
      return {
        name,
        domain: "rendered",
        picture: join(at, "clip.mp4"),
        onVoice: join(at, "on_screen.wav"),
        offVoice: join(at, "off_screen.wav"),
        seconds: MOST_SECONDS,
        genders: [gender(pair.genders?.[0]), gender(pair.genders?.[1])],
      };
    });
}

/** Mono at 48 kHz; sample 0 at the file's time 0. */
export function decode(path: string, seconds: number): Float32Array {
  const bytes = execFileSync(
    "ffmpeg",
    [
      "-v",
      "error",
      "-nostdin",
      "-i",
      path,
      "-map",
      "0:a:0",
      "-af",
      "aresample=48000:async=1:first_pts=0",
      "-ac",
      "1",
    ].concat(["-t", String(seconds), "-f", "f32le", "-"]),
    { maxBuffer: 1 << 26, timeout: 60_000 },
  );
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + (bytes.length & ~3)));
}

/** Voices as they are in a mixture: what is heard is `on` + `off`, and `off` the sum of `others`. */
export type Mixed = {
  readonly on: Float32Array;
  readonly off: Float32Array;
  readonly others: readonly Float32Array[];
  readonly mix: Float32Array;
};

/**
 * Mixes a voice with others, all others equally loud and together `levelDb` below it (speech levels). Those that are too short begin
 * again. Turned down as a whole where it would pass 0.9.
 */
export function mixVoices(voice: Float32Array, others: readonly Float32Array[], levelDb: number): Mixed {
  const wanted = speechRms(voice);
  const equal = others.map((other) => {
    const long = Float32Array.from(voice, (_, i) => other[i % other.length]!);
    const level = wanted / speechRms(long);
    return long.map((x) => x * level);
  });
  const sum = voice.map((_, i) => equal.reduce((a, other) => a + other[i]!, 0));
  const level = others.length === 0 ? 1 : (10 ** (-levelDb / 20) * wanted) / speechRms(sum);
  let peak = 0;
  for (let i = 0; i < voice.length; i++) peak = Math.max(peak, Math.abs(voice[i]! + level * sum[i]!));
  const scale = Math.min(1, PEAK / peak);
  const on = voice.map((x) => x * scale);
  const off = sum.map((x) => x * scale * level);
  return { on, off, others: equal.map((o) => o.map((x) => x * scale * level)), mix: on.map((x, i) => x + off[i]!) };
}

/** Writes a sound (mono, 48 kHz) beside an untouched picture, as QuickTime with 24-bit sound. */
export function writeClip(picture: string, sound: Float32Array, file: string): void {
  const seconds = sound.length / SAMPLE_RATE;
  execFileSync(
    "ffmpeg",
    ["-v", "error", "-y", "-i", picture, "-f", "f32le", "-ar", String(SAMPLE_RATE), "-ac", "1", "-i", "-"].concat([
      "-map",
      "0:v:0",
      "-map",
      "1:a",
      "-t",
      seconds.toFixed(6),
      "-c:v",
      "copy",
      "-c:a",
      "pcm_s24le",
      file,
    ]),
    {
      input: Buffer.from(sound.buffer, sound.byteOffset, sound.byteLength),
      timeout: 60_000,
      stdio: ["pipe", "ignore", "inherit"],
    },
  );
}

/** Writes the mixture at 0 dB beside the untouched picture and returns the two voices as they are in it. */
export function makeMixture(pair: Pair, file: string): Mixture {
  const { on, off, mix } = mixVoices(decode(pair.onVoice, pair.seconds), [decode(pair.offVoice, pair.seconds)], 0);
  writeClip(pair.picture, mix, file);
  return { file, on, off };
}
