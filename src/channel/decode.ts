import { SoundConverter } from "../pipeline/sound-at-48k.js";
import { type GdpPacket, gdpBuffer } from "../transport/gdp/gdp.js";
import { type Caps, capsInt, isFullRange, parseCaps } from "../transport/gst/caps.js";
import { pictureDecoder, type SoundCodec, soundDecoder } from "../transport/gst/launch.js";
import type { GstFault } from "../transport/gst/pipeline.js";
import { CodecStage, type StageEvents } from "./codec-stage.js";
import type { SoundUnit, VideoUnit } from "./units.js";

/** Decoded sound: planar, 48 kHz, 1 or 2 channels. */
export type DecodedSound = { readonly ptsMs: number; readonly channels: readonly Float32Array[] };
/** Decoded picture: I420 as in `Picture`. */
export type DecodedPicture = {
  readonly ptsMs: number;
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
  readonly fullRange: boolean;
};

const SOUND_BACKLOG_BYTES = 512 * 1024;
/** Three seconds of 20 Mbit/s; what does not fit is dropped until the next key frame. */
const PICTURE_BACKLOG_BYTES = 8 * 1024 * 1024;
/** Steps use 25 pictures a second: of 50 or 60 every second one is left out here (videorate would pick them unevenly). */
const LEAST_STEP_MS = 25;
/** A decoder that is this far behind skips to a key frame. */
const MAX_LAG_MS = 500;
/** Pictures whose coming back is watched: more than a decoder holds, and than come in one burst. */
const MAX_GIVEN = 512;

/** Encoded sound to 48 kHz; follows changes of codec, rate and channels. */
export class SoundDecoder {
  readonly counters = { sound_units_dropped: 0, sound_decoder_faults: 0 };
  readonly #decoders = new Map<SoundCodec, CodecStage>();
  readonly #onSound: (sound: DecodedSound) => void;
  readonly #events: StageEvents;

  constructor(onSound: (sound: DecodedSound) => void, events: StageEvents) {
    this.#onSound = onSound;
    this.#events = events;
  }

