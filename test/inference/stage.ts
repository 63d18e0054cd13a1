import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type StreamCard, streamCard } from "../../src/model/card.js";
import {
  type Detection,
  type Inference,
  InferenceError,
  type StepRequest,
  type StepResult,
} from "../../src/model/inference.js";

export const socketPath = (): string => join(tmpdir(), `sl-inference-${randomBytes(6).toString("hex")}.sock`);

export async function within<T>(ms: number, job: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms);
  });
  return Promise.race([job, late]).finally(() => clearTimeout(timer));
}

export async function until(what: string, is: () => boolean, ms = 10_000): Promise<void> {
  const end = Date.now() + ms;
  while (!is()) {
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The code of a rejected request, or "taken". */
export const code = (job: Promise<unknown>): Promise<string> =>
  job.then(
    () => "taken",
    (e: unknown) => (e instanceof InferenceError ? e.code : String(e)),
  );

export function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket));
    socket.on("error", reject);
  });
}

export const cardOf = (sha = "0".repeat(64)): StreamCard =>
  streamCard.parse({
    format: "sightline-model/1",
    name: "counting",
    version: "1",
    kind: "stream",
    sampleRate: 48_000,
    unitSamples: 1920,
    picture: { kind: "mouth-crop", side: 4, colour: "grey" },
    grid: { hopSamples: 384, bins: 2, binHz: 12_000 },
    firstFrameOffset: -3840,
    guardSamples: 4224,
    lookBackSamples: 96_000,
    memorySize: 4,
    states: [],
    files: { step: "model.onnx" },
    sha256: { "model.onnx": sha },
    parameters: 0,
    macPerSecond: 0,
  });

/**
 * A model whose answers tell which request they belong to, which can be held so that requests pile up. Answering order and states are
 * the server's business and are what is under test.
 */
export class CountingInference implements Inference {
  readonly card = cardOf();
  readonly order: string[] = [];
  readonly states = new Map<string, number>();
  running = 0;
  most = 0;
  #gate: Promise<void> = Promise.resolve();
  #open: () => void = () => {};

  hold(): void {
    this.#gate = new Promise((resolve) => {
      this.#open = resolve;
    });
  }
  release(): void {
    this.#open();
  }

  async step(r: StepRequest): Promise<StepResult> {
    await this.#turn(`${r.session.split("/")[1]}:${r.track}@${r.atSample / 1920}`);
    const key = `${r.session} ${r.track}`;
    if (!r.reset && this.states.get(key) !== r.atSample)
      throw new InferenceError("SL_INFERENCE_STATE_LOST", "no such state");
    this.states.set(key, r.atSample + r.units * 1920);
    const data = new Float32Array(r.units * 5 * 2).fill(r.track);
    return {
      gains: { atSample: r.atSample, hopSamples: 384, frames: r.units * 5, bins: 2, binHz: 12_000, data },
      confidence: null,
      voices: null,
      engineMs: 1,
    };
  }

  async remember(session: string): Promise<Float32Array> {
    await this.#turn(`${session.split("/")[1]}:voice`);
    return new Float32Array(4);
  }

  async detectFaces(rgb: Uint8Array): Promise<readonly Detection[]> {
    await this.#turn("faces");
    return [
      { x: rgb[0]! / 255, y: 0, width: 0.5, height: 0.5, score: 0.9, keypoints: new Array<number>(12).fill(0.5) },
    ];
  }

  forget(session: string, track?: number): void {
    for (const key of [...this.states.keys()]) {
      const [s, t] = [key.slice(0, key.lastIndexOf(" ")), Number(key.slice(key.lastIndexOf(" ") + 1))];
      if (s === session && (track === undefined || track === t)) this.states.delete(key);
    }
  }

  async close(): Promise<void> {}

  async #turn(what: string): Promise<void> {
    this.order.push(what);
    this.running++;
    this.most = Math.max(this.most, this.running);
    await this.#gate;
    this.running--;
  }
}

export function stepOf(unit: number, more: Partial<StepRequest> = {}): StepRequest {
  return {
    session: "a",
    track: 1,
    reset: unit === 0,
    atSample: unit * 1920,
    units: 1,
    samples: new Float32Array(1920),
    crops: new Uint8Array(16),
    hasPicture: true,
    soundOf: null,
    personOf: null,
    memory: null,
    ...more,
  };
}
