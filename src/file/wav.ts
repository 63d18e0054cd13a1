import { type FileHandle, open } from "node:fs/promises";
import { SAMPLE_RATE } from "../pipeline/types.js";
import { FileError } from "./errors.js";

/** RIFF, a JUNK chunk of the size of ds64 (EBU Tech 3306 puts it there for a later RF64), fmt with empty extension, fact, data. */
export const WAV_HEADER_BYTES = 12 + 36 + 26 + 12 + 8;
const FLOAT = 3;
const MAX_32 = 0xffff_ffff;
const FLUSH_BYTES = 256 * 1024;

/** Writes 48 kHz float32 WAV as the sound comes; over 4 GB it becomes RF64. */
export class WavWriter {
  readonly path: string;
  readonly channels: number;
  readonly #file: FileHandle;
  readonly #buffer = Buffer.alloc(FLUSH_BYTES);
  #used = 0;
  #written = 0;
  #samples = 0;

  private constructor(path: string, channels: number, file: FileHandle) {
    this.path = path;
    this.channels = channels;
    this.#file = file;
  }

  /** @throws FileError SL_FILE_OUTPUT */
  static async open(path: string, channels: number): Promise<WavWriter> {
    const file = await open(path, "w").catch((error: Error) => {
      throw new FileError("SL_FILE_OUTPUT", `${path} cannot be written: ${error.message}`);
    });
    const writer = new WavWriter(path, channels, file);
    await writer.#put(wavHeader(channels, 0));
    return writer;
  }

  /** Samples per channel so far. */
  get samples(): number {
    return this.#samples;
  }

  /** @throws FileError SL_FILE_OUTPUT (the disk is full) */
  async write(planes: readonly Float32Array[]): Promise<void> {
    const count = planes[0]?.length ?? 0;
    for (let i = 0; i < count; i++) {
      if (this.#used + 4 * this.channels > FLUSH_BYTES) await this.#flush();
      for (let c = 0; c < this.channels; c++) {
        this.#buffer.writeFloatLE(planes[c]![i]!, this.#used);
        this.#used += 4;
      }
    }
    this.#samples += count;
  }

  /** Writes what is left and the final header. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#put(wavHeader(this.channels, this.#samples), 0);
    await this.#file.close();
  }

  /** After a failure. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => undefined);
  }

  async #flush(): Promise<void> {
    await this.#put(this.#buffer.subarray(0, this.#used), WAV_HEADER_BYTES + this.#written);
    this.#written += this.#used;
    this.#used = 0;
  }

  async #put(bytes: Buffer, position = 0): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; ) {
        done += (await this.#file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
      }
    } catch (error) {
      throw new FileError("SL_FILE_OUTPUT", `${this.path} cannot be written: ${(error as Error).message}`);
    }
  }
}

/** The first WAV_HEADER_BYTES of a file with that many samples a channel. */
export function wavHeader(channels: number, samples: number): Buffer {
  const dataBytes = samples * channels * 4;
  const riffBytes = WAV_HEADER_BYTES - 8 + dataBytes;
  const big = riffBytes > MAX_32;
  const h = Buffer.alloc(WAV_HEADER_BYTES);
  let at = 0;
  const tag = (text: string): void => {
    h.write(text, at, "latin1");
    at += 4;
  };
  const u32 = (value: number): void => {
    at = h.writeUInt32LE(value, at);
  };
  const u16 = (value: number): void => {
    at = h.writeUInt16LE(value, at);
  };
  const u64 = (value: number): void => {
    at = h.writeBigUInt64LE(BigInt(value), at);
  };
  tag(big ? "RF64" : "RIFF");
  u32(big ? MAX_32 : riffBytes);
  tag("WAVE");
  tag(big ? "ds64" : "JUNK");
  u32(28);
  u64(big ? riffBytes : 0);
  u64(big ? dataBytes : 0);
  u64(big ? samples : 0);
  u32(0);
  tag("fmt ");
  u32(18);
  u16(FLOAT);
  u16(channels);
  u32(SAMPLE_RATE);
  u32(SAMPLE_RATE * channels * 4);
  u16(channels * 4);
  u16(32);
  u16(0);
  tag("fact");
  u32(4);
  u32(Math.min(samples, MAX_32));
  tag("data");
  u32(big ? MAX_32 : dataBytes);
  return h;
}
