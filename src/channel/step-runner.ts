import type { FaceFollower, FollowedFace } from "../model/faces/follower.js";
import { type Look, lookOf } from "../model/faces/look.js";
import { type Inference, InferenceError, type StepRequest } from "../model/inference.js";
import type { GridLayout } from "../pipeline/band-energy.js";
import { type AttributionPolicy, type Decision, FacePolicy } from "../pipeline/face-policy.js";
import type { GainRenderer, StepSound } from "../pipeline/gain-renderer.js";
import { type Face, SAMPLE_RATE } from "../pipeline/types.js";
import type { VoiceMemory } from "../pipeline/voice-memory.js";
import { Beliefs } from "../pipeline/voices.js";
import { KnownPeople } from "./known-people.js";
import { type Answered, Run, StepDecisions } from "./step-decisions.js";
import { joined, layoutOf, tail, voicesTail } from "./steps.js";

/** What the runner asks about the picture; unit u begins at sample u * unitSamples. */
export type Faces = Pick<FaceFollower, "facesAt" | "cropsFor" | "frozenAt" | "detectionFault">;

export type StepRunnerOptions = {
  readonly inference: Inference;
  /** Name under which the inference keeps the state of our tracks. */
  readonly session: string;
  readonly faces: Faces;
  readonly renderer: GainRenderer;
  readonly policy: Partial<AttributionPolicy>;
  /** A step is decided about when so much more was seen and heard. Needs a model whose card has `voices`; default 0. */
  readonly lookAheadUnits?: number;
};

/** What a step came to, once it is decided about. */
export type StepOutcome = {
  /** The cells that the step's gains lie on. */
  readonly layout: GridLayout;
  /** Where they are wanted from: before it they only meet those of before. */
  readonly fromSample: number;
  /** Null when the model failed (`failure` says why) or was not asked; the sound is left as it is. */
  readonly decision: Decision | null;
  readonly failure: InferenceError["code"] | null;
  /** The faces of the step's last unit, or the one place where a window hears its sound; `speaking` is 0 where the model said nothing. */
  readonly faces: readonly Face[];
  /** Where in the programme these faces are to be seen; later than `fromSample` by most of a step. */
  readonly facesSample: number;
  /** Milliseconds in the engine, all faces. */
  readonly engineMs: number;
  /** Faces whose state was made anew from the past. */
  readonly resets: number;
  /** Nobody whose voice is known was to be seen, and that of somebody seen before was kept. */
  readonly recalled: boolean;
  /** Faces that came back: what was found out about them before a cut goes on. */
  readonly recognised: number;
  /** Decided before its look-ahead was seen and heard, for its sound had to leave. */
  readonly hurried: boolean;
};

/** A face's voice counts as surely found from this confidence on. */
const SURE = 0.3;
/** For so long after it was last seen a voice is kept without a picture. */
const RECALL_SAMPLES = 30 * SAMPLE_RATE;

/**
 * Runs one model step for every followed face and gives the renderer what comes of it, at once or with a look-ahead. Has no clock: live channels and
 * files run the very same steps. One call at a time, in order; a step that was left out in between costs a look-back, nothing else.
 */
export class StepRunner {
  readonly #options: StepRunnerOptions;
  readonly #policy: FacePolicy;
  readonly #decisions: StepDecisions;
  readonly #lookAheadUnits: number;
  /** States that the inference keeps, by track. */
  readonly #running = new Map<number, Running>();
  /** Faces of whose voice the model was sure when they were last seen. */
  readonly #people = new KnownPeople();
  /** How they sound, by track: it outlasts a state that was lost, and steps that failed. */
  readonly #memories = new Map<number, VoiceMemory>();
  #chains = 0;
  /** Where the timestamps jumped: the first step that reaches it forgets all that was before. Null: nowhere. */
  #anewFrom: number | null = null;

