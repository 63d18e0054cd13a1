/**
 * The same numbers as float16 (IEEE 754 binary16, bits), or null when one of them would change: a trained file keeps half precision, so
 * most of its tensors lose nothing, and half of the bytes.
 */
export function exactHalf(values: Float32Array): Uint16Array | null {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i]!;
    const sign = (x >>> 16) & 0x8000;
    const exponent = ((x >>> 23) & 0xff) - 127;
    const fraction = x & 0x7f_ffff;
    if ((x & 0x7fff_ffff) === 0) {
      out[i] = sign;
    } else if (exponent >= -14 && exponent <= 15) {
      if ((fraction & 0x1fff) !== 0) return null;
      out[i] = sign | ((exponent + 15) << 10) | (fraction >>> 13);
    } else if (exponent >= -24 && exponent < -14) {
      // A subnormal half: whole multiples of 2^-24.
      const lost = -1 - exponent;
      const whole = 0x80_0000 | fraction;
      if ((whole & ((1 << lost) - 1)) !== 0) return null;
      out[i] = sign | (whole >>> lost);
    } else return null;
  }
  return out;
}
