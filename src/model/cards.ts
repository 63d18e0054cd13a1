import { createHash } from "node:crypto";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { type AnyCard, anyCard, type StreamCard, type WindowCard } from "./card.js";
import { InferenceError } from "./inference.js";

/** A `stream` model's folder whose card was checked and whose files are those that the card names. */
export type LoadedStream = {
  readonly folder: string;
  readonly card: StreamCard;
  /** The very bytes that were checked: give these to the engine, not the path. `sound` null: the network of a step is one. */
  readonly sound: Uint8Array | null;
  readonly step: Uint8Array;
  readonly voice: Uint8Array | null;
};

/** As LoadedStream, of a `window` model. */
export type LoadedWindow = { readonly folder: string; readonly card: WindowCard; readonly step: Uint8Array };

const CARD = "card.json";
const MAX_CARD_BYTES = 1 << 20;
const MAX_FILE_BYTES = 512 << 20;
const CHUNK_BYTES = 1 << 20;
const MAX_LISTED = 256;
/** Of a window in a channel: what the rings of sound and pictures hold, and a frame between two processes. */
const MAX_LIVE_FRAMES = 130;
const MAX_LIVE_BYTES = 32_000_000;
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

function invalid(file: string, what: string): InferenceError {
  return new InferenceError("SL_MODEL_INVALID", `${file}: ${what}`);
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Opens a file, checks its size first. Throws SL_MODEL_INVALID when it is absent, no file or too large. */
async function openBounded(path: string, limit: number): Promise<{ file: FileHandle; size: number }> {
  const file = await open(path).catch((e: NodeJS.ErrnoException) => {
    throw invalid(path, e.code === "ENOENT" ? "there is no such file" : `cannot be opened (${e.code ?? e.message})`);
  });
  try {
    const info = await file.stat();
    if (!info.isFile()) throw invalid(path, "is not a file");
    if (info.size > limit) throw invalid(path, `${info.size} bytes; the limit is ${limit}`);
    return { file, size: info.size };
  } catch (e) {
    await file.close();
    throw e;
  }
}

async function fill(file: FileHandle, into: Uint8Array, offset: number, path: string): Promise<void> {
  let at = 0;
  while (at < into.length) {
    const { bytesRead } = await file.read(into, at, into.length - at, offset + at);
    if (bytesRead === 0) throw invalid(path, "became shorter while it was read");
    at += bytesRead;
  }
}

/** The whole file. */
async function readBounded(path: string, limit: number): Promise<Uint8Array> {
  const { file, size } = await openBounded(path, limit);
  try {
    const bytes = new Uint8Array(size);
    await fill(file, bytes, 0, path);
    return bytes;
  } finally {
    await file.close();
  }
}

function mustMatch(path: string, sum: string, said: string | undefined): void {
  if (sum !== said) throw invalid(path, `its SHA-256 is ${sum}, the card says ${said}`);
}

/** Reads a file piece by piece, compares its checksum, gives its size. */
async function verifyFile(path: string, said: string | undefined): Promise<number> {
  const { file, size } = await openBounded(path, MAX_FILE_BYTES);
  try {
    const hash = createHash("sha256");
    const chunk = new Uint8Array(Math.min(size, CHUNK_BYTES));
    for (let at = 0; at < size; at += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, size - at));
      await fill(file, part, at, path);
      hash.update(part);
    }
    mustMatch(path, hash.digest("hex"), said);
    return size;
  } finally {
    await file.close();
  }
}

/** What the schema cannot say: numbers that must fit each other. Gives the first contradiction, or null. */
export function contradiction(card: AnyCard): string | null {
  const wrong = card.kind === "stream" ? clockContradiction(card) : null;
  if (wrong !== null) return wrong;
  if (card.kind === "window" && (card.paper.form === "int8") !== (card.paper.int8 !== undefined))
    return `paper: form ${card.paper.form} ${card.paper.int8 ? "has" : "lacks"} the section int8`;
  for (const name of filesOf(card)) {
    if (basename(name) !== name || name === "." || name === "..")
      return `files: ${JSON.stringify(name)} is not a plain file name`;
    if (!/^[0-9a-f]{64}$/.test(card.sha256[name] ?? "")) return `sha256: no SHA-256 of ${name}`;
  }
  return null;
}

