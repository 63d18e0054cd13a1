/** Output size and zeros on each side of one axis. */
export type AxisPads = { readonly out: number; readonly before: number; readonly after: number };

/**
 * TensorFlow's SAME padding (spec section 3.1): output ceil(size / stride); an odd zero goes behind. It depends on the size, so the
 * same layer pads a window of 63 frames otherwise than one of 125.
 */
export function samePads(size: number, kernel: number, stride: number): AxisPads {
  const out = Math.ceil(size / stride);
  const total = Math.max((out - 1) * stride + kernel - size, 0);
  const before = Math.floor(total / 2);
  return { out, before, after: total - before };
}

/** The same as ONNX wants it for several axes: all begins, then all ends. */
export function samePadsOf(sizes: readonly number[], kernel: readonly number[], stride: readonly number[]): number[] {
  const axes = sizes.map((size, i) => samePads(size, kernel[i]!, stride[i]!));
  return [...axes.map((a) => a.before), ...axes.map((a) => a.after)];
}

/**
 * What a transposed SAME convolution crops from its full output of (in - 1) * stride + kernel, so that in * stride is left (section
 * 3.2): the padding of the convolution whose gradient it is. In ONNX's order of pads.
 */
export function transposedCrop(kernel: readonly number[], stride: readonly number[]): number[] {
  return samePadsOf(stride, kernel, stride);
}
