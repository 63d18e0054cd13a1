import type { StreamCard } from "../card.js";
import type { TensorMap } from "../engines/engine.js";
import { InferenceError, type StepRequest } from "../inference.js";
import { initialStates } from "../initial-states.js";

/** The state of one track: tensors by name and the sample at which the next step must begin. */
export type Track = { readonly key: string; readonly session: string; states: TensorMap; next: number };

/** States beyond this many are dropped, least recently used first: that track answers SL_INFERENCE_STATE_LOST and starts anew. */
const MAX_TRACKS = 256;

/** The states of all tracks of a streaming model, and which of them a step begins with. */
export class TrackStates {
  private readonly tracks = new Map<string, Track>();
  /** What every track begins with. No engine writes into its inputs. */
  private readonly initial: TensorMap;

  constructor(private readonly declared: StreamCard["states"]) {
    this.initial = initialStates(declared);
  }

  /**
   * What a step begins with; from now on the state of its track. It is the caller's to set `states` and `next` after the step, or to
   * drop it. Throws SL_INFERENCE_STATE_LOST.
   */
  begin(r: StepRequest): Track {
    const track = r.reset ? this.fresh(r) : this.goingOn(r);
    // To the end of the map: the first ones are those that were not used for longest.
    this.tracks.delete(track.key);
    this.tracks.set(track.key, track);
    if (this.tracks.size > MAX_TRACKS) this.tracks.delete(this.tracks.keys().next().value!);
    return track;
  }

  /** Unless the track was forgotten or reset meanwhile. */
  drop(track: Track): void {
    if (this.tracks.get(track.key) === track) this.tracks.delete(track.key);
  }

  /** Of one track, or of all of a session. */
  forget(session: string, track?: number): void {
    if (track !== undefined) this.tracks.delete(keyOf(session, track));
    else for (const [key, t] of this.tracks) if (t.session === session) this.tracks.delete(key);
  }

  clear(): void {
    this.tracks.clear();
  }

  private fresh(r: StepRequest): Track {
    return { key: keyOf(r.session, r.track), session: r.session, states: { ...this.initial }, next: r.atSample };
  }

  /** The state that a step without reset begins with: its track's, or one put together of what others heard and found out. */
  private goingOn(r: StepRequest): Track {
    const lost = (what: string): InferenceError => new InferenceError("SL_INFERENCE_STATE_LOST", what);
    const kept = (track: number): Track => {
      const found = this.tracks.get(keyOf(r.session, track));
      if (!found) throw lost(`no state of track ${track}: run it with reset first`);
      return found;
    };
    const heardBy = r.soundOf ?? r.track;
    const heard = kept(heardBy);
    if (heard.next !== r.atSample) throw lost(`track ${heardBy} goes on at sample ${heard.next}, not ${r.atSample}`);
    if (r.soundOf === null) return heard;
    const sources = { sound: heard, person: r.personOf === null ? null : kept(r.personOf) };
    const track = this.fresh(r);
    for (const { name, of } of this.declared) {
      const from = of === undefined ? null : sources[of];
      if (from !== null) track.states[name] = from.states[name]!;
    }
    return track;
  }
}

function keyOf(session: string, track: number): string {
  return `${track}@${session}`;
}
