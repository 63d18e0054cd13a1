const POLYNOMIAL = 0x82f63b78;
const MASK_DELTA = 0xa282ead8;

/** Table k gives the effect of a byte that k further zero bytes follow: eight bytes a turn instead of one. */
const tables = Array.from({ length: 8 }, () => new Int32Array(256));
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ POLYNOMIAL : c >>> 1;
  tables[0]![n] = c;
}
for (let k = 1; k < 8; k++)
  for (let n = 0; n < 256; n++) {
    const c = tables[k - 1]![n]!;
    tables[k]![n] = (c >>> 8) ^ tables[0]![c & 255]!;
  }
const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
  Int32Array,
];

/**
 * CRC-32C (Castagnoli, RFC 3720 appendix B.4), 0 ... 2^32 - 1. `before` is the sum of what came before: sums of pieces given one
 * after another equal the sum of the whole.
 */
export function crc32c(bytes: Uint8Array, before = 0): number {
  let c = ~before;
  const end = bytes.length;
  const wide = end - (end & 7);
  let i = 0;
  for (; i < wide; i += 8) {
    const low = c ^ (bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
    c =
      t7[low & 255]! ^
      t6[(low >>> 8) & 255]! ^
      t5[(low >>> 16) & 255]! ^
      t4[low >>> 24]! ^
      t3[bytes[i + 4]!]! ^
      t2[bytes[i + 5]!]! ^
      t1[bytes[i + 6]!]! ^
      t0[bytes[i + 7]!]!;
  }
  for (; i < end; i++) c = (c >>> 8) ^ t0[(c ^ bytes[i]!) & 255]!;
  return ~c >>> 0;
}

/** As LevelDB and TensorFlow store a sum beside the data it covers: rotated by 15 bits and shifted, lest a sum be summed as it is. */
export function maskedCrc(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}
