import { cuda, tensorrt } from "./cuda.js";
import type { EngineMaker, EngineName } from "./engine.js";
import { cpu } from "./onnxruntime.js";
import { tensorflow } from "./tensorflow.js";
import { wasm } from "./wasm.js";
import { webgpu } from "./webgpu.js";

/** Every engine by name. */
export const MAKERS: Readonly<Record<EngineName, EngineMaker>> = { tensorrt, cuda, webgpu, cpu, tensorflow, wasm };
