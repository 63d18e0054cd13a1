import type { ConfigIssue } from "../config/error.js";
import { redactUri } from "../config/secret.js";
import type { DashboardEvent, DashboardState } from "../dashboard/api.js";
import type { EngineReport } from "../model/engines/names.js";
import type { ChannelStatus, RefusedPublisher } from "../transport/ipc/messages.js";
import type { ProcessInfo } from "./process.js";
import type { Urls } from "./urls.js";

export type GatewayState = {
  readonly ready: boolean;
  readonly counters: Readonly<Record<string, number>>;
  readonly publishers: readonly { readonly channel: string; readonly peer: string }[];
  readonly players: number;
  /** WHEP viewers. */
  readonly viewers: number;
  /** The publisher that was sent away last, null: none yet. */
  readonly refused: RefusedPublisher | null;
};

export type InferenceState = {
  readonly ready: boolean;
  readonly model: string;
  readonly engine: string | null;
  /** Which engine runs and why the others do not; null until it is ready. */
  readonly engines: EngineReport | null;
  readonly warmUpMs: number | null;
  readonly counters: Readonly<Record<string, number>>;
  readonly stepMs: { readonly p50: number; readonly p95: number } | null;
};

/** Answer of GET /api/state: what the page knows (dashboard/api.ts) and more. */
export type ServerState = DashboardState & {
  /** The faults behind `configError`, one by one; empty while the newest configuration file is good. */
  readonly configIssues: readonly ConfigIssue[];
  /** Changed server settings which wait for the next start of the service. */
  readonly restartNeeded: readonly string[];
  readonly gateway: GatewayState;
  /** The inference process of the first model in use; null when no channel is configured. */
  readonly inference: InferenceState | null;
  readonly inferences: readonly InferenceState[];
  readonly processes: readonly ProcessInfo[];
  readonly urls: Urls;
};

/** Messages of WebSocket /api/events: the state when it opens and at each change of a process, a status as often as channels send one. */
export type ServerEvent = DashboardEvent & ({ type: "state"; state: ServerState } | { type: "status" });

const SILENCE_DB = -120;
/** JSON has no infinity: silence arrives as null. */
const level = (db: number | null): number => (typeof db === "number" && Number.isFinite(db) ? db : SILENCE_DB);

/** A channel's own report as it may be shown: addresses without secrets, levels finite, the name by which we know the channel. */
export function shownStatus(name: string, status: ChannelStatus): ChannelStatus {
  return {
    ...status,
    name,
    levels: {
      inDb: level(status.levels.inDb),
      outDb: level(status.levels.outDb),
      removedDb: level(status.levels.removedDb),
    },
    outputs: status.outputs.map((output) => ({ ...output, uri: redactUri(output.uri) })),
  };
}
