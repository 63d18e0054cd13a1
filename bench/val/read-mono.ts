import { readFileSync } from "node:fs";
import { WAV_HEADER_BYTES } from "../../src/file/wav.js";

/** The mean of the channels of a WAV file by WavWriter. */
export function readMono(path: string, channels: number): Float32Array {
  const bytes = readFileSync(path).subarray(WAV_HEADER_BYTES);
  const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const mono = new Float32Array(all.length / channels);
  for (let i = 0; i < all.length; i++) mono[Math.floor(i / channels)]! += all[i]! / channels;
  return mono;
}
