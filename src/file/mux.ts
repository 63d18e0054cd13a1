import { open } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { SAMPLE_RATE } from "../pipeline/types.js";
import { gdpBuffer, gdpCaps, gdpSegment, gdpStreamStart } from "../transport/gdp/gdp.js";
import { AAC_ENCODERS, type AacEncoder } from "../transport/gst/launch.js";
import { trimSound } from "./edit-list.js";
import { FileError } from "./errors.js";
import { fileUri, GstProcess, gstSentence, hasElement } from "./gst-process.js";
import { WAV_HEADER_BYTES } from "./wav.js";

/** Sound of a WAV file that WavWriter wrote, and its place beside the pictures. */
export type MuxSound = {
  readonly wav: string;
  readonly channels: number;
  readonly samples: number;
  /** Running time of sample 0, in samples; what lies before 0 is left out. */
  readonly atSample: number;
};

export type MuxOptions = {
  /** The MP4 to write. */
  readonly path: string;
  readonly sound: MuxSound;
  /** Where the pictures come from: a part of a pipeline that ends with parsed H.264 or H.265. */
  readonly pictures: string;
  /** Writes pictures (GDP) to the pipe `fd=4`, for `pictures` that read them there. */
  readonly feed?: (process: GstProcess) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
};

const BLOCK_SAMPLES = 4096;
const FLUSH_SAMPLES = 4096;
/** Encoded pictures wait here for the sound beside them. */
const QUEUE = "queue max-size-time=0 max-size-buffers=0 max-size-bytes=20000000";

/** The pictures of a file as they are. h264timestamper makes the DTS that Matroska does not store. */
const REMUX: readonly { readonly caps: string; readonly parse: string }[] = [
  { caps: "video/x-h264", parse: "h264parse ! h264timestamper" },
  { caps: "video/x-h265", parse: "h265parse ! h265timestamper" },
];

/** The input's pictures, not re-encoded, with another sound. @throws FileError SL_FILE_MUX */
export async function remux(input: string, options: Omit<MuxOptions, "pictures" | "feed">): Promise<void> {
  let failure: unknown = null;
  for (const { caps, parse } of REMUX) {
    const pictures = `uridecodebin uri=${fileUri(input)} caps=${caps} expose-all-streams=false ! ${parse}`;
    try {
      await mux({ ...options, pictures });
      return;
    } catch (error) {
      if (options.signal?.aborted || !(error instanceof FileError) || error.code !== "SL_FILE_MUX") throw error;
      failure ??= error;
    }
  }
  throw failure;
}

/** Pictures and AAC in one MP4, in step. @throws FileError SL_FILE_MUX, SL_FILE_ENCODER */
export async function mux({ path, sound, pictures, feed, signal }: MuxOptions): Promise<void> {
  const encoder = await aacEncoder();
  const process = new GstProcess({
    launch:
      `mp4mux name=mux ! filesink location=${basename(path)} ` +
      `fdsrc fd=0 ! application/x-gdp ! gdpdepay ! audioconvert ! ${encoder.element} ! aacparse ! ${QUEUE} ! mux. ` +
      `${pictures} ! ${QUEUE} ! mux.`,
    folder: dirname(path),
    signal,
  });
  try {
    const [samples] = await Promise.all([sendSound(process, sound), feed?.(process)]);
    const complaint = await process.end();
    if (complaint !== null) throw new FileError("SL_FILE_MUX", gstSentence(complaint));
    await trimSound(path, { delaySamples: encoder.delaySamples, samples }).catch((error: Error) => {
      throw new FileError("SL_FILE_MUX", `${path}: ${error.message}`);
    });
  } finally {
    process.close();
  }
}

async function aacEncoder(): Promise<AacEncoder> {
  for (const encoder of AAC_ENCODERS) {
    if (await hasElement(encoder.element.split(" ")[0]!)) return encoder;
  }
  throw new FileError("SL_FILE_ENCODER", "no AAC encoder is installed (voaacenc or avenc_aac); see `sightline doctor`");
}

/** Returns how many samples were sent. */
async function sendSound(process: GstProcess, { wav, channels, samples, atSample }: MuxSound): Promise<number> {
  const file = await open(wav, "r");
  try {
    const caps = `audio/x-raw, format=(string)F32LE, layout=(string)interleaved, rate=(int)${SAMPLE_RATE}, channels=(int)${channels}`;
    const mask = channels === 2 ? ", channel-mask=(bitmask)0x3" : "";
    let taken = await process.write(
      0,
      Buffer.concat([gdpStreamStart("sound"), gdpCaps(`${caps}${mask}`), gdpSegment()]),
    );
    const first = Math.max(0, -atSample);
    const frame = 4 * channels;
    for (let n = first; taken && n < samples; n += BLOCK_SAMPLES) {
      const count = Math.min(BLOCK_SAMPLES, samples - n);
      const bytes = Buffer.alloc(count * frame);
      await file.read(bytes, 0, bytes.length, WAV_HEADER_BYTES + n * frame);
      const ms = (at: number): number => (at * 1000) / SAMPLE_RATE;
      taken = await process.write(0, gdpBuffer(bytes, { ptsMs: ms(atSample + n), durationMs: ms(count) }));
    }
    // The encoder keeps its delay back: silence pushes the last sound out, and the edit list cuts it off again.
    const flush = Buffer.alloc(FLUSH_SAMPLES * frame);
    await process.write(0, gdpBuffer(flush, { ptsMs: ((atSample + samples) * 1000) / SAMPLE_RATE }));
    return Math.max(0, samples - first);
  } finally {
    process.closeInput(0);
    await file.close();
  }
}
