import { SAMPLE_RATE } from "../pipeline/types.js";
import { LibraryError } from "./errors.js";
import type { AudioData } from "./wrtc.js";

/** What a node-webrtc source takes in one go: 10 ms. */
export const BLOCK = SAMPLE_RATE / 100;
const MAX_CHANNELS = 8;

/** A sink's block as planar floats. @throws LibraryError when it is not 16-bit sound of 1 to 8 channels */
export function planarOf({ samples, bitsPerSample = 16, channelCount = 1 }: AudioData): Float32Array[] {
  const fits = Number.isInteger(channelCount) && channelCount >= 1 && channelCount <= MAX_CHANNELS;
  if (bitsPerSample !== 16 || !fits || samples.length % channelCount !== 0)
    throw new LibraryError(
      `a block of ${samples.length} samples, ${channelCount} channels, ${bitsPerSample} bits; allowed: 16 bits, 1 to ${MAX_CHANNELS} channels`,
    );
  const frames = samples.length / channelCount;
  return Array.from({ length: channelCount }, (_, c) =>
    Float32Array.from({ length: frames }, (_, i) => samples[i * channelCount + c]! / 32_768),
  );
}

/** Cuts planar 48 kHz sound of any length into the blocks of 10 ms that a source takes; what does not fill one waits for more. */
export class TrackBlocks {
  #block: Int16Array | null = null;
  #filled = 0;

  constructor(private readonly onBlock: (data: AudioData) => void) {}

  push(channels: readonly Float32Array[]): void {
    const count = channels.length;
    if (this.#block?.length !== count * BLOCK) {
      this.#block = new Int16Array(count * BLOCK);
      this.#filled = 0;
    }
    const length = channels[0]?.length ?? 0;
    for (let i = 0; i < length; i++) {
      for (let c = 0; c < count; c++)
        this.#block[this.#filled * count + c] = Math.max(
          -32_768,
          Math.min(32_767, Math.round(channels[c]![i]! * 32_768)),
        );
      if (++this.#filled < BLOCK) continue;
      this.#filled = 0;
      const samples = this.#block;
      // The source may still read it: the next block is another array.
      this.#block = new Int16Array(count * BLOCK);
      this.onBlock({ samples, sampleRate: SAMPLE_RATE, bitsPerSample: 16, channelCount: count, numberOfFrames: BLOCK });
    }
  }
}
