import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import type { DecodedPicture } from "../channel/decode.js";
import { planesOf } from "../model/faces/i420.js";
import { type Face, type Highlight, SAMPLE_RATE } from "../pipeline/types.js";
import { gdpBuffer, gdpCaps, gdpSegment, gdpStreamStart } from "../transport/gdp/gdp.js";
import { FileError } from "./errors.js";
import { type GstProcess, hasElement } from "./gst-process.js";
import { type MuxSound, mux } from "./mux.js";
import { HD, type PictureOptions, readPictures, type Track } from "./readers.js";

/** Best first; x264enc is in gstreamer1.0-plugins-ugly, openh264enc in -bad. */
const ENCODERS = ["x264enc speed-preset=veryfast bitrate=2500 key-int-max=60", "openh264enc bitrate=2500000"];

/** The H.264 encoder for cam.mp4. @throws FileError SL_FILE_ENCODER */
export async function h264Encoder(): Promise<string> {
  for (const encoder of ENCODERS) if (await hasElement(encoder.split(" ")[0]!)) return encoder;
  throw new FileError(
    "SL_FILE_ENCODER",
    "cam.mp4 needs an H.264 encoder: install gstreamer1.0-plugins-ugly (x264enc) or gstreamer1.0-plugins-bad (openh264enc)",
  );
}

/** Draws heat into pictures, which come in their order. */
export type Heat = {
  /** `data`: I420, changed in place. `sample`: the picture's, at 48 kHz. */
  draw(data: Uint8Array, width: number, height: number, sample: number, fullRange: boolean): Promise<void>;
  close(): void | Promise<void>;
};

/** Makes other pictures of pictures, which come in their order; all of one size. */
export type Remake = {
  /** `sample`: the picture's, at 48 kHz. */
  make(picture: DecodedPicture, sample: number): Promise<DecodedPicture>;
  close(): void | Promise<void>;
};

/** Heat drawn into the pictures themselves. */
export function withHeat(heat: Heat): Remake {
  return {
    async make(picture, sample) {
      const { data, width, height, fullRange } = picture;
      await heat.draw(data, width, height, sample, fullRange);
      return picture;
    },
    close: () => heat.close(),
  };
}

export type CamOptions = {
  readonly input: string;
  readonly path: string;
  readonly remake: Remake;
  /** How the pictures are decoded; default: up to 1280 x 720. */
  readonly reading?: PictureOptions;
  readonly sound: MuxSound;
  readonly encoder: string;
  readonly signal?: AbortSignal | undefined;
};

/** A video of remade pictures: with heat where the sound comes from, or what lies there. */
export async function writeCam({ input, path, remake, reading, sound, encoder, signal }: CamOptions): Promise<void> {
  const pictures = readPictures(input, { limit: HD, even: true, leastStepMs: 0, ...reading, signal });
  try {
    await mux({
      path,
      sound,
      pictures: `fdsrc fd=4 ! application/x-gdp ! gdpdepay ! videoconvert ! ${encoder} ! h264parse`,
      feed: (process) => feed(process, pictures, remake, sound.atSample),
      signal,
    });
  } finally {
    pictures.close();
  }
}

async function feed(
  process: GstProcess,
  pictures: Track<DecodedPicture>,
  remake: Remake,
  soundAt: number,
): Promise<void> {
  let size = "";
  try {
    for (let picture = await pictures.next(); picture !== null; picture = await pictures.next()) {
      const { ptsMs } = picture;
      // Pictures before the sound's time 0 have no place.
      if (ptsMs < 0) continue;
      const made = await remake.make(picture, Math.round((ptsMs * SAMPLE_RATE) / 1000) - soundAt);
      const { width, height, data, fullRange } = made;
      const caps = `width=(int)${width}, height=(int)${height}`;
      if (size === "") {
        size = caps;
        const colour = fullRange ? ", colorimetry=(string)1:4:0:0" : "";
        const raw = `video/x-raw, format=(string)I420, ${caps}, framerate=(fraction)30/1, pixel-aspect-ratio=(fraction)1/1${colour}`;
        await process.write(4, Buffer.concat([gdpStreamStart("cam"), gdpCaps(raw), gdpSegment()]));
      }
      // An MP4 track has one size.
      if (caps !== size) continue;
      if (!(await process.write(4, gdpBuffer(data, { ptsMs })))) return;
    }
  } finally {
    process.closeInput(4);
    await remake.close();
  }
}

/**
 * The live model has no class activation map: it works on mouth crops. So the heat is each face's share of the sound (`speaking`),
 * drawn round its box. Faces are those of the newest line of highlight.jsonl not later than the picture; two lines are held.
 */
export class FaceHeat implements Heat {
  readonly #reader: ReturnType<typeof createInterface>;
  readonly #lines: AsyncIterator<string>;
  #now: readonly Face[] = [];
  #next: Highlight | null = null;
  #ended = false;

  constructor(path: string) {
    this.#reader = createInterface({ input: createReadStream(path) });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  async draw(data: Uint8Array, width: number, height: number, sample: number): Promise<void> {
    for (const face of await this.#facesAt(sample)) drawHeat(data, width, height, face);
  }

  async #facesAt(sample: number): Promise<readonly Face[]> {
    for (;;) {
      if (this.#next === null && !this.#ended) {
        const { done, value } = await this.#lines.next();
        if (done) this.#ended = true;
        else this.#next = JSON.parse(value) as Highlight;
      }
      if (this.#next === null || this.#next.atSample > sample) return this.#now;
      this.#now = this.#next.faces;
      this.#next = null;
    }
  }

  close(): void {
    this.#reader.close();
  }
}

/** Colour of full heat (Cb, Cr: red) and how much of the picture shows through. */
const RED = { u: 90, v: 235 } as const;
const OPACITY = 0.75;
/** Reach of the heat in boxes: beyond it nothing is left of the bell. */
const REACH = 1.4;

/** A red bell round the face's box, as strong as its share of the sound; in place. */
export function drawHeat(data: Uint8Array, width: number, height: number, { box, speaking }: Face): void {
  if (!(speaking > 0.02)) return;
  const { yStride, uvStride, uOffset, vOffset } = planesOf(width, height);
  const cx = (box.x + box.width / 2) * width;
  const cy = (box.y + box.height / 2) * height;
  const rx = Math.max(1, box.width * width * REACH);
  const ry = Math.max(1, box.height * height * REACH);
  const left = Math.max(0, Math.floor((cx - rx) / 2));
  const right = Math.min(Math.ceil(width / 2), Math.ceil((cx + rx) / 2));
  const bottom = Math.min(Math.ceil(height / 2), Math.ceil((cy + ry) / 2));
  for (let row = Math.max(0, Math.floor((cy - ry) / 2)); row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const d = ((2 * column + 1 - cx) / rx) ** 2 + ((2 * row + 1 - cy) / ry) ** 2;
      const heat = OPACITY * Math.min(1, speaking) * Math.exp(-4 * d);
      if (heat < 0.02) continue;
      const at = row * uvStride + column;
      const u = uOffset + at;
      const v = vOffset + at;
      data[u] = data[u]! + heat * (RED.u - data[u]!);
      data[v] = data[v]! + heat * (RED.v - data[v]!);
      // A little light, so that heat shows on dark faces, too.
      for (let y = 2 * row; y < Math.min(height, 2 * row + 2); y++) {
        for (let x = 2 * column; x < Math.min(width, 2 * column + 2); x++) {
          const luma = y * yStride + x;
          data[luma] = data[luma]! + 0.3 * heat * (150 - data[luma]!);
        }
      }
    }
  }
}
