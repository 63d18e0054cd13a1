import type { Code } from "../codes.js";
import type { FlvTag } from "../transport/flv/tag.js";
import type { LineReport, ViewerStem } from "../transport/ipc/messages.js";
import type { Sink } from "./stream.js";

/** Who meets at the hub, and what each may do there. */

/** Why somebody is not let in, or sent away. */
export type Refusal = { readonly code: Code; readonly detail: string };

/** The connection that publishes. */
export interface PublisherPeer {
  readonly label: string;
  /** Ends the publication from this side, with a reason for the peer. The hub has already let go of it. */
  drop(reason: Refusal): void;
  /** Asks for a key frame, where the protocol can. */
  wantKeyFrame?(): void;
}

/** A WHEP viewer: pictures and notes come as tags of the cleaned programme, sound as Opus. */
export interface Viewer extends Sink {
  /** @param timeMs on the timeline of the tags, 0 to 2^32, may have a fraction */
  opus(packet: Buffer, timeMs: number): void;
  /** The hub has already let go of it. */
  drop(reason: Refusal): void;
}

/** What a publisher may do after it was let in. */
export interface Publication {
  readonly channel: string;
  /** @throws FlvError, AmfError for broken bodies; the caller closes the connection and calls `end`. */
  push(tag: FlvTag): void;
  /** How the line to the publisher is; passed on to the channel. */
  line(report: LineReport): void;
  /** Idempotent. */
  end(): void;
}

/** The connection of a channel process. */
export interface ChannelPeer extends Sink {
  publisher(state: "live" | "gone", peer: string): void;
  /** Another process was on air: what leaves now would lie there on its timeline. */
  timeline(leavingMs: number): void;
  refused(reason: Refusal): void;
  line(report: LineReport): void;
  /** The stems that viewers want as Opus now. */
  wanted(stems: readonly ViewerStem[]): void;
  /** Another connection of the same channel has taken over. */
  replaced(): void;
}

export interface Attachment {
  push(tag: FlvTag): void;
  /** A packet of a stem's sound for viewers. */
  opus(stem: ViewerStem, packet: Buffer, timeMs: number): void;
  /** It cannot decode before the publisher's next key frame. */
  wantKeyFrame(): void;
  resume(): void;
  /** The connection is lost; players of the cleaned programme wait for the next one. Idempotent. */
  detach(): void;
}

export type Side = "in" | "out";

export function isRefusal(x: object): x is Refusal {
  return "code" in x;
}