function clockContradiction(card: StreamCard): string | null {
  const { unitSamples: unit, grid } = card;
  if (unit % grid.hopSamples !== 0)
    return `unitSamples ${unit} is not a multiple of grid.hopSamples ${grid.hopSamples}`;
  if (card.lookBackSamples % unit !== 0)
    return `lookBackSamples ${card.lookBackSamples} is not a multiple of unitSamples ${unit}`;
  const guard = grid.hopSamples - card.firstFrameOffset;
  if (card.guardSamples !== guard)
    return `guardSamples is ${card.guardSamples}, but the newest gain is centred ${guard} samples before the end of its step`;
  if (grid.binHz * (grid.bins - 1) > card.sampleRate / 2)
    return `grid: ${grid.bins} bins of ${grid.binHz} Hz go beyond half of the sample rate`;
  // Voices are mixed by weights; a ratio of the two sums cannot be made of them.
  if (card.voices !== undefined && card.gain === "ratio") return "voices do not go with gain: ratio";
  const names = card.states.map((s) => s.name);
  if (new Set(names).size !== names.length) return "states: a name stands twice";
  return null;
}

/** Names of the files beside the card. */
export function filesOf(card: AnyCard): string[] {
  const { step, sound, voice }: StreamCard["files"] = card.files;
  return [sound, step, voice].filter((name) => name !== undefined);
}

/**
 * One SHA-256 for what decides about a model's sound: of the lines `SHA-256 NAME` of its files, and of how its voices are judged, which stands in
 * the card alone.
 */
