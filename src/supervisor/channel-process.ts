import type { DashboardChannel } from "../dashboard/api.js";
import type { ChannelPatch, ChannelStatus, FromChannel, ToChannel } from "../transport/ipc/messages.js";
import type { Log } from "./log.js";
import { ManagedProcess, type ProcessLimits, ProcessState } from "./process.js";
import { shownStatus } from "./state.js";

export type ChannelOptions = {
  /** Of the channel. */
  readonly name: string;
  readonly entry: string;
  /** Asked for at each start. */
  readonly settings: () => ToChannel;
  readonly log: Log;
  readonly limits: Partial<ProcessLimits>;
  readonly onStatus: (status: ChannelStatus) => void;
  /** The process has another state. */
  readonly onChange: () => void;
};

/** Blocked GStreamer pulls and bus polls hold one libuv thread each. */
const CHANNEL_THREADS = "32";

/** The process of one channel: what it last said, and what an operator has changed since the file was read. */
export class ChannelProcess {
  readonly process: ManagedProcess<ToChannel, FromChannel>;
  readonly #name: string;
  #status: ChannelStatus | null = null;
  /** When the status came, performance.now(). */
  #statusAt = 0;
  #operator: ChannelPatch = {};

  constructor(options: ChannelOptions) {
    const { name, entry, settings, log, limits } = options;
    this.#name = name;
    this.process = new ManagedProcess<ToChannel, FromChannel>({
      ...{ name: channelProcessName(name), entry, log, limits },
      env: { UV_THREADPOOL_SIZE: CHANNEL_THREADS },
      configure: settings,
    });
    this.process.on("message", (message) => {
      if (message.type !== "status") return;
      this.#status = shownStatus(name, message.status);
      this.#statusAt = performance.now();
      options.onStatus(this.#status);
    });
    this.process.on("state", (info) => {
      // What a process said that is gone is not true any more.
      if (info.state !== ProcessState.Running) this.#status = null;
      options.onChange();
    });
  }

  /** What an operator changed; survives restarts of the process until the file says otherwise. */
  get operator(): ChannelPatch {
    return this.#operator;
  }

  get shown(): DashboardChannel {
    const ageMs = this.#status ? Math.round(performance.now() - this.#statusAt) : null;
    return { name: this.#name, status: this.#status, ageMs, process: this.process.info.state };
  }

  /** An operator's change: now, and after each restart. */
  change(patch: ChannelPatch): void {
    this.#operator = { ...this.#operator, ...patch };
    this.process.send({ type: "set", patch });
  }

  /** The file's new word, which counts more than what an operator had set before. */
  follow(patch: ChannelPatch): void {
    this.#yieldTo(patch);
    this.process.send({ type: "set", patch });
  }

  /** A new process. What an operator had set stays, but for what the file now says otherwise: an output that is added must not end a bypass. */
  restart(patch: ChannelPatch): void {
    this.#yieldTo(patch);
    this.process.restart();
  }

  #yieldTo(patch: ChannelPatch): void {
    const kept = Object.entries(this.#operator).filter(([key]) => !(key in patch));
    this.#operator = Object.fromEntries(kept);
  }
}

export function channelProcessName(channel: string): string {
  return `channel:${channel}`;
}
