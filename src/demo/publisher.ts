import { setTimeout as sleep } from "node:timers/promises";
import { type LoopClip, readClip } from "./clip.js";
import { PublishError, parseRtmpUrl, RtmpPublication } from "./rtmp-client.js";

export type DemoPublisherOptions = {
  /** `rtmp://HOST:PORT/live/KEY` */
  readonly rtmpUrl: string;
  /** Path of an FLV file with H.264 and AAC. */
  readonly clip: string;
  /** Told about each change: `publishing`, or why it is not. */
  readonly onState?: (state: "publishing" | "waiting", reason: string | null) => void;
};

export type DemoPublisher = {
  /** Ends the publication; resolves when the connection is closed. */
  stop(): Promise<void>;
};

const TICK_MS = 10;
/** When the process was held up for longer than this, the missed part is left out instead of being sent in a burst. */
const MAX_BEHIND_MS = 2000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4000;

/**
 * Publishes the clip round after round with timestamps that go on, as a camera would. A server that is not there, refuses or goes
 * away is tried again with growing, jittered waits.
 * @throws PublishError for a faulty address, ClipError or FlvError for a faulty clip, the file system's error for a missing one
 */
export async function startDemoPublisher({ rtmpUrl, clip, onState }: DemoPublisherOptions): Promise<DemoPublisher> {
  parseRtmpUrl(rtmpUrl);
  const loop = await readClip(clip);
  const stopping = new AbortController();
  const done = publishForEver(rtmpUrl, loop, stopping.signal, onState ?? (() => {}));
  return {
    async stop() {
      stopping.abort();
      await done;
    },
  };
}

async function publishForEver(
  rtmpUrl: string,
  clip: LoopClip,
  stopping: AbortSignal,
  onState: NonNullable<DemoPublisherOptions["onState"]>,
): Promise<void> {
  let waitMs = FIRST_WAIT_MS;
  while (!stopping.aborted) {
    let reason: string;
    try {
      const publication = await RtmpPublication.start(rtmpUrl, stopping);
      onState("publishing", null);
      waitMs = FIRST_WAIT_MS;
      reason = await playRounds(publication, clip, stopping);
    } catch (error) {
      if (!(error instanceof PublishError)) throw error;
      reason = error.message;
    }
    if (stopping.aborted) return;
    onState("waiting", reason);
    await sleep(waitMs * (0.75 + 0.5 * Math.random()), undefined, { signal: stopping }).catch(() => {});
    waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
  }
}

/** Resolves with the reason when the connection ends or `stopping` fires. */
async function playRounds(publication: RtmpPublication, clip: LoopClip, stopping: AbortSignal): Promise<string> {
  for (const tag of clip.head) publication.send(tag);
  const position = new RoundPosition(clip, performance.now());
  const timer = setInterval(() => {
    for (const tag of position.due(performance.now())) if (!publication.send(tag)) return;
  }, TICK_MS);
  const stopped = new Promise<null>((resolve) => {
    if (stopping.aborted) resolve(null);
    stopping.addEventListener("abort", () => resolve(null), { once: true });
  });
  const end = await Promise.race([publication.ended, stopped]);
  clearInterval(timer);
  await publication.close();
  return end?.message ?? "the server closed the connection";
}

/** Which tags are due at a time of the caller's clock; knows no timer. */
export class RoundPosition {
  #next = 0;
  #roundStartMs = 0;
  #zeroMs: number;

  constructor(
    private readonly clip: LoopClip,
    nowMs: number,
  ) {
    this.#zeroMs = nowMs;
  }

  /** The tags that became due since the last call, with timestamps that go on over the rounds. */
  due(nowMs: number): LoopClip["round"] {
    const out: LoopClip["round"][number][] = [];
    const { round, roundMs } = this.clip;
    // Held up (a suspended laptop, a debugger): stream time goes on from where it was.
    const behind = nowMs - this.#zeroMs - this.#nextAtMs();
    if (behind > MAX_BEHIND_MS) this.#zeroMs += behind;
    while (this.#nextAtMs() <= nowMs - this.#zeroMs) {
      out.push({ ...round[this.#next]!, timestampMs: this.#nextAtMs() });
      this.#next++;
      if (this.#next === round.length) {
        this.#next = 0;
        this.#roundStartMs += roundMs;
      }
    }
    return out;
  }

  #nextAtMs(): number {
    return this.#roundStartMs + this.clip.round[this.#next]!.timestampMs;
  }
}
