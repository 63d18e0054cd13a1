import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { InferenceError } from "../inference.js";
import type { BundleEntry } from "./bundle.js";

/** A data file of the checkpoint, open for reading. */
export type Shard = { readonly path: string; readonly fd: number; readonly size: number };

/** So much of a tensor is in memory at a time, beside its result. */
export const CHUNK_BYTES = 1 << 20;

export function invalid(file: string, what: string): InferenceError {
  return new InferenceError("SL_MODEL_INVALID", `${file}: ${what}`);
}

/** Opens a file and says its size. SL_MODEL_INVALID when it is absent or no file. */
export function openFile(path: string): Shard {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK); // a FIFO without a writer would hold us for ever
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    throw invalid(path, code === "ENOENT" ? "there is no such file" : `cannot be opened (${code ?? message})`);
  }
  const info = fstatSync(fd);
  if (info.isFile()) return { path, fd, size: info.size };
  closeSync(fd);
  throw invalid(path, "is not a file");
}

/** PREFIX.data-0000K-of-0000N, all N of them; none stays open when one fails. */
export function openShards(prefix: string, count: number): Shard[] {
  const number = (n: number): string => String(n).padStart(5, "0");
  const shards: Shard[] = [];
  try {
    for (let k = 0; k < count; k++) shards.push(openFile(`${prefix}.data-${number(k)}-of-${number(count)}`));
    return shards;
  } catch (e) {
    closeAll(shards);
    throw e;
  }
}

export function closeAll(shards: readonly Shard[]): void {
  for (const { fd } of shards) closeSync(fd);
}

/** Fills `into` from byte `offset` on. */
export function readFully(shard: Shard, into: Uint8Array, offset: number): void {
  let at = 0;
  while (at < into.length) {
    const got = readSync(shard.fd, into, at, into.length - at, offset + at);
    if (got === 0) throw invalid(shard.path, "became shorter while it was read");
    at += got;
  }
}

/**
 * The tensors must fill each shard from its first byte to its last, without gap or overlap, as the Saver writes them: only then
 * do their checksums cover every byte. `entries` are named for the message. Throws SL_MODEL_INVALID.
 */
export function requireFilled(shards: readonly Shard[], entries: readonly (readonly [string, BundleEntry])[]): void {
  const ends = shards.map(() => 0);
  const sorted = [...entries].sort(([, a], [, b]) => a.shard - b.shard || a.offset - b.offset || a.bytes - b.bytes);
  for (const [name, e] of sorted) {
    const shard = shards[e.shard]!;
    const end = ends[e.shard]!;
    if (e.offset > shard.size || e.bytes > shard.size - e.offset)
      throw invalid(
        shard.path,
        `variable ${name}: bytes ${e.offset} to ${e.offset + e.bytes} of a file of ${shard.size}`,
      );
    if (e.offset !== end)
      throw invalid(shard.path, `variable ${name} begins at byte ${e.offset}, the one before it ends at ${end}`);
    ends[e.shard] = e.offset + e.bytes;
  }
  for (const [k, shard] of shards.entries())
    if (ends[k] !== shard.size) throw invalid(shard.path, `${shard.size} bytes, its variables end at ${ends[k]}`);
}
