import { readdirSync } from "node:fs";
import { EngineError, type EngineMaker } from "./engine.js";
import { OnnxEngine } from "./onnxruntime.js";

/**
 * WebGPU inside onnxruntime-node: Dawn on Vulkan (Linux), Direct3D (Windows), Metal (macOS); in the package, no library to install but
 * the graphics driver. Needs a Vulkan that Dawn takes: real GPUs, SwiftShader, lavapipe of Mesa 24 or later.
 */
export const webgpu: EngineMaker = {
  name: "webgpu",
  // A software Vulkan computes on the same cores, only slower: it is tried when it was named, not by `auto`.
  missing: async (named) => {
    if (named || process.platform !== "linux" || gpuNodes().length > 0) return null;
    return new EngineError("webgpu", "no-device", "no /dev/dri/renderD*, /dev/nvidia* or /dev/dxg");
  },
  open: (model, options, what) => OnnxEngine.open(model, options, what, "webgpu"),
};

/** Device files of GPUs, as Linux, NVIDIA's driver and WSL name them. */
export function gpuNodes(): string[] {
  const within = (folder: string, name: RegExp): string[] => {
    try {
      return readdirSync(folder)
        .filter((f) => name.test(f))
        .map((f) => `${folder}/${f}`);
    } catch {
      return [];
    }
  };
  return [...within("/dev/dri", /^renderD\d+$/), ...within("/dev", /^(nvidia\d+|dxg)$/)];
}