  constructor(options: StepRunnerOptions) {
    const { inference, renderer, policy, lookAheadUnits = 0 } = options;
    const { voices } = inference.card;
    if (lookAheadUnits > 0 && voices === undefined)
      throw new RangeError(
        `model ${inference.card.name} does not give its voices one by one: no look-ahead is possible`,
      );
    this.#options = options;
    this.#lookAheadUnits = lookAheadUnits;
    this.#policy = new FacePolicy(policy);
    this.#decisions = new StepDecisions({ renderer, policy: this.#policy, lookAheadUnits });
  }

  /** The timestamps jumped at this sample: who and what was heard before it says nothing of what comes. */
  beginAnew(atSample: number): void {
    this.#anewFrom = atSample;
  }

  /**
   * The step is run; given back is what is decided by it: with a look-ahead, steps before it. Each is decided about when it is asked for, so that
   * its gains can be used before the next one's are there. Never rejects for what the inference does; rejects on faults of ours.
   */
  async run(step: StepSound): Promise<Iterable<StepOutcome>> {
    const { card } = this.#options.inference;
    const { faces } = this.#options;
    const layout = layoutOf(step, card);
    const end = step.atSample + step.units * card.unitSamples;
    if (this.#anewFrom !== null && end > this.#anewFrom) this.#forgetEverything();
    const lastUnit = step.atSample / card.unitSamples + step.units - 1;
    const frozen = faces.frozenAt(lastUnit);
    const tracks = faces.facesAt(lastUnit * card.unitSamples);
    const seen = frozen ? [] : tracks;
    // Requests are cut before anything is awaited: the sound of a look-back may leave the ring meanwhile.
    const taken = new Set(tracks.map((t) => t.id));
    const shots = seen.map((face) => ({
      face,
      recalled: false,
      request: this.#request(face.id, step, true, taken),
    }));
    // Until it is known whose voice a face that is seen has, the one that was known goes on: who is shown may only be listening.
    const settled = shots.some(
      ({ face, request }) => this.#running.get(request.personOf ?? face.id)?.run.settled === true,
    );
    // Who has been known again is there, and nobody is there twice.
    const there = new Set(shots.flatMap(({ face, request }) => [face.id, request.personOf ?? face.id]));
    const recalled = settled ? [] : this.#recall(step.atSample, there);
    const asked = [
      ...shots,
      ...recalled.map((face) => ({ face, recalled: true, request: this.#request(face.id, step, false) })),
    ];
    // All that begin in one step have heard the same, and keep two voices in the same order.
    const chain = this.#chains++;
    const answer = (some: typeof asked): Promise<Answer[]> =>
      Promise.all(some.map((a) => this.#answer(a.face, a.request, step, layout, a.recalled, chain)));
    // New faces first: what they begin with is the others' state before this step.
    const heirs = asked.filter((a) => a.request.soundOf !== null);
    const answers = await answer(heirs);
    answers.push(...(await answer(asked.filter((a) => a.request.soundOf === null))));

    let engineMs = 0;
    let failure: InferenceError["code"] | null = null;
    const answered: Answered[] = [];
    for (const { face, result, engineMs: tookMs, failure: why } of answers) {
      engineMs += tookMs;
      if (result !== null) answered.push({ face, recalled: recalled.includes(face), ...result });
      // A visible person without an answer must not be turned down by the answers for others.
      else if (this.#policy.counts(face.box)) failure ??= why;
    }
    for (const answer of answers) if (seen.includes(answer.face)) this.#know(answer, step);
    // Nobody was found because nobody could be looked for: that is a fault, not an empty picture (which may be set to mute).
    if (tracks.length === 0 && answered.length === 0 && !frozen) failure ??= faces.detectionFault;
    this.#forgetAllBut([...tracks, ...recalled], end);
    this.#decisions.push({
      layout,
      fromUnit: step.atSample / card.unitSamples,
      units: step.units,
      faces: tracks,
      facesSample: lastUnit * card.unitSamples,
      answered,
      frozen: frozen && answered.length === 0,
      failure,
      engineMs,
      resets: asked.filter((a) => a.request.reset).length,
      recognised: answers.filter((a) => a.recognised).length,
    });
    return this.#decisions.until(lastUnit);
  }

  /** What cannot wait for the look-ahead, for gains up to this sample are asked for now: decided with what is known. */
  decideBefore(sample: number): Iterable<StepOutcome> {
    return this.#decisions.before(sample);
  }

  /** No more steps come: the rest is decided. */
  finish(): Iterable<StepOutcome> {
    return this.#decisions.until(Number.POSITIVE_INFINITY);
  }

  /**
   * Faces that are not seen now (cut-away, slide, frozen picture, somebody else) but whose voice was surely found not long ago: the model goes on with
   * its state and without a picture. Of several those that were seen last. As soon as the voice of a face in the picture is surely found, the picture decides again. A state that was lost cannot be made
   * anew from sound alone: that voice is given up.
   */
  #recall(atSample: number, but: ReadonlySet<number>): FollowedFace[] {
    const last = [...this.#running].flatMap(([track, { face, next }]) => {
      const seen = this.#people.lastSeen(track);
      const may = next === atSample && seen !== null && atSample - seen <= RECALL_SAMPLES;
      return may && !but.has(track) ? [{ face, seen }] : [];
    });
    const newest = Math.max(...last.map((l) => l.seen));
    return last.filter((l) => l.seen === newest).map((l) => l.face);
  }

  #know({ face, result, look }: Answer, step: StepSound): void {
    const running = this.#running.get(face.id);
    if (running !== undefined && result !== null && result.run.confidence >= SURE)
      this.#people.know(face.id, running.chain, step.atSample, look, step.units);
    else this.#people.forget(face.id);
  }

  /**
   * What a face that is new to the tracker begins with: a camera cut, a slide or a face lost and found again is no new beginning. The two voices
   * go on as they were heard under any other face, and whose voice it is comes back with a face that looks like one of before.
   */
  #beginning(track: number, step: StepSound, taken: Set<number>): Beginning | null {
    const { faces, inference } = this.#options;
    const { states, unitSamples, picture } = inference.card;
    if (this.#running.has(track) || states.every((s) => s.of === undefined)) return null;
    const live = [...this.#running].filter(([, { next }]) => next === step.atSample);
    const { crops, hasPicture } = faces.cropsFor(track, step.atSample / unitSamples, step.units);
    const chains = new Set(live.map(([, { chain }]) => chain));
    const person = hasPicture ? this.#people.find(lookOf(crops, picture.side), chains, taken) : null;
    const from = live.find(([, { chain }]) => person === null || chain === person.chain);
    if (from === undefined) return null;
    if (person !== null) taken.add(person.track); // nobody is there twice
    return { soundOf: from[0], personOf: person?.track ?? null };
  }

  /** @param taken tracks in the picture; given: this one may begin with what is known from others */
  #request(track: number, step: StepSound, withPicture: boolean, taken: Set<number> | null = null): StepRequest {
    const { renderer, session, faces, inference } = this.#options;
    const { unitSamples } = inference.card;
    const beginning = taken === null ? null : this.#beginning(track, step, taken);
    const reset = beginning === null && this.#running.get(track)?.next !== step.atSample;
    const past = reset ? renderer.lookBack(step.atSample) : null;
    const atSample = past?.atSample ?? step.atSample;
    const units = (past?.units ?? 0) + step.units;
    const samples = past === null ? step.samples : joined(past.samples, step.samples);
    const { crops, hasPicture } = withPicture
      ? faces.cropsFor(track, atSample / unitSamples, units)
      : { crops: new Uint8Array(0), hasPicture: false };
    return {
      session,
      track,
      reset,
      soundOf: beginning?.soundOf ?? null,
      personOf: beginning?.personOf ?? null,
      atSample,
      units,
      samples,
      crops,
      hasPicture,
      memory: null,
      voices: inference.card.voices !== undefined,
    };
  }

  async #answer(
    face: FollowedFace,
    request: StepRequest,
    step: StepSound,
    layout: GridLayout,
    recalled: boolean,
    freshChain: number,
  ): Promise<Answer> {
    let engineMs = 0;
    const nothing: Answer = { face, result: null, failure: null, engineMs, look: null, recognised: false };
    const memory = this.#memories.get(request.personOf ?? face.id) ?? null;
    // A lost state (the inference was restarted) is re-made at once: without what was known of the person, then with the look-back.
    for (let attempt = request; ; ) {
      try {
        const { gains, voices, confidence, engineMs: tookMs } = await this.#options.inference.step(attempt);
        engineMs += tookMs;
        const { unitSamples, picture } = this.#options.inference.card;
        const { soundOf, personOf, crops, hasPicture } = attempt;
        const before = this.#running.get(soundOf ?? face.id);
        const goesOn = !attempt.reset && before !== undefined;
        const run = goesOn && soundOf === null ? before.run : this.#newRun(step.units, memory);
        run.confidence = confidence ?? 0;
        if (voices !== null) run.beliefs?.add(attempt.atSample / unitSamples, voices, hasPicture);
        if (run.beliefs?.memory) this.#memories.set(face.id, run.beliefs.memory);
        this.#running.set(face.id, {
          face,
          chain: goesOn ? before.chain : freshChain,
          next: step.atSample + step.units * unitSamples,
          run,
        });
        return {
          ...nothing,
          result: {
            gains: tail(gains, layout),
            voices: voices === null ? null : voicesTail(voices, layout, step.units),
            run,
          },
          engineMs,
          look: hasPicture ? lookOf(crops.subarray(-step.units * picture.side ** 2), picture.side) : null,
          recognised: personOf !== null,
        };
      } catch (error) {
        if (!(error instanceof InferenceError)) throw error;
        this.#forget(face.id);
        if (recalled) return { ...nothing, engineMs };
        if (error.code !== "SL_INFERENCE_STATE_LOST" || attempt.reset)
          return { ...nothing, failure: error.code, engineMs };
        if (attempt.personOf !== null) {
          this.#people.forget(attempt.personOf);
          attempt = { ...attempt, personOf: null };
        } else attempt = this.#request(face.id, step, true);
      }
    }
  }

  /** Steps may be joined, up to a look-back: that much is kept beside the look-ahead. */
  #newRun(units: number, memory: VoiceMemory | null): Run {
    const { unitSamples, lookBackSamples, voices } = this.#options.inference.card;
    if (voices === undefined) return new Run(null);
    const kept = units + this.#lookAheadUnits + 2 * Math.ceil(lookBackSamples / unitSamples);
    return new Run(new Beliefs(voices, kept, memory?.copy()));
  }

  /** At the end of a step: who was followed in it goes on, and so do people who are known from before as long as the sound does. */
  #forgetAllBut(tracks: readonly FollowedFace[], next: number): void {
    const live = [...this.#running.values()].filter((r) => r.next === next);
    this.#people.keepOnly(new Set(live.map((r) => r.chain)), next);
    for (const track of this.#running.keys()) {
      if (tracks.some((t) => t.id === track) || this.#people.has(track)) continue;
      this.#forget(track);
    }
    for (const track of this.#memories.keys())
      if (!tracks.some((t) => t.id === track) && !this.#people.has(track)) this.#memories.delete(track);
  }

  #forgetEverything(): void {
    this.#anewFrom = null;
    for (const track of [...this.#running.keys()]) this.#forget(track);
    this.#people.clear();
    this.#memories.clear();
  }

  #forget(track: number): void {
    this.#running.delete(track);
    this.#people.forget(track);
    this.#options.inference.forget(this.#options.session, track);
  }
}

/** `next`: where the next step must begin to continue the state; `chain`: what has heard the sound without a break, whoever was seen. */
type Running = { readonly face: FollowedFace; readonly next: number; readonly chain: number; readonly run: Run };

type Beginning = Pick<StepRequest, "soundOf" | "personOf">;

type Answer = {
  readonly face: FollowedFace;
  /** Null: the model did not answer, for the reason `failure`. */
  readonly result: Pick<Answered, "gains" | "voices" | "run"> | null;
  readonly failure: InferenceError["code"] | null;
  readonly engineMs: number;
  /** Of its newest crops; null: no picture. */
  readonly look: Look | null;
  readonly recognised: boolean;
};
