import type { DecodedSound } from "../channel/decode.js";
import { SAMPLE_RATE } from "../pipeline/types.js";
import type { Track } from "./readers.js";

/** The timeline fills what is shorter, and takes what is longer for another recording put behind this one. */
const LEAST_MS = 1000;
const LONGEST_MS = 600_000;
const PIECE_MS = 1000;

/**
 * Sound of a file with silence where it has none for 1 s to 10 min while the picture may go on: so every sample stays beside its
 * picture, and the results are as long as the file. Silence comes in pieces of at most a second, so memory does not grow with the hole.
 */
export class FilledSound implements Track<DecodedSound> {
  #untilMs: number | null = null;
  /** What comes after the hole that is being filled. */
  #behind: DecodedSound | null = null;

  constructor(private readonly track: Track<DecodedSound>) {}

  get fault(): string | null {
    return this.track.fault;
  }

  get declaredSeconds(): number | null {
    return this.track.declaredSeconds;
  }

  close(): void {
    this.track.close();
  }

  async next(): Promise<DecodedSound | null> {
    const filling = this.#behind !== null;
    const piece = this.#behind ?? (await this.track.next());
    this.#behind = null;
    if (piece === null) return null;
    const untilMs = this.#untilMs ?? piece.ptsMs;
    const holeMs = piece.ptsMs - untilMs;
    const silent = Math.round((Math.min(holeMs, PIECE_MS) * SAMPLE_RATE) / 1000);
    if (silent > 0 && (filling || (holeMs >= LEAST_MS && holeMs <= LONGEST_MS))) {
      this.#behind = piece;
      return this.#give({ ptsMs: untilMs, channels: piece.channels.map(() => new Float32Array(silent)) });
    }
    return this.#give(piece);
  }

  #give(piece: DecodedSound): DecodedSound {
    this.#untilMs = piece.ptsMs + ((piece.channels[0]?.length ?? 0) * 1000) / SAMPLE_RATE;
    return piece;
  }
}