export function identityOf(card: AnyCard): string {
  const lines = filesOf(card).map((name) => `${card.sha256[name]} ${name}`);
  if (card.kind === "stream" && card.voices !== undefined)
    lines.push(`${sha256(utf8(JSON.stringify(card.voices)))} voices`); // parsed cards have their keys in the schema's order
  return sha256(utf8(lines.join("\n")));
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Reads and checks `folder/card.json` alone. */
export async function readCard(folder: string): Promise<AnyCard> {
  const path = join(folder, CARD);
  const bytes = await readBounded(path, MAX_CARD_BYTES);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (e) {
    throw invalid(path, `is not JSON: ${e instanceof Error ? e.message : String(e)}`);
  }
  const parsed = anyCard.safeParse(json);
  if (!parsed.success) throw invalid(path, z.prettifyError(parsed.error).replaceAll(/\s*\n\s*/g, " "));
  const wrong = contradiction(parsed.data);
  if (wrong !== null) throw invalid(path, wrong);
  return parsed.data;
}

/** As readCard, for who runs a model step by step. */
export async function readStreamCard(folder: string): Promise<StreamCard> {
  const card = await readCard(folder);
  if (card.kind !== "stream") throw invalid(join(folder, CARD), `kind ${card.kind} cannot be run step by step`);
  return card;
}

/** Throws SL_MODEL_INVALID for a model that a channel could do nothing with. */
export function checkLive(card: AnyCard): void {
  if (card.kind === "stream") return;
  const { window, preset, inputs, side, guardSamples, constants } = card.paper;
  const lacks = [
    ...(window.spectrum === 0 ? ["separates nothing"] : []),
    ...(inputs.some((p) => p.name === "video") ? [] : ["sees no pictures, so it cannot tell whose voice is whose"]),
  ];
  if (lacks.length > 0) throw invalid(`model ${card.name}`, `preset ${preset} ${lacks.join(" and ")}`);
  // Half of a window at least must be of use.
  const samples = (48_000 / constants.sampleRate) * window.samples;
  if (2 * guardSamples > samples)
    throw invalid(
      `model ${card.name}`,
      `guardSamples ${guardSamples} is more than half of a window (${Math.round(samples)})`,
    );
  const bytes = window.frames * 3 * side * side;
  if (window.frames > MAX_LIVE_FRAMES || bytes > MAX_LIVE_BYTES)
    throw invalid(
      `model ${card.name}`,
      `windows of ${window.frames} pictures of ${side}x${side} are too large for a channel: at most ${MAX_LIVE_FRAMES} and ${MAX_LIVE_BYTES / 1e6} MB; ` +
        "it runs in files (sightline separate)",
    );
}

/** As readCard, of a model that is to run in a channel. */
export async function readLiveCard(folder: string): Promise<AnyCard> {
  const card = await readCard(folder);
  checkLive(card);
  return card;
}

async function readChecked(folder: string, name: string, card: AnyCard): Promise<Uint8Array> {
  const path = join(folder, name);
  const bytes = await readBounded(path, MAX_FILE_BYTES);
  mustMatch(path, sha256(bytes), card.sha256[name]);
  return bytes;
}

/** Reads a `stream` model's folder and verifies every file. Throws SL_MODEL_INVALID with the file's path and what is wrong. */
export async function loadStream(folder: string): Promise<LoadedStream> {
  const card = await readStreamCard(folder);
  const { files } = card;
  const read = (name: string | undefined) => (name === undefined ? null : readChecked(folder, name, card));
  const [sound, step, voice] = [
    await read(files.sound),
    await readChecked(folder, files.step, card),
    await read(files.voice),
  ];
  return { folder, card, sound, step, voice };
}

/** As loadStream, for a `window` model. */
export async function loadWindow(folder: string): Promise<LoadedWindow> {
  const card = await readCard(folder);
  if (card.kind !== "window") throw invalid(join(folder, CARD), `kind ${card.kind} is not called with whole windows`);
  return { folder, card, step: await readChecked(folder, card.files.step, card) };
}

/** Verifies a folder of any kind without holding its files; bytes of each file. Throws SL_MODEL_INVALID. */
export async function verifyModel(folder: string): Promise<{ card: AnyCard; sizes: Readonly<Record<string, number>> }> {
  const card = await readCard(folder);
  const sizes: Record<string, number> = {};
  for (const name of filesOf(card)) sizes[name] = await verifyFile(join(folder, name), card.sha256[name]);
  return { card, sizes };
}

/** Folder of a model given by name (below `models`) or, with a slash or a leading dot, by path. */
export async function findModel(nameOrPath: string, models: string): Promise<string> {
  const byPath = nameOrPath.includes("/") || nameOrPath.startsWith(".");
  if (!byPath && !MODEL_NAME.test(nameOrPath)) throw invalid(nameOrPath, "is neither a model's name nor a path");
  const folder = byPath ? resolve(nameOrPath) : join(models, nameOrPath);
  if (!(await stat(join(folder, CARD)).catch(() => null))?.isFile()) {
    const known = byPath ? [] : await listModels(models);
    throw invalid(folder, `holds no ${CARD}${known.length > 0 ? `; models here: ${known.join(", ")}` : ""}`);
  }
  return folder;
}

/** Names of the folders below `models` that hold a card, sorted. Empty when there is no such folder. */
export async function listModels(models: string): Promise<string[]> {
  const entries = await readdir(models, { withFileTypes: true }).catch(() => []);
  const names: string[] = [];
  for (const e of entries.slice(0, MAX_LISTED))
    if (MODEL_NAME.test(e.name) && (await stat(join(models, e.name, CARD)).catch(() => null))?.isFile())
      names.push(e.name);
  return names.sort();
}

export type ModelInfo = {
  readonly folder: string;
  readonly card: AnyCard;
  /** Bytes of each file. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Of a `stream` model. */
  readonly guardMs?: number;
  readonly unitMs?: number;
};

/** Everything `sightline model info` prints; the files are verified on the way. */
export async function modelInfo(folder: string): Promise<ModelInfo> {
  const { card, sizes } = await verifyModel(folder);
  if (card.kind === "window") return { folder, card, sizes };
  const ms = (samples: number): number => (1000 * samples) / card.sampleRate;
  return { folder, card, sizes, guardMs: ms(card.guardSamples), unitMs: ms(card.unitSamples) };
}
