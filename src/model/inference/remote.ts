import type { StreamCard } from "../card.js";
import {
  type Detection,
  type Inference,
  InferenceError,
  type StepRequest,
  type StepResult,
  VOICE_SAMPLES,
} from "../inference.js";
import { type ConnectionOptions, InferenceConnection } from "./connection.js";
import { bytesOf, decodeFloats, decodeGains, encodeStep, type FromChild } from "./protocol.js";

export type RemoteOptions = ConnectionOptions<StreamCard> & {
  /** How long the answer to a step (a detection, a voice memory) is of use; the child serves earlier deadlines first. Milliseconds. */
  readonly stepDeadlineMs?: number;
  readonly detectDeadlineMs?: number;
  readonly rememberDeadlineMs?: number;
};

/**
 * A streaming model in the inference child as seen by a channel. After the child was restarted (and after any step that failed) a step of a
 * track is refused with SL_INFERENCE_STATE_LOST until one with `reset` is asked for.
 */
export class RemoteInference extends InferenceConnection<StreamCard> implements Inference {
  readonly #deadlines: { readonly step: number; readonly detect: number; readonly remember: number };
  /** Tracks whose state the child has, of this connection, and the newest step asked of each. */
  readonly #alive = new Map<string, number>();

  constructor(options: RemoteOptions) {
    const { stepDeadlineMs = 1000, detectDeadlineMs = 1000, rememberDeadlineMs = 2500, ...connection } = options;
    super(connection);
    this.#deadlines = { step: stepDeadlineMs, detect: detectDeadlineMs, remember: rememberDeadlineMs };
  }

  async step(request: StepRequest): Promise<StepResult> {
    const track = trackKey(request.session, request.track);
    this.checkUp();
    const of = request.soundOf ?? request.track;
    if (!request.reset && !this.#alive.has(trackKey(request.session, of))) {
      throw new InferenceError("SL_INFERENCE_STATE_LOST", `no state of track ${of}: run it with reset first`);
    }
    const id = this.nextId();
    const { header, payload } = encodeStep(request, id, this.#deadlines.step);
    this.#alive.set(track, id);
    return this.ask<StepResult>(
      header,
      payload,
      (answer, gains) => (answer.t === "gains" && this.#fits(answer) ? decodeGains(answer, gains) : null),
      () => {
        // Unless a newer step was asked for meanwhile: its own answer will tell whether the state is right.
        if (this.#alive.get(track) === id) this.#alive.delete(track);
      },
    );
  }

  /** The child may have been given a card of the same files that says otherwise. */
  #fits({ voices, speaker }: Extract<FromChild, { t: "gains" }>): boolean {
    return voices === 0 || speaker === (this.card.voices?.memory?.size ?? 0);
  }

  /** As in `Inference`; of one session one may wait: asked again meanwhile, the older one is answered SL_INFERENCE_LATE. */
  async remember(session: string, samples: Float32Array): Promise<Float32Array> {
    this.checkUp();
    const { min, max } = VOICE_SAMPLES;
    if (samples.length < min || samples.length > max)
      throw new InferenceError("SL_INFERENCE_FAILED", `${samples.length} samples cannot make a voice memory`);
    const header = { t: "remember" as const, id: this.nextId(), session, deadlineMs: this.#deadlines.remember };
    return this.ask<Float32Array>(header, bytesOf(samples), (answer, payload) => {
      if (answer.t !== "memory") return null;
      const memory = decodeFloats(payload);
      return memory.length === this.card.memorySize ? memory : null;
    });
  }

  async detectFaces(rgb: Uint8Array, side: number): Promise<readonly Detection[]> {
    this.checkUp();
    const header = { t: "detect" as const, id: this.nextId(), side, deadlineMs: this.#deadlines.detect };
    return this.ask<readonly Detection[]>(header, rgb, (answer) => (answer.t === "faces" ? answer.faces : null));
  }

  forget(session: string, track?: number): void {
    for (const key of [...this.#alive.keys()]) if (isTrackOf(key, session, track)) this.#alive.delete(key);
    this.tell({ t: "forget", session, ...(track === undefined ? {} : { track }) });
  }

  protected override lost(): void {
    this.#alive.clear();
  }
}

const trackKey = (session: string, track: number): string => `${track} ${session}`;
const isTrackOf = (key: string, session: string, track: number | undefined): boolean =>
  track === undefined ? key.slice(key.indexOf(" ") + 1) === session : key === trackKey(session, track);
