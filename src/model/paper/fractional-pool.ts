/**
 * TensorFlow draws where the pieces of a fractional max pool end. The release asks for its pseudo-random sequence with op seeds
 * (1, 2), so inference is deterministic: this is the first double of Philox4x32-10 with key (1, 0) and counter (0, 0, 2, 0),
 * whatever the lengths (spec section 3.4).
 */
const DRAWN = 0.2511744980841868;

/**
 * Boundaries b of the pieces: output i is the maximum over b[i] .. b[i + 1] - 1. `from` inputs, `to` outputs; pieces are
 * floor(from / to) long or one longer. Throws RangeError unless 1 <= to <= from.
 */
export function poolBoundaries(from: number, to: number): number[] {
  if (!Number.isInteger(from) || !Number.isInteger(to) || to < 1 || from < to)
    throw new RangeError(`fractional pool from ${from} to ${to}: needs 1 <= to <= from`);
  const alpha = from / to;
  const shorter = Math.floor(alpha);
  const limit = Math.min((shorter + 2) / alpha - 1, (from + 1 - shorter) / alpha - (to - 1));
  const shift = limit * DRAWN;
  return Array.from({ length: to + 1 }, (_, i) => (i === 0 ? 0 : i === to ? from : Math.ceil(alpha * (i + shift)) - 1));
}

/** Positions to gather, (to, longest piece) row by row; a shorter piece names its last position again, which no maximum minds. */
export function poolPositions(from: number, to: number): { positions: number[]; longest: number } {
  const bounds = poolBoundaries(from, to);
  const pieces = bounds.slice(1).map((end, i) => ({ begin: bounds[i]!, end }));
  const longest = Math.max(...pieces.map((p) => p.end - p.begin));
  const positions = pieces.flatMap((p) => Array.from({ length: longest }, (_, k) => Math.min(p.begin + k, p.end - 1)));
  return { positions, longest };
}
