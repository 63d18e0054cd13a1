import type { ChannelStatus } from "../../transport/ipc/messages.js";
import type { DashboardEvent, DashboardProcess, DashboardState } from "../api.js";

/** Values older than this are shown as old. */
const STALE_MS = 2000;
/** 60 s at four values a second. */
export const HISTORY = 240;

/** Latency over the last minute, oldest first; times in milliseconds of the page's clock. */
export type History = {
  readonly atMs: number[];
  readonly p50: (number | null)[];
  readonly p95: (number | null)[];
  readonly declared: number[];
};

/** Whether nothing current is known of a channel: its process is down, or its newest word is old. */
export function isStale(record: ChannelRecord, linked: boolean, nowMs: number): boolean {
  const isDown = record.process !== "running" && record.process !== "";
  return !linked || isDown || record.status === null || nowMs - record.atMs > STALE_MS;
}

export type ChannelRecord = {
  readonly name: string;
  process: string;
  /** A publisher pushes to it; false: it fetches its input. */
  published: boolean;
  status: ChannelStatus | null;
  /** When the status was true, on the page's clock. */
  atMs: number;
  readonly history: History;
};

/** Everything the page knows, and since when. Time is passed in. */
export class Store {
  readonly channels = new Map<string, ChannelRecord>();
  processes: readonly DashboardProcess[] = [];
  processesAtMs = 0;
  server: DashboardState | null = null;

  take(event: DashboardEvent, nowMs: number): void {
    if (event.type === "state") this.#takeState(event.state, nowMs);
    else this.#takeStatus(event.status, nowMs);
  }

  #takeState(state: DashboardState, nowMs: number): void {
    this.server = state;
    this.processes = state.processes;
    this.processesAtMs = nowMs;
    const names = new Set(state.channels.map((channel) => channel.name));
    for (const name of this.channels.keys()) if (!names.has(name)) this.channels.delete(name);
    for (const { name, status, ageMs, process, published } of state.channels) {
      const record = this.#record(name);
      record.process = process;
      record.published = published ?? true;
      const atMs = nowMs - (ageMs ?? 0);
      if (status !== null && (record.status === null || atMs > record.atMs)) {
        record.status = status;
        record.atMs = atMs;
      }
    }
  }

  #takeStatus(status: ChannelStatus, nowMs: number): void {
    // A channel that the server has not listed is not one; its list comes first.
    const record = this.channels.get(status.name);
    if (record === undefined) return;
    record.status = status;
    record.atMs = nowMs;
    const { atMs, p50, p95, declared } = record.history;
    atMs.push(nowMs);
    p50.push(status.measuredLatencyMs?.p50 ?? null);
    p95.push(status.measuredLatencyMs?.p95 ?? null);
    declared.push(status.declaredLatencyMs);
    for (const column of [atMs, p50, p95, declared]) if (column.length > HISTORY) column.shift();
  }

  #record(name: string): ChannelRecord {
    let record = this.channels.get(name);
    if (record === undefined) {
      record = {
        name,
        process: "",
        published: true,
        status: null,
        atMs: 0,
        history: { atMs: [], p50: [], p95: [], declared: [] },
      };
      this.channels.set(name, record);
    }
    return record;
  }
}
