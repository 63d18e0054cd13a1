/** Seeded random numbers and byte mutations for the codec tests; the same seed gives the same run everywhere. */

export type Random = (below: number) => number;

/** mulberry32: integers in [0, below). */
export function random(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const EDGES = [0, 1, 2, 3, 0x7f, 0x80, 0xc0, 0xfe, 0xff];

/** 1 to 4 changes: a flipped bit, an edge value, a cut, a doubled stretch, a removed stretch. Keeps the first `keep` bytes. */
export function mutate(good: Buffer, next: Random, keep = 0): Buffer {
  let out = Buffer.from(good);
  for (let i = 1 + next(4); i > 0 && out.length > keep; i--) {
    const at = keep + next(out.length - keep);
    const kind = next(8);
    if (kind < 3) out[at]! ^= 1 << next(8);
    else if (kind < 5) out[at] = EDGES[next(EDGES.length)]!;
    else if (kind === 5) out = Buffer.from(out.subarray(0, at));
    else if (kind === 6) out = Buffer.concat([out.subarray(0, at), out.subarray(keep + next(at - keep + 1))]);
    else out = Buffer.concat([out.subarray(0, at), out.subarray(Math.min(out.length, at + 1 + next(16)))]);
  }
  return out;
}

/** Runs `take` on `count` mutations of the samples; an error that is not of the given class fails with the seed and the bytes. */
export function fuzz(
  options: {
    samples: readonly Buffer[];
    count: number;
    seed: number;
    allowed: readonly (new (m: string) => Error)[];
    keep?: number;
  },
  take: (bytes: Buffer, next: Random) => void,
): { taken: number; refused: number } {
  const next = random(options.seed);
  let taken = 0;
  let refused = 0;
  const times = Math.max(1, Number(process.env.FUZZ_TIMES) || 1); // `make fuzz`
  for (let i = 0; i < times * options.count; i++) {
    const bytes = mutate(options.samples[i % options.samples.length]!, next, options.keep ?? 0);
    try {
      take(bytes, next);
      taken++;
    } catch (error) {
      if (!options.allowed.some((kind) => error instanceof kind)) {
        throw new Error(`seed ${options.seed}, run ${i}, bytes ${bytes.toString("hex").slice(0, 4000)}`, {
          cause: error,
        });
      }
      refused++;
    }
  }
  return { taken, refused };
}

/** Pushes `bytes` in pieces of 1..`most` bytes. */
export function inPieces(bytes: Buffer, most: number, next: Random, push: (piece: Buffer) => void): void {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + 1 + next(most));
    push(bytes.subarray(at, end));
    at = end;
  }
}
