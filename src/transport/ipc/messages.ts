import type { Code } from "../../codes.js";
import type { ChannelConfig } from "../../config/schema.js";
import type { EngineChoice, EngineReport } from "../../model/engines/names.js";
import type { Face, Keep, Mode } from "../../pipeline/types.js";

/**
 * Two kinds of connections join the processes (docs/architecture.md, "Processes"):
 * - control: supervisor <-> child over Node's own IPC pipe (small JSON objects, the unions below);
 * - media: channel <-> gateway and channel <-> inference over Unix sockets in `frame.ts` framing (JSON header + raw payload).
 */

/** Supervisor to channel. */
export type ToChannel =
  | {
      type: "configure";
      name: string;
      channel: ChannelConfig;
      gatewaySocket: string;
      inferenceSocket: string;
      modelDir: string;
    }
  | { type: "set"; patch: ChannelPatch }
  | { type: "stop" };

/** What an operator may change on a running channel without a restart. */
export type ChannelPatch = {
  bypass?: boolean;
  keep?: Keep;
  strengthPercent?: number;
  attenuationLimitDb?: number;
};

export type SourceState = "connecting" | "live" | "stalled" | "back-off" | "ended" | "refused";

/** One line of a table or graph; all times in milliseconds, levels in dBFS. Sent every 250 ms, and at once when source, mode or reason change. */
export type ChannelStatus = {
  name: string;
  source: SourceState;
  mode: Mode;
  /** Stable code of docs/codes.md, or null while all is well. */
  reason: string | null;
  bypass: boolean;
  keep: Keep;
  strengthPercent: number;
  attenuationLimitDb: number;
  /** Declared latency D and its parts; measured = the same of the newest 64 units that left. */
  declaredLatencyMs: number;
  latencyParts: Record<string, number>;
  measuredLatencyMs: { p50: number; p95: number; max: number } | null;
  stageMs: Record<string, { p50: number; p95: number }>;
  levels: { inDb: number; outDb: number; removedDb: number };
  faces: readonly Face[];
  /** How old the picture is that they were in, counted from its arrival: a step and the look-ahead. */
  facesAgeMs: number;
  /** `codec`: as the source sends it; `notice`: stable code of what is done to it on the way, or null. */
  video: { codec: string; width: number; height: number; fps: number; notice: string | null } | null;
  audio: { codec: string; sampleRate: number; channels: number } | null;
  driftPpm: number;
  /** The WHIP publisher's line and the jitter buffers in the gateway; null for every other source. */
  line: LineReport | null;
  /** Monotonic counters by name (snake_case, Prometheus style, without prefix). */
  counters: Record<string, number>;
  outputs: readonly { uri: string; state: SourceState; reason: string | null }[];
};

/** Channel to supervisor. */
export type FromChannel =
  | { type: "ready" }
  | { type: "status"; status: ChannelStatus }
  | { type: "log"; level: "debug" | "info" | "warn" | "error"; message: string; fields?: Record<string, unknown> };

/** WHIP and WHEP; see `webrtc` of the configuration. */
export type WebRtcSettings = {
  /** IP addresses that are told to peers; empty: by the address of the HTTP listener. */
  readonly hosts: readonly string[];
  /** First and last UDP port; null: any free one. */
  readonly ports: readonly [number, number] | null;
  readonly viewers: number;
  /** Told to clients in Link headers: `stun:HOST:PORT`, `turn:USER:PASSWORD@HOST:PORT`. */
  readonly iceServers: readonly string[];
};

/** Supervisor to gateway. `streamKeys`: RTMP stream key -> channel name. */
export type ToGateway =
  | {
      type: "configure";
      socket: string;
      rtmp: { host: string; port: number };
      media: { host: string; port: number };
      streamKeys: Record<string, string>;
      channels: string[];
      webrtc?: WebRtcSettings;
    }
  | { type: "stop" };
export type RefusedPublisher = { code: Code; detail: string; peer: string; ageMs: number };
export type FromGateway =
  | { type: "ready"; rtmpPort: number; mediaPort: number }
  | {
      type: "status";
      counters: Record<string, number>;
      publishers: { channel: string; peer: string }[];
      players: number;
      viewers: number;
      /** The publisher that was sent away last, null: none yet. */
      refused: RefusedPublisher | null;
    }
  | { type: "log"; level: "debug" | "info" | "warn" | "error"; message: string; fields?: Record<string, unknown> };

/** Supervisor to inference and back. */
export type ToInference =
  | { type: "configure"; socket: string; modelDir: string; facesModel: string; threads: number; engine?: EngineChoice }
  | { type: "stop" };
export type FromInference =
  /** `engine`: label of the one that runs the steps. */
  | { type: "ready"; engine: string; warmUpMs: number; engines?: EngineReport }
  /** The engine failed while it ran and the CPU took over. */
  | { type: "engines"; engines: EngineReport }
  | { type: "status"; counters: Record<string, number>; stepMs: { p50: number; p95: number } | null }
  | { type: "log"; level: "debug" | "info" | "warn" | "error"; message: string; fields?: Record<string, unknown> };

/** The sounds a WHEP viewer can choose, all at the same delay: the cleaned programme, what came in, or what was taken away from it. */
export const VIEWER_STEMS = ["clean", "input", "removed"] as const;
export type ViewerStem = (typeof VIEWER_STEMS)[number];

/** Channel -> gateway, header of a media frame. */
export type ChannelToGateway =
  | { t: "attach"; channel: string }
  /** One FLV tag of the channel's cleaned programme; payload = tag body. tagType 8 sound, 9 picture, 18 script data. */
  | { t: "out"; tagType: 8 | 9 | 18; timestampMs: number }
  /** One Opus packet for WHEP viewers; payload = packet. timeMs: on the timeline of `out`, 0 to 2^32, may have a fraction. */
  | { t: "opus"; stem: ViewerStem; timeMs: number }
  /** Nothing can be decoded before the publisher's next key frame. */
  | { t: "keyFrame" };

/** One track of a WHIP publisher's line. Milliseconds. */
export type LineTrack = {
  /** Interarrival jitter (RFC 3550, 6.4.1). */
  readonly jitterMs: number;
  /** How long a missing packet is waited for now. */
  readonly waitMs: number;
};
/** Null: there is no such track. */
export type LineReport = { readonly sound: LineTrack | null; readonly picture: LineTrack | null };

/** Gateway -> channel. */
export type GatewayToChannel =
  /** How the publisher's line is, a few times a second; RTMP publishers have none. */
  | { t: "line"; line: LineReport }
  | { t: "publisher"; state: "live" | "gone"; peer: string }
  /** Another process of this channel was on air: where on its timeline what leaves now would lie, so that players can stay. */
  | { t: "timeline"; leavingMs: number }
  /** The publisher's stream was refused (HEVC, two publishers ...); code of docs/codes.md. */
  | { t: "refused"; code: string; detail: string }
  /** The stems whose sound WHEP viewers want as Opus from now on; a fresh connection begins with none. */
  | { t: "wanted"; stems: readonly ViewerStem[] }
  /** One FLV tag as published; payload = tag body. */
  | { t: "tag"; tagType: 8 | 9 | 18; timestampMs: number };
