import { existsSync } from "node:fs";
import { join } from "node:path";
import { random } from "../val/metrics.js";
import { gender, type Row, readTsv } from "../val/mixtures.js";

/** A recorded voice. */
export type Voice = {
  readonly file: string;
  readonly person: string;
  /** m or f; null: not known. */
  readonly gender: string | null;
  /** ISO 639-1; null: not known. */
  readonly language: string | null;
  readonly seconds: number;
};

/** A recorded voice with the picture of who speaks. */
export type Clip = Voice & { readonly name: string; readonly domain: string };

export type People = { readonly clips: readonly Clip[]; readonly voices: readonly Voice[] };

const LEAST_SECONDS = 3;
const LEAST_VOICE_SECONDS = 4;

const language = (text: string | undefined): string | null => /^[a-z]{2}/.exec(text ?? "")?.[0] ?? null;

/**
 * People of the validation split, sorted by name: clips of one person (not "meeting", where both voices are in the sound) and voices
 * without picture. `data` holds manifest.tsv (id, file, split, domain, person, gender, language, seconds) and audio/manifest.tsv (id,
 * file, kind, split, speaker, gender, language, seconds). @throws Error when a manifest is missing or holds nobody of the split
 */
export function validationPeople(data: string): People {
  const rows = (path: string): Row[] => {
    const file = join(data, path);
    if (!existsSync(file)) throw new Error(`--data ${data}: there is no ${path}`);
    const found = readTsv(file).filter((r) => r.split === "val");
    if (found.length === 0) throw new Error(`--data ${data}: ${path} has no row of split "val"`);
    return found.sort((a, b) => (a.id! < b.id! ? -1 : 1));
  };
  const clips = rows("manifest.tsv")
    .filter((r) => r.domain !== "meeting" && Number(r.seconds) >= LEAST_SECONDS)
    .map((r) => ({
      name: r.id!,
      domain: r.domain!,
      file: join(data, r.file!),
      person: r.person!,
      gender: gender(r.gender),
      language: language(r.language),
      seconds: Number(r.seconds),
    }));
  const voices = rows(join("audio", "manifest.tsv"))
    .filter((r) => r.kind === "speech" && Number(r.seconds) >= LEAST_VOICE_SECONDS)
    .map((r) => ({
      file: join(data, "audio", r.file!),
      person: r.speaker!,
      gender: gender(r.gender),
      language: language(r.language),
      seconds: Number(r.seconds),
    }));
  return { clips, voices };
}

/** A seed of its own for every name, so that one item more changes no other. */
function seedOf(seed: number, name: string): number {
  let hash = 2166136261 ^ seed;
  for (const b of new TextEncoder().encode(name)) hash = Math.imul(hash ^ b, 16777619);
  return hash >>> 0;
}

/** One of the list by a draw, of the gender wished for as far as there is one. */
function pick<T extends Voice>(list: readonly T[], same: boolean | null, of: Voice, draw: number): T {
  const others = list.filter((v) => v.person !== of.person);
  const wished = others.filter((v) => same !== null && v.gender !== null && (v.gender === of.gender) === same);
  const from = wished.length > 0 && of.gender !== null ? wished : others;
  if (from.length === 0) throw new Error(`nobody but ${of.person} is there to talk over ${of.person}`);
  return from[Math.floor(draw * from.length)]!;
}

/**
 * Who talks over the clip number `i`: one voice of the same gender for even, of the other for odd numbers, in turns of two from clips
 * and from voices without picture; then `count` - 1 further people, drawn from all voices. The first ones are the same for any `count`.
 */
export function otherVoices({ clips, voices }: People, i: number, count: number, seed: number): Voice[] {
  const clip = clips[i]!;
  const draw = random(seedOf(seed, clip.name));
  const pool: readonly Voice[] = i % 4 < 2 && new Set(clips.map((c) => c.person)).size > 1 ? clips : voices;
  const chosen = [pick(pool, i % 2 === 0, clip, draw())];
  while (chosen.length < count) {
    const rest = voices.filter((v) => !chosen.some((c) => c.person === v.person));
    chosen.push(pick(rest, null, clip, draw()));
  }
  return chosen;
}

/** Another clip for clip number `i`: the same gender for even, the other for odd numbers. */
export function otherClip({ clips }: People, i: number, seed: number): Clip {
  const clip = clips[i]!;
  return pick(clips, i % 2 === 0, clip, random(seedOf(seed, `swap ${clip.name}`))());
}
