import type { Face, Keep, Mode } from "../../pipeline/types.js";
import type { ChannelStatus, LineTrack, SourceState } from "../../transport/ipc/messages.js";
import type { DashboardChannel, DashboardEvent, DashboardProcess, DashboardState } from "../api.js";

/**
 * What the server sends, checked field by field before any of it is shown. A field of the wrong kind makes its message unusable (null):
 * the page then keeps the last good one, whose age it shows.
 */
type Fields = { readonly [name: string]: unknown };

const MAX_TEXT = 300;
/** More than there may be channels (src/config/loader.ts). */
const MAX_ITEMS = 400;
const SOURCES: readonly SourceState[] = ["connecting", "live", "stalled", "back-off", "ended", "refused"];
const MODES: readonly Mode[] = ["separated", "late", "bypass", "muted"];
const KEEPS: readonly Keep[] = ["on-screen", "off-screen", "mix"];

class Malformed extends Error {}

export function decodeEvent(text: string): DashboardEvent | null {
  return attempt(() => {
    const event = record(JSON.parse(text));
    if (event.type === "state") return { type: "state", state: state(event.state) };
    if (event.type === "status") return { type: "status", status: status(event.status) };
    return null; // a newer server may have more to say
  });
}

export function decodeState(text: string): DashboardState | null {
  return attempt(() => state(JSON.parse(text)));
}

/** Body of a refusal (RFC 9457): its detail. */
export function decodeRefusal(body: string): string {
  return attempt(() => string(record(JSON.parse(body)).detail)) ?? "the server refuses this page";
}

function attempt<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof Malformed || error instanceof SyntaxError) return null;
    throw error;
  }
}

function state(value: unknown): DashboardState {
  const f = record(value);
  return {
    version: optional(f.version, string) ?? "",
    mediaPort: optional(f.mediaPort, number),
    mediaHost: optional(f.mediaHost, string),
    rtmpPort: optional(f.rtmpPort, number),
    channels: list(f.channels, channel),
    processes: list(f.processes, process),
    configError: optional(f.configError, string),
    gateway: {
      refused: optional(optional(f.gateway, record)?.refused, (v) => {
        const r = record(v);
        return { code: string(r.code), detail: string(r.detail), peer: string(r.peer), ageMs: number(r.ageMs) };
      }),
    },
    restartNeeded: optional(f.restartNeeded, (v) => list(v, string)) ?? [],
  };
}

function channel(value: unknown): DashboardChannel {
  const f = record(value);
  return {
    name: string(f.name),
    status: optional(f.status, status),
    ageMs: optional(f.ageMs, number),
    process: optional(f.process, string) ?? "",
    published: optional(f.published, boolean) ?? true,
  };
}

function process(value: unknown): DashboardProcess {
  const f = record(value);
  return {
    name: string(f.name),
    pid: optional(f.pid, number),
    state: string(f.state),
    restarts: number(f.restarts),
    reason: optional(f.reason, string),
    memoryBytes: optional(f.memoryBytes, number),
  };
}

function status(value: unknown): ChannelStatus {
  const f = record(value);
  const levels = record(f.levels);
  return {
    name: string(f.name),
    source: oneOf(f.source, SOURCES),
    mode: oneOf(f.mode, MODES),
    reason: optional(f.reason, string),
    bypass: boolean(f.bypass),
    keep: oneOf(f.keep, KEEPS),
    strengthPercent: number(f.strengthPercent),
    attenuationLimitDb: number(f.attenuationLimitDb),
    declaredLatencyMs: number(f.declaredLatencyMs),
    latencyParts: map(f.latencyParts, number),
    measuredLatencyMs: optional(f.measuredLatencyMs, (v) => {
      const m = record(v);
      return { p50: number(m.p50), p95: number(m.p95), max: number(m.max) };
    }),
    stageMs: map(f.stageMs, (v) => {
      const m = record(v);
      return { p50: number(m.p50), p95: number(m.p95) };
    }),
    levels: { inDb: level(levels.inDb), outDb: level(levels.outDb), removedDb: level(levels.removedDb) },
    faces: list(f.faces, face),
    facesAgeMs: number(f.facesAgeMs),
    video: optional(f.video, (v) => {
      const m = record(v);
      return {
        codec: string(m.codec),
        width: number(m.width),
        height: number(m.height),
        fps: number(m.fps),
        notice: optional(m.notice, string),
      };
    }),
    audio: optional(f.audio, (v) => {
      const m = record(v);
      return { codec: string(m.codec), sampleRate: number(m.sampleRate), channels: number(m.channels) };
    }),
    driftPpm: number(f.driftPpm),
    line: optional(f.line, (v) => {
      const m = record(v);
      return { sound: optional(m.sound, lineTrack), picture: optional(m.picture, lineTrack) };
    }),
    counters: map(f.counters, number),
    outputs: list(f.outputs, (v) => {
      const m = record(v);
      return { uri: string(m.uri), state: oneOf(m.state, SOURCES), reason: optional(m.reason, string) };
    }),
  };
}

function lineTrack(value: unknown): LineTrack {
  const f = record(value);
  return { jitterMs: number(f.jitterMs), waitMs: number(f.waitMs) };
}

function face(value: unknown): Face {
  const f = record(value);
  const box = record(f.box);
  return {
    id: number(f.id),
    box: { x: number(box.x), y: number(box.y), width: number(box.width), height: number(box.height) },
    score: number(f.score),
    speaking: number(f.speaking),
  };
}

function record(value: unknown): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Malformed();
  return value as Fields;
}

function string(value: unknown): string {
  if (typeof value !== "string") throw new Malformed();
  return value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT)}…` : value;
}

function number(value: unknown): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new Malformed();
  return value;
}

/** Silence is minus infinity, which JSON turns into null. */
function level(value: unknown): number {
  return value === null ? Number.NEGATIVE_INFINITY : number(value);
}

function boolean(value: unknown): boolean {
  if (typeof value !== "boolean") throw new Malformed();
  return value;
}

function oneOf<T extends string>(value: unknown, known: readonly T[]): T {
  const found = known.find((k) => k === value);
  if (found === undefined) throw new Malformed();
  return found;
}

function optional<T>(value: unknown, read: (value: unknown) => T): T | null {
  return value === null || value === undefined ? null : read(value);
}

function list<T>(value: unknown, read: (value: unknown) => T): T[] {
  if (!Array.isArray(value)) throw new Malformed();
  return value.slice(0, MAX_ITEMS).map(read);
}

function map<T>(value: unknown, read: (value: unknown) => T): Record<string, T> {
  const entries = Object.entries(record(value)).slice(0, MAX_ITEMS);
  return Object.fromEntries(entries.map(([name, v]) => [string(name), read(v)]));
}
