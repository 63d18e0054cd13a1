import { type AudioBlock, SAMPLE_RATE } from "../pipeline/types.js";
import { type GdpPacket, gdpBuffer, gdpCaps, gdpSegment, gdpStreamStart } from "../transport/gdp/gdp.js";
import { capsBuffer, parseCaps } from "../transport/gst/caps.js";
import { AAC_ENCODERS, aacEncoder, opusEncoder } from "../transport/gst/launch.js";
import { GstError, type GstFault, GstPipeline, type GstSource } from "../transport/gst/pipeline.js";

/** One AAC frame; its sound begins at `atSample` of the timeline (the encoder's delay is taken off; the first ones lie before 0). */
export type AacFrame = { readonly atSample: number; readonly data: Buffer; readonly config: Buffer };

/** Four seconds of stereo: the encoder is many times faster than real time. */
const BACKLOG_BYTES = 4 * SAMPLE_RATE * 2 * 4;

const RESTART_MS = 500;

/** One Opus packet of 20 ms; its sound begins at `atSample`. */
export type OpusFrame = { readonly atSample: number; readonly data: Buffer };

type Candidate = { readonly launch: string; readonly delaySamples: number };
type Encoded = { readonly atSample: number; readonly data: Buffer; readonly config: Buffer | null };

/**
 * Sound to packets. The encoder's clock is the sample index and nothing else: it never sees a gap, whatever the source's timestamps do;
 * they are put back afterwards by the timeline.
 */
class SoundEncoder {
  faults = 0;
  droppedBlocks = 0;
  readonly #pipeline: GstPipeline;
  readonly #source: GstSource;
  readonly #delaySamples: number;
  readonly #onEncoded: (encoded: Encoded) => void;
  #config: Buffer | null = null;
  #channels = 0;
  #retry: NodeJS.Timeout | null = null;
  /** Sample index at which the stream of this encoder began; times inside it begin at 0. */
  #origin: number | null = null;
  #next = 0;

  /** @throws GstError when none of the encoders is installed */
  constructor(
    candidates: readonly Candidate[],
    onEncoded: (encoded: Encoded) => void,
    onFault: (fault: GstFault) => void,
  ) {
    this.#onEncoded = onEncoded;
    const made = firstThatWorks(candidates, (fault) => {
      this.faults += 1;
      onFault(fault);
      this.#restartLater();
    });
    this.#pipeline = made.pipeline;
    this.#delaySamples = made.delaySamples;
    this.#source = this.#pipeline.source("in", BACKLOG_BYTES);
    this.#pipeline.sink("out", (packet) => this.#receive(packet));
    this.#pipeline.play();
  }

  /** Blocks with always the same number of channels (1 or 2); one that does not join on to the one before begins anew. */
  push(block: AudioBlock): void {
    const channels = block.channels.length;
    if (this.#channels !== 0 && block.atSample !== this.#next) this.#begin();
    this.#next = block.atSample + (block.channels[0]?.length ?? 0);
    if (this.#channels === 0) {
      this.#channels = channels;
      this.#origin = block.atSample;
      this.#source.push(gdpStreamStart("out"));
      this.#source.push(
        gdpCaps(
          `audio/x-raw, format=(string)F32LE, layout=(string)interleaved, rate=(int)${SAMPLE_RATE}, channels=(int)${channels}${channels === 2 ? ", channel-mask=(bitmask)0x3" : ""}`,
        ),
      );
      this.#source.push(gdpSegment());
    }
    const ptsMs = ((block.atSample - this.#origin!) / SAMPLE_RATE) * 1000;
    if (!this.#source.push(gdpBuffer(interleave(block.channels), { ptsMs }))) this.droppedBlocks += 1;
  }

  close(): void {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#pipeline.close();
  }

  #restartLater(): void {
    this.#pipeline.stop();
    this.#retry = setTimeout(() => {
      this.#forget();
      this.#pipeline.play();
    }, RESTART_MS);
  }

  #begin(): void {
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
    this.#pipeline.stop();
    this.#forget();
    this.#pipeline.play();
  }

  #forget(): void {
    this.#channels = 0;
    this.#origin = null;
  }

  #receive(packet: GdpPacket): void {
    if (packet.kind === "caps") this.#config = capsBuffer(parseCaps(packet.caps), "codec_data");
    if (packet.kind !== "buffer" || packet.ptsMs === null || this.#origin === null) return;
    const atSample = this.#origin + Math.round((packet.ptsMs * SAMPLE_RATE) / 1000) - this.#delaySamples;
    this.#onEncoded({ atSample, data: packet.payload, config: this.#config });
  }
}

/** Sound to AAC. */
export class AacEncoder {
  readonly #encoder: SoundEncoder;
  #frames = 0;

  /** @throws GstError when no AAC encoder is installed */
  constructor(onFrame: (frame: AacFrame) => void, onFault: (fault: GstFault) => void) {
    const candidates = AAC_ENCODERS.map((e) => ({ launch: aacEncoder(e), delaySamples: e.delaySamples }));
    const onEncoded = ({ atSample, data, config }: Encoded): void => {
      if (config === null) return;
      this.#frames += 1;
      onFrame({ atSample, data, config });
    };
    this.#encoder = new SoundEncoder(candidates, onEncoded, onFault);
  }

  get counters(): Readonly<Record<string, number>> {
    const { droppedBlocks, faults } = this.#encoder;
    return { aac_frames: this.#frames, encoder_dropped_blocks: droppedBlocks, encoder_faults: faults };
  }

  push(block: AudioBlock): void {
    this.#encoder.push(block);
  }

  close(): void {
    this.#encoder.close();
  }
}

/** Sound to Opus for WHEP viewers. */
export class OpusEncoder {
  readonly #encoder: SoundEncoder;

  /** @throws GstError when no Opus encoder is installed */
  constructor(onFrame: (frame: OpusFrame) => void, onFault: (fault: GstFault) => void) {
    const candidates = [{ launch: opusEncoder(), delaySamples: 0 }];
    this.#encoder = new SoundEncoder(candidates, ({ atSample, data }) => onFrame({ atSample, data }), onFault);
  }

  get faults(): number {
    return this.#encoder.faults;
  }

  push(block: AudioBlock): void {
    this.#encoder.push(block);
  }

  close(): void {
    this.#encoder.close();
  }
}

function firstThatWorks(
  candidates: readonly Candidate[],
  onFault: (fault: GstFault) => void,
): { pipeline: GstPipeline; delaySamples: number } {
  let last: unknown;
  for (const { launch, delaySamples } of candidates) {
    try {
      return { pipeline: new GstPipeline(launch, { onFault }), delaySamples };
    } catch (error) {
      if (!(error instanceof GstError)) throw error;
      last = error;
    }
  }
  throw last;
}

/** Planes to F32LE bytes, clipped to full scale (the encoder takes 16 bits and would wrap or clip harder). */
function interleave(planes: readonly Float32Array[]): Buffer {
  const frames = planes[0]?.length ?? 0;
  const values = new Float32Array(frames * planes.length);
  for (let c = 0; c < planes.length; c++) {
    const plane = planes[c]!;
    for (let i = 0, at = c; i < frames; i++, at += planes.length) {
      const value = plane[i]!;
      values[at] = Math.max(-1, Math.min(1, value));
    }
  }
  return Buffer.from(values.buffer, 0, values.byteLength);
}
