/** The part of a WebRTC statistics report (W3C webrtc-stats, RTCInboundRtpStreamStats) that is read. */
type Inbound = {
  readonly type?: unknown;
  readonly trackIdentifier?: unknown;
  /** Sum over all samples or frames, seconds. */
  readonly jitterBufferDelay?: unknown;
  readonly jitterBufferEmittedCount?: unknown;
};

/** A peer connection that tells its statistics. */
export type StatsPeer = { getStats(): Promise<{ values(): Iterable<unknown> }> };

export const MAX_SOUND_BEHIND_MS = 500;
/** A report, so that the placing of pictures never jumps. */
const STEP_MS = 10;

/** Before the sound's jitter buffer: an Opus packet is sent when its 20 ms are full, and its encoder looks 6.5 ms ahead (RFC 6716, 2.1). */
const OPUS_MS = 26.5;

type Sum = { readonly delayS: number; readonly count: number };

/**
 * How much later a WebRTC stack hands over sound than the picture of the same moment: Opus' own
 * delay and the difference of what its two jitter buffers did between one report and the next. The sound's grows when the line or this machine has no time; the picture's hardly does. Pure.
 */
export class SoundBehind {
  #ms: number;
  #last: { readonly sound: Sum; readonly picture: Sum } | null = null;

  /** @param ms until something is known */
  constructor(
    ms: number,
    private readonly soundTrack: string,
    private readonly pictureTrack: string,
  ) {
    this.#ms = ms;
  }

  get ms(): number {
    return this.#ms;
  }

  /** Takes a report, about one a second; one without both tracks changes nothing. */
  push(report: Iterable<unknown>): void {
    const sums = new Map<unknown, Sum>();
    for (const entry of report) {
      const { type, trackIdentifier, jitterBufferDelay: delayS, jitterBufferEmittedCount: count } = entry as Inbound;
      if (type === "inbound-rtp" && typeof delayS === "number" && typeof count === "number")
        sums.set(trackIdentifier, { delayS, count });
    }
    const [sound, picture] = [sums.get(this.soundTrack), sums.get(this.pictureTrack)];
    if (sound === undefined || picture === undefined) return;
    const last = this.#last;
    this.#last = { sound, picture };
    if (last === null || sound.count <= last.sound.count || picture.count <= last.picture.count) return;
    const wantedMs = OPUS_MS + 1000 * (mean(sound, last.sound) - mean(picture, last.picture));
    if (!Number.isFinite(wantedMs)) return;
    const step = Math.max(-STEP_MS, Math.min(STEP_MS, wantedMs - this.#ms));
    this.#ms = Math.max(0, Math.min(MAX_SOUND_BEHIND_MS, this.#ms + step));
  }
}

const mean = (now: Sum, before: Sum): number => (now.delayS - before.delayS) / (now.count - before.count);
