import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { EngineError, type EngineMaker, type EngineName } from "./engine.js";
import { OnnxEngine } from "./onnxruntime.js";
import { gpuNodes } from "./webgpu.js";

/** What onnxruntime-node's own installation adds for NVIDIA (Linux x64 only), beside its binary. */
const LIBRARIES = {
  cuda: ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"],
  tensorrt: [
    "libonnxruntime_providers_shared.so",
    "libonnxruntime_providers_cuda.so",
    "libonnxruntime_providers_tensorrt.so",
  ],
} as const;
const REMEDY = "`npm rebuild onnxruntime-node --onnxruntime-node-install=cuda12` fetches them (CUDA 12, cuDNN 9)";

/** Folder of onnxruntime-node's binaries for this machine; null when the package is not there. */
export function binaryFolder(): string | null {
  try {
    const main = createRequire(import.meta.url).resolve("onnxruntime-node/package.json");
    return join(dirname(main), "bin", "napi-v6", process.platform, process.arch);
  } catch {
    return null;
  }
}

/**
 * CUDA and TensorRT inside onnxruntime-node. Whether CUDA's own libraries are there and fit the driver only loading tells: that is the
 * trial's business, in a process of its own.
 */
function nvidia(name: keyof typeof LIBRARIES): EngineMaker {
  const no = (reason: "not-installed" | "no-device", detail: string) =>
    new EngineError(name as EngineName, reason, detail);
  return {
    name,
    missing: async () => {
      if (process.platform !== "linux" || process.arch !== "x64")
        return no(
          "not-installed",
          `onnxruntime-node has it for Linux on x64 only, not ${process.platform}-${process.arch}`,
        );
      const folder = binaryFolder();
      if (folder === null) return no("not-installed", "onnxruntime-node is not installed");
      const lacking = LIBRARIES[name].filter((file) => !existsSync(join(folder, file)));
      if (lacking.length > 0) return no("not-installed", `onnxruntime-node lacks ${lacking.join(", ")}; ${REMEDY}`);
      if (!gpuNodes().some((node) => !node.startsWith("/dev/dri")))
        return no("no-device", "no /dev/nvidia* or /dev/dxg");
      return null;
    },
    open: (model, options, what) => {
      // TensorFloat-32 keeps 10 bits of a number: off, so that results are those of the CPU. Read by cuBLAS and cuDNN when they start.
      process.env.NVIDIA_TF32_OVERRIDE ??= "0";
      return OnnxEngine.open(model, options, what, name);
    },
  };
}

export const cuda = nvidia("cuda");
export const tensorrt = nvidia("tensorrt");
