import type { Voices } from "../../pipeline/voices.js";
import type { StreamCard } from "../card.js";
import { type LoadedStream, loadStream } from "../cards.js";
import { type Engine, type EngineChoice, type TensorMap, tensor } from "../engines/engine.js";
import type { EngineReport } from "../engines/names.js";
import { openSmall } from "../engines/select.js";
import { voiceTrial } from "../engines/trial-inputs.js";
import {
  type Detection,
  type Inference,
  InferenceError,
  type StepRequest,
  type StepResult,
  VOICE_SAMPLES,
} from "../inference.js";
import { allFinite, withoutTiny } from "../numbers.js";
import { StepNetwork } from "./step-network.js";
import { TrackStates } from "./track-states.js";

/** Finds faces in an RGB picture squeezed to side x side (src/model/faces). */
export interface FaceDetector {
  detect(rgb: Uint8Array, side: number): Promise<readonly Detection[]>;
  close(): Promise<void>;
}

export type LocalOptions = {
  readonly threads: number;
  /** Closed together with this object. Without one, detectFaces fails. */
  readonly faces?: FaceDetector;
  /** For the step network; the voice encoder, run once in a while, stays on the CPU where that can be used. Default `cpu`. */
  readonly engine?: EngineChoice;
  /** As in `openEngine`: a named engine that cannot be used is an error. */
  readonly strict?: boolean;
  /** Called when the engine failed and the CPU took over. */
  readonly onFallback?: (report: EngineReport) => void;
};

/** Longest step, in units (10 s): bounds memory and the time for which the event loop stands. */
const MAX_UNITS = 250;
/** Steps that may wait at once; more is a caller that does not listen to its answers. */
const MAX_WAITING = 64;
const NOTHING = new Float32Array(0);
/** Keeps first / (first + second) defined where both masks are 0. */
const TINY = 1e-6;

function failed(message: string): InferenceError {
  return new InferenceError("SL_INFERENCE_FAILED", message);
}

/**
 * The streaming model in this process: files, tests, and inside the inference child. Runs one step after another (the engine
 * blocks the event loop anyway) and keeps the state of every track.
 */
export class LocalInference implements Inference {
  readonly card: StreamCard;
  /** Milliseconds of the trial steps made while opening. */
  warmUpMs = 0;
  private readonly tracks: TrackStates;
  private tail: Promise<unknown> = Promise.resolve();
  private waiting = 0;
  private closed = false;

  private constructor(
    model: LoadedStream,
    private readonly network: StepNetwork,
    private readonly voice: Engine | null,
    private readonly faces: FaceDetector | null,
  ) {
    this.card = model.card;
    this.tracks = new TrackStates(model.card.states);
  }

  /** Loads, verifies and tries a model. Throws SL_MODEL_INVALID when card, files and network do not fit each other. */
  static async open(model: string | LoadedStream, options: LocalOptions): Promise<LocalInference> {
    const loaded = typeof model === "string" ? await loadStream(model) : model;
    const { card, folder } = loaded;
    const network = await StepNetwork.open(loaded, options);
    let voice: Engine | null = null;
    try {
      if (loaded.voice) {
        const named = { threads: options.threads, trial: voiceTrial(), what: `${folder}/${card.files.voice}` };
        voice = await openSmall(loaded.voice, named);
      }
      const self = new LocalInference(loaded, network, voice, options.faces ?? null);
      const begin = performance.now();
      await self.tryOut().catch((e: unknown) => {
        const why = e instanceof Error ? e.message : String(e);
        const files = [card.files.sound, card.files.step].filter((name) => name !== undefined);
        throw new InferenceError("SL_MODEL_INVALID", `${folder}, ${files.join(" and ")}: ${why}`);
      });
      self.warmUpMs = performance.now() - begin;
      return self;
    } catch (e) {
      await network.close();
      await voice?.close();
      throw e;
    }
  }

  /** Which engine runs the steps, and why no other. */
  get engines(): EngineReport {
    return this.network.report;
  }

  step(request: StepRequest): Promise<StepResult> {
    return this.inTurn(() => this.runStep(request));
  }

  remember(_session: string, samples: Float32Array): Promise<Float32Array> {
    return this.inTurn(async () => {
      if (!this.voice) throw failed(`model ${this.card.name} has no voice encoder`);
      if (samples.length < VOICE_SAMPLES.min || samples.length > VOICE_SAMPLES.max || !allFinite(samples))
        throw failed(
          `${samples.length} samples cannot make a voice memory (${VOICE_SAMPLES.min} to ${VOICE_SAMPLES.max} finite ones can)`,
        );
      const { memory } = await this.voice.run({ samples: tensor(withoutTiny(samples), [1, samples.length]) });
      const data = memory?.data;
      if (!(data instanceof Float32Array) || data.length !== this.card.memorySize || !allFinite(data))
        throw failed("the voice encoder gave no memory");
      return data;
    });
  }

  async detectFaces(rgb: Uint8Array, side: number): Promise<readonly Detection[]> {
    if (!this.faces) throw failed("no face detector was given");
    return this.faces.detect(rgb, side);
  }

  forget(session: string, track?: number): void {
    this.tracks.forget(session, track);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.tail;
    this.tracks.clear();
    // All of them, whatever becomes of one.
    await Promise.allSettled([this.network.close(), this.voice?.close(), this.faces?.close()]);
  }

