import type { LineReport, SourceState } from "../../transport/ipc/messages.js";
import type { SourceUnit } from "../units.js";

export type SourceEvents = {
  /** Units carry the source's own timestamps. */
  readonly onUnit: (unit: SourceUnit) => void;
  /** The timestamps begin anew with the next unit. */
  readonly onRestart: () => void;
  /** `code` of src/codes.ts, or null. */
  readonly onState: (state: SourceState, code: string | null, detail?: string) => void;
  /** Something of GStreamer failed and is started again. */
  readonly onFault: (what: string, fault: { readonly element: string; readonly message: string }) => void;
};

/** Where a channel's programme comes from. Never throws after start: what goes wrong becomes a state. */
export interface Source {
  /** Timestamps are FLV's: 32-bit milliseconds. */
  readonly wraps32: boolean;
  readonly counters: Readonly<Record<string, number>>;
  /** How the line to a WHIP publisher is; null for every other source. */
  readonly line: LineReport | null;
  start(): void;
  close(): void;
}
