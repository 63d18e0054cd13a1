import { planesOf } from "../model/faces/i420.js";
import { LibraryError } from "./errors.js";

/** Larger pictures are no use to a detector of 256 x 256 squares and would only cost memory. */
const MAX_SIDE = 8192;

/** Bytes of an I420 picture without padding, as WebRTC stacks, ffmpeg (`-pix_fmt yuv420p -f rawvideo`) and WebCodecs give it. */
export function packedBytes(width: number, height: number): number {
  return width * height + 2 * ((width + 1) >> 1) * ((height + 1) >> 1);
}

/**
 * An I420 picture in the layout that the pipeline reads (`Picture`: strides rounded up to 4). Takes pictures without padding as well as
 * those in that layout, told apart by their length; always a copy, because the caller may use its buffer again.
 * @param rotation degrees clockwise (0, 90, 180, 270) by which the picture must be turned to stand upright, as cameras of phones say it
 * @throws LibraryError SL_MEDIA_INVALID
 */
export function alignedI420(
  data: Uint8Array,
  width: number,
  height: number,
  rotation = 0,
): { readonly data: Uint8Array; readonly width: number; readonly height: number } {
  const whole = [width, height].every((n) => Number.isInteger(n) && n >= 1 && n <= MAX_SIDE);
  if (!whole) throw new LibraryError(`a picture of ${width} x ${height}; sides are whole, 1 to ${MAX_SIDE}`);
  if (![0, 90, 180, 270].includes(rotation))
    throw new LibraryError(`a picture turned by ${rotation} degrees; allowed are 0, 90, 180, 270`);
  const from = planesOf(width, height);
  const packed = packedBytes(width, height);
  const isPacked = data.length === packed;
  if (!isPacked && data.length !== from.byteLength)
    throw new LibraryError(
      `an I420 picture of ${width} x ${height} has ${packed} bytes (strides rounded up to 4: ${from.byteLength}), not ${data.length}`,
    );
  const [halfWidth, halfHeight] = [(width + 1) >> 1, (height + 1) >> 1];
  const turned = rotation === 90 || rotation === 270;
  const [outWidth, outHeight] = turned ? [height, width] : [width, height];
  const to = planesOf(outWidth, outHeight);
  const out = new Uint8Array(to.byteLength);
  const planes = [
    {
      at: 0,
      offset: 0,
      stride: isPacked ? width : from.yStride,
      w: width,
      h: height,
      toOffset: 0,
      toStride: to.yStride,
    },
    ...[0, 1].map((i) => ({
      at: i,
      offset: isPacked ? width * height + i * halfWidth * halfHeight : i === 0 ? from.uOffset : from.vOffset,
      stride: isPacked ? halfWidth : from.uvStride,
      w: halfWidth,
      h: halfHeight,
      toOffset: i === 0 ? to.uOffset : to.vOffset,
      toStride: to.uvStride,
    })),
  ];
  for (const { offset, stride, w, h, toOffset, toStride } of planes) {
    for (let y = 0; y < h; y++) {
      const row = data.subarray(offset + y * stride, offset + y * stride + w);
      if (rotation === 0) out.set(row, toOffset + y * toStride);
      else if (rotation === 180)
        for (let x = 0; x < w; x++) out[toOffset + (h - 1 - y) * toStride + w - 1 - x] = row[x]!;
      else if (rotation === 90) for (let x = 0; x < w; x++) out[toOffset + x * toStride + h - 1 - y] = row[x]!;
      else for (let x = 0; x < w; x++) out[toOffset + (w - 1 - x) * toStride + y] = row[x]!;
    }
  }
  return { data: out, width: outWidth, height: outHeight };
}