  /** Runs jobs one by one in the order of the calls. */
  private inTurn<T>(job: () => Promise<T>): Promise<T> {
    if (this.closed) return Promise.reject(new InferenceError("SL_INFERENCE_DOWN", "the model is closed"));
    if (this.waiting >= MAX_WAITING)
      return Promise.reject(new InferenceError("SL_INFERENCE_LATE", `${MAX_WAITING} steps are waiting`));
    this.waiting++;
    const mine = this.tail.then(job).finally(() => {
      this.waiting--;
    });
    this.tail = mine.catch(() => undefined);
    return mine;
  }

  private async runStep(r: StepRequest): Promise<StepResult> {
    const { card } = this;
    this.checkRequest(r);
    const track = this.tracks.begin(r);
    try {
      const begin = performance.now();
      const y = await this.network.run(track.states, this.inputsOf(r));
      const engineMs = performance.now() - begin;
      const frames = (r.units * card.unitSamples) / card.grid.hopSamples;
      const cells = frames * card.grid.bins;
      const data = this.gainsOf(y, cells);
      const voices = r.voices === true ? this.voicesOf(y, cells, r.units) : null;
      track.states = Object.fromEntries(card.states.map((s) => [s.name, y[`${s.name}_next`]!]));
      track.next = r.atSample + r.units * card.unitSamples;
      return {
        gains: {
          atSample: r.atSample + card.firstFrameOffset,
          hopSamples: card.grid.hopSamples,
          frames,
          bins: card.grid.bins,
          binHz: card.grid.binHz,
          data,
        },
        confidence: confidenceOf(y),
        voices,
        engineMs,
      };
    } catch (e) {
      // Whatever went wrong, the state is not that of the sound so far.
      this.tracks.drop(track);
      throw e;
    }
  }

  private checkRequest(r: StepRequest): void {
    const { card } = this;
    if (r.voices === true && card.voices === undefined)
      throw failed(`model ${card.name} does not give its voices one by one`);
    const crop = card.picture.side ** 2;
    if (!Number.isInteger(r.units) || r.units < 1 || r.units > MAX_UNITS)
      throw failed(`a step has 1 to ${MAX_UNITS} units, not ${r.units}`);
    if (!Number.isSafeInteger(r.atSample)) throw failed(`a step cannot begin at sample ${r.atSample}`);
    if (r.samples.length !== r.units * card.unitSamples)
      throw failed(`${r.samples.length} samples for ${r.units} units of ${card.unitSamples}`);
    if (r.hasPicture && r.crops.length !== r.units * crop)
      throw failed(`${r.crops.length} bytes of crops for ${r.units} units of ${crop}`);
    if (r.memory && r.memory.length !== card.memorySize)
      throw failed(`a voice memory of ${r.memory.length} numbers; the model takes ${card.memorySize}`);
    if (!allFinite(r.samples) || (r.memory && !allFinite(r.memory)))
      throw failed("samples or memory hold values that are not finite");
  }

  private inputsOf(r: StepRequest): TensorMap {
    const { picture, memorySize } = this.card;
    const crops = r.hasPicture ? r.crops : new Uint8Array(r.units * picture.side ** 2);
    return {
      samples: tensor(withoutTiny(r.samples), [1, r.samples.length]),
      crops: tensor(crops, [1, r.units, picture.side, picture.side]),
      has_picture: tensor(Float32Array.of(r.hasPicture ? 1 : 0), [1, 1]),
      memory: tensor(r.memory ?? new Float32Array(memorySize), [1, memorySize]),
      has_memory: tensor(Float32Array.of(r.memory ? 1 : 0), [1, 1]),
    };
  }

  private gainsOf(y: TensorMap, size: number): Float32Array {
    const gain = floatsOf(y, "gain", size);
    const rest = y.rest?.data;
    if (this.card.gain === "ratio" && rest instanceof Float32Array)
      for (let i = 0; i < size; i++) gain[i] = gain[i]! / (gain[i]! + rest[i]! + TINY);
    return gain;
  }

  private voicesOf(y: TensorMap, cells: number, units: number): Voices {
    const { count, memory } = this.card.voices!;
    return {
      count,
      masks: floatsOf(y, "voices", count * cells),
      belief: floatsOf(y, "belief", count * units),
      fit: floatsOf(y, "fit", count * units),
      lips: floatsOf(y, "lips", units),
      speaker: memory === undefined ? NOTHING : floatsOf(y, "speaker", count * units * memory.size),
    };
  }

  /** Two steps of one unit: allocates, compiles and proves that shapes are as the card says. */
  private async tryOut(): Promise<void> {
    const { unitSamples, picture } = this.card;
    const request = {
      session: "",
      track: -1,
      units: 1,
      samples: new Float32Array(unitSamples),
      crops: new Uint8Array(picture.side ** 2),
      hasPicture: true,
      soundOf: null,
      personOf: null,
      memory: null,
      voices: this.card.voices !== undefined,
    };
    await this.step({ ...request, reset: true, atSample: 0 });
    await this.step({ ...request, reset: false, atSample: unitSamples });
    this.forget("");
  }
}

/** @throws InferenceError when the network did not give so many finite numbers */
function floatsOf(y: TensorMap, name: string, size: number): Float32Array {
  const data = y[name]?.data;
  if (!(data instanceof Float32Array) || data.length !== size)
    throw failed(`the network gave ${data?.length ?? 0} values of ${name}, expected ${size}`);
  if (!allFinite(data)) throw failed(`the network gave values of ${name} that are not finite`);
  return data;
}

/** Of the last unit; null when the network has no such output. */
function confidenceOf(y: TensorMap): number | null {
  const data = y.confidence?.data;
  if (data === undefined) return null;
  const last = data instanceof Float32Array ? data.at(-1) : undefined;
  if (last === undefined || !Number.isFinite(last)) throw failed("the network gave no confidence");
  return Math.min(1, Math.max(0, last));
}
