import type { ChannelPatch, ChannelStatus } from "../transport/ipc/messages.js";

/**
 * What the supervisor's HTTP server and the page say to each other.
 *
 * - `GET /api/state` answers with a `DashboardState`.
 * - `WebSocket /api/events` sends a `DashboardEvent` per message: the whole state when the connection opens and whenever the list of
 *   channels or a process changes, then one `status` per channel every 250 ms.
 * - `PATCH /api/channels/NAME` with a `ChannelPatch` as JSON: 2xx when it was taken over, else `{ code, message }`.
 * - `GET /` and below: the built page (dist/src/dashboard/page, a folder of static files, vendor/ included).
 */
export type DashboardState = {
  readonly version: string;
  /** Port of HTTP-FLV (`/in/NAME.flv`, `/out/NAME.flv`); the host is the one the page came from unless `mediaHost` says otherwise. */
  readonly mediaPort: number | null;
  readonly mediaHost?: string | null;
  readonly rtmpPort: number | null;
  readonly channels: readonly DashboardChannel[];
  readonly processes: readonly DashboardProcess[];
  /** Why the newest configuration file was refused, or null. */
  readonly configError: string | null;
  /** Settings of the newest configuration that wait for the service to be started anew. */
  readonly restartNeeded?: readonly string[];
  readonly gateway?: {
    /** The publisher that was sent away last. */
    readonly refused: {
      readonly code: string;
      readonly detail: string;
      readonly peer: string;
      readonly ageMs: number;
    } | null;
  };
};

export type DashboardChannel = {
  readonly name: string;
  /** Newest status and its age at the moment of sending; null while its process has not said anything yet. */
  readonly status: ChannelStatus | null;
  readonly ageMs: number | null;
  /** State of its process: `running`, `starting`, `back-off`, `stopping`, `stopped`. */
  readonly process: string;
  /** A publisher pushes to it (the default); false: it fetches its input, which cannot be played. */
  readonly published?: boolean;
};

export type DashboardProcess = {
  readonly name: string;
  readonly pid: number | null;
  readonly state: string;
  readonly restarts: number;
  /** Code of the newest change of state. */
  readonly reason: string | null;
  readonly memoryBytes: number | null;
};

export type DashboardEvent =
  | { readonly type: "state"; readonly state: DashboardState }
  | { readonly type: "status"; readonly status: ChannelStatus };

export type { ChannelPatch, ChannelStatus };

/**
 * Content-Security-Policy to be sent with the page: nothing inline, nothing from elsewhere, no frames; pictures of the players come from
 * the media port by fetch and reach the video element as blobs.
 */
export function contentSecurityPolicy(mediaPort: number | null): string {
  const media = mediaPort === null ? "" : ` http://*:${mediaPort} https://*:${mediaPort}`;
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "media-src blob:",
    `connect-src 'self'${media}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}
