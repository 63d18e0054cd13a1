import { createHash } from "node:crypto";
import { open, readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { type ModelCard, modelCard } from "./card.js";
import { InferenceError } from "./inference.js";

/** A model folder whose card was checked and whose files are those that the card names. */
export type LoadedModel = {
  readonly folder: string;
  readonly card: ModelCard;
  /** The very bytes that were checked: give these to the engine, not the path. */
  readonly step: Uint8Array;
  readonly voice: Uint8Array | null;
};

const CARD = "card.json";
const MAX_CARD_BYTES = 1 << 20;
const MAX_FILE_BYTES = 512 << 20;
const MAX_LISTED = 256;
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

function invalid(file: string, what: string): InferenceError {
  return new InferenceError("SL_MODEL_INVALID", `${file}: ${what}`);
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The whole file, its size checked first. Throws SL_MODEL_INVALID when it is absent, no file or too large. */
async function readBounded(path: string, limit: number): Promise<Uint8Array> {
  const file = await open(path).catch((e: NodeJS.ErrnoException) => {
    throw invalid(path, e.code === "ENOENT" ? "there is no such file" : `cannot be opened (${e.code ?? e.message})`);
  });
  try {
    const info = await file.stat();
    if (!info.isFile()) throw invalid(path, "is not a file");
    if (info.size > limit) throw invalid(path, `${info.size} bytes; the limit is ${limit}`);
    const bytes = new Uint8Array(info.size);
    let at = 0;
    while (at < bytes.length) {
      const { bytesRead } = await file.read(bytes, at, bytes.length - at, at);
      if (bytesRead === 0) throw invalid(path, "became shorter while it was read");
      at += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
}

/** What the schema cannot say: numbers that must fit each other. Gives the first contradiction, or null. */
export function contradiction(card: ModelCard): string | null {
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
  const names = card.states.map((s) => s.name);
  if (new Set(names).size !== names.length) return "states: a name stands twice";
  for (const name of [card.files.step, ...(card.files.voice === undefined ? [] : [card.files.voice])]) {
    if (basename(name) !== name || name === "." || name === "..")
      return `files: ${JSON.stringify(name)} is not a plain file name`;
    if (!/^[0-9a-f]{64}$/.test(card.sha256[name] ?? "")) return `sha256: no SHA-256 of ${name}`;
  }
  return null;
}

/** Reads and checks `folder/card.json` alone. */
export async function readCard(folder: string): Promise<ModelCard> {
  const path = join(folder, CARD);
  const bytes = await readBounded(path, MAX_CARD_BYTES);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (e) {
    throw invalid(path, `is not JSON: ${e instanceof Error ? e.message : String(e)}`);
  }
  const parsed = modelCard.safeParse(json);
  if (!parsed.success) throw invalid(path, z.prettifyError(parsed.error).replaceAll(/\s*\n\s*/g, " "));
  const wrong = contradiction(parsed.data);
  if (wrong !== null) throw invalid(path, wrong);
  return parsed.data;
}

/** Reads a model folder and verifies every file. Throws SL_MODEL_INVALID with the file's path and what is wrong. */
export async function loadModel(folder: string): Promise<LoadedModel> {
  const card = await readCard(folder);
  const checked = async (name: string): Promise<Uint8Array> => {
    const path = join(folder, name);
    const bytes = await readBounded(path, MAX_FILE_BYTES);
    const sum = sha256(bytes);
    if (sum !== card.sha256[name]) throw invalid(path, `its SHA-256 is ${sum}, the card says ${card.sha256[name]}`);
    return bytes;
  };
  const step = await checked(card.files.step);
  return { folder, card, step, voice: card.files.voice === undefined ? null : await checked(card.files.voice) };
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
  readonly card: ModelCard;
  /** Bytes of each file. */
  readonly sizes: Readonly<Record<string, number>>;
  readonly guardMs: number;
  readonly unitMs: number;
};

/** Everything `sightline model info` prints; the files are verified on the way. */
export async function modelInfo(folder: string): Promise<ModelInfo> {
  const { card, step, voice } = await loadModel(folder);
  const sizes = {
    [card.files.step]: step.length,
    ...(voice && card.files.voice ? { [card.files.voice]: voice.length } : {}),
  };
  return {
    folder,
    card,
    sizes,
    guardMs: (1000 * card.guardSamples) / card.sampleRate,
    unitMs: (1000 * card.unitSamples) / card.sampleRate,
  };
}