  push(unit: SoundUnit): void {
    const { codec, caps } = unit.format;
    let decoder = this.#decoders.get(codec);
    if (decoder === undefined) {
      const reader = soundReader(this.#onSound);
      decoder = new CodecStage(soundDecoder(codec), `sound-${codec}`, SOUND_BACKLOG_BYTES, reader, {
        onFault: (fault) => {
          this.counters.sound_decoder_faults += 1;
          this.#events.onFault(fault);
        },
      });
      this.#decoders.set(codec, decoder);
    }
    if (!decoder.push(caps, gdpBuffer(unit.data, { ptsMs: Math.max(0, unit.ptsMs) })))
      this.counters.sound_units_dropped += 1;
  }

  close(): void {
    for (const decoder of this.#decoders.values()) decoder.close();
  }
}

/** GDP packets of F32LE sound (48 kHz, or one of `SOUND_RATES`) to planes of 48 kHz. */
export function soundReader(onSound: (sound: DecodedSound) => void): (packet: GdpPacket) => void {
  const to48k = new SoundConverter();
  let channels = 0;
  let rate = 0;
  return (packet) => {
    if (packet.kind === "caps") {
      const caps = parseCaps(packet.caps);
      channels = capsInt(caps, "channels") ?? 0;
      rate = capsInt(caps, "rate") ?? 0;
    }
    if (packet.kind !== "buffer" || packet.ptsMs === null || channels < 1 || channels > 2 || rate < 1) return;
    const planes = deinterleave(packet.payload, channels);
    const sound = to48k.take({ ptsMs: packet.ptsMs, channels: planes, sampleRate: rate });
    if (sound.channels[0]!.length > 0) onSound(sound);
  };
}

/** F32LE bytes (any alignment) to planes. NaN and infinite values become 0, so that no damaged frame can poison what follows. */
function deinterleave(bytes: Buffer, channels: number): Float32Array[] {
  const frames = Math.floor(bytes.length / (4 * channels));
  const out = Array.from({ length: channels }, () => new Float32Array(frames));
  for (let c = 0; c < channels; c++) {
    const plane = out[c]!;
    for (let i = 0, at = 4 * c; i < frames; i++, at += 4 * channels) {
      const value = bytes.readFloatLE(at);
      plane[i] = Number.isFinite(value) ? value : 0;
    }
  }
  return out;
}

/**
 * Access units to I420 pictures. When it cannot keep up (in bytes, or by MAX_LAG_MS), everything up to the next key frame is dropped and
 * counted: late pictures are of no use, and their decoding would take the time from the sound.
 */
export class PictureDecoder {
  readonly counters = { picture_units_dropped: 0, picture_decoder_faults: 0 };
  readonly #decoder: CodecStage;
  /** What was given and has not come back: presentation time, and when it was given. */
  #given: { readonly ptsMs: number; readonly atMs: number }[] = [];
  #caps = "";
  #config: Buffer | null = null;
  #waitForKey = true;
  #isBehind = false;

  /** @param mayTake asked before each picture is taken over; those not taken leak away, newest first to stay */
  constructor(
    onPicture: (picture: DecodedPicture) => void,
    events: StageEvents,
    mayTake?: () => boolean,
    leastStepMs = LEAST_STEP_MS,
  ) {
    const onPacket = pictureReader((picture) => {
      // Pictures that leak away on the other side come back no more: with a later one they are done.
      this.#given = this.#given.filter(({ ptsMs }) => ptsMs > picture.ptsMs);
      onPicture(picture);
    }, leastStepMs);
    const onFault = (fault: GstFault): void => {
      this.counters.picture_decoder_faults += 1;
      this.#waitForKey = true;
      events.onFault(fault);
    };
    this.#decoder = new CodecStage(pictureDecoder(), "picture", PICTURE_BACKLOG_BYTES, onPacket, { onFault }, mayTake);
  }

  push(unit: VideoUnit): void {
    if (unit.config !== this.#config) {
      this.#config = unit.config;
      this.#caps = `video/x-h264, stream-format=(string)avc, alignment=(string)au, codec_data=(buffer)${unit.config.toString("hex")}`;
    }
    const nowMs = performance.now();
    // By the clock, not by timestamps: what comes in one burst after a stall of the network is decoded at once. What the decoder keeps for
    // reordering, and what was left out behind it, is no lag: with nothing waiting in front it has done what it can.
    const isOld = nowMs - (this.#given[0]?.atMs ?? nowMs) > MAX_LAG_MS;
    const isBehind = isOld && this.#decoder.levelBytes > 0;
    if (isOld && !isBehind) this.#given = [];
    if (isBehind) this.#waitForKey = this.#isBehind = true;
    if (isBehind || (this.#waitForKey && !unit.key)) {
      this.counters.picture_units_dropped += 1;
      return;
    }
    if (this.#waitForKey) this.#isBehind = false;
    if (this.#waitForKey) this.#given = []; // lag is counted from where decoding begins
    this.#given.push({ ptsMs: unit.ptsMs, atMs: nowMs });
    if (this.#given.length > MAX_GIVEN) this.#given.shift();
    const [ptsMs, dtsMs] = [Math.max(0, unit.ptsMs), Math.max(0, unit.dtsMs)];
    const packet = gdpBuffer(unit.data, { ptsMs, dtsMs, delta: !unit.key });
    this.#waitForKey = !this.#decoder.push(this.#caps, packet);
    if (this.#waitForKey) this.counters.picture_units_dropped += 1;
  }

  /** Nothing is decoded before the next key frame, and not because there is too much to decode. */
  get waitsForKey(): boolean {
    return this.#waitForKey && !this.#isBehind;
  }

  close(): void {
    this.#decoder.close();
  }
}

/** GDP packets of I420 to pictures; those nearer than `leastStepMs` to the one before are left out. */
export function pictureReader(
  onPicture: (picture: DecodedPicture) => void,
  leastStepMs = LEAST_STEP_MS,
): (packet: GdpPacket) => void {
  let format: Omit<DecodedPicture, "ptsMs" | "data"> | null = null;
  let lastMs = Number.NEGATIVE_INFINITY;
  return (packet) => {
    if (packet.kind === "caps") format = pictureFormat(parseCaps(packet.caps));
    if (packet.kind !== "buffer" || packet.ptsMs === null || format === null) return;
    const stepMs = packet.ptsMs - lastMs;
    if (stepMs >= 0 && stepMs < leastStepMs) return;
    lastMs = packet.ptsMs;
    // A picture of another size than its caps say (it never was seen) would be read as noise.
    if (packet.payload.length === i420Bytes(format.width, format.height))
      onPicture({ ptsMs: packet.ptsMs, data: packet.payload, ...format });
  };
}

function pictureFormat(caps: Caps): Omit<DecodedPicture, "ptsMs" | "data"> | null {
  const width = capsInt(caps, "width");
  const height = capsInt(caps, "height");
  return width === null || height === null ? null : { width, height, fullRange: isFullRange(caps) };
}

const roundUp = (value: number, step: number): number => Math.ceil(value / step) * step;

/** Bytes of an I420 picture in GStreamer's default layout (see `Picture`). */
export function i420Bytes(width: number, height: number): number {
  const rows = roundUp(height, 2);
  return roundUp(width, 4) * rows + 2 * roundUp(roundUp(width, 2) / 2, 4) * (rows / 2);
}
