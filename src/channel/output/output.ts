import type { SourceState } from "../../transport/ipc/messages.js";
import type { OutputUnit } from "../units.js";

/** What an output is known by: its address without the secrets in it (stream keys, passwords). */
export type OutputStatus = { readonly uri: string; readonly state: SourceState; readonly reason: string | null };

export type OutputEvents = { readonly onState: (status: OutputStatus, detail?: string) => void };

/** A place where the cleaned programme goes. Independent of all others: `write` never throws and never waits. */
export interface Output {
  readonly status: OutputStatus;
  /** Units not sent, times the output failed. */
  readonly counters: Readonly<Record<string, number>>;
  /** Nothing more leaves before a key frame comes. */
  readonly waitsForKey: boolean;
  write(unit: OutputUnit): void;
  /** Units were lost on their way here: nothing more until the next key frame. */
  interrupted(): void;
  /** Ends what needs an end (file formats); resolves when done, within about a second. */
  close(): Promise<void>;
}

/** Gives a unit to all; a fault of ours in one of them (`write` must not throw) is told and costs that one a group of pictures. */
export function writeToAll(
  outputs: readonly Output[],
  unit: OutputUnit,
  onFault: (output: Output, error: unknown) => void,
): void {
  for (const output of outputs) {
    try {
      output.write(unit);
    } catch (error) {
      output.interrupted();
      onFault(output, error);
    }
  }
}

/** A programme without a picture for so long goes on as sound. */
const NO_VIDEO_MS = 5000;

/**
 * What to let through after a loss: nothing until the next key frame (a picture without the ones it refers to is damage), then all.
 * Programmes without pictures go on at once.
 */
export class KeyGate {
  /** Units held back. */
  dropped = 0;
  #shut = true;
  #waits = false;
  #videoMs: number | null = null;

  /** True when the unit may pass. */
  passes(unit: OutputUnit): boolean {
    if (unit.kind === "video") {
      this.#videoMs = unit.ptsMs;
      if (unit.key) this.#shut = false;
    }
    const hasVideo = this.#videoMs !== null && unit.ptsMs - this.#videoMs < NO_VIDEO_MS;
    const ok = !this.#shut || (!hasVideo && unit.kind !== "video");
    this.#waits = !ok;
    if (!ok) this.dropped += 1;
    return ok;
  }

  /** Units are offered, and only a key frame is missing. */
  get waits(): boolean {
    return this.#waits;
  }

  /** Something was lost, or the connection is new. */
  shut(): void {
    this.#shut = true;
    this.#waits = false;
  }

  /** The unit cannot be taken, whatever it is: it is held back, and what follows up to the next key frame. */
  refuse(unit: OutputUnit): void {
    this.shut();
    this.dropped += 1;
    // Else a long refusal would look like a programme without pictures, and its sound would go on alone.
    if (unit.kind === "video") this.#videoMs = unit.ptsMs;
  }
}

/** Scheme, host and the first part of the path; stream keys and query strings are secrets. */
export function publicUri(uri: string): string {
  try {
    const url = new URL(uri);
    if (url.protocol === "file:") return `file://${url.pathname}`;
    const parts = url.pathname.split("/").filter((p) => p !== "");
    const shown = parts.length > 1 ? `/${parts[0]}/***` : "";
    return `${url.protocol}//${url.host}${shown}`;
  } catch {
    return uri.slice(0, uri.indexOf(":") + 1);
  }
}

/** Query values that say how, not who. */
const HARMLESS = new Set(["mode", "latency", "pbkeylen", "loop"]);
/** Shorter ones would hide parts of ordinary words. */
const LEAST_SECRET = 4;

/** What GStreamer or a server said about `uri`, without the secrets of that address: GStreamer repeats whole launch strings. */
export function withoutSecrets(text: string, uri: string): string {
  if (uri.startsWith("file:") || !uri.includes(":")) return text;
  if (!URL.canParse(uri)) return text.replaceAll(uri, publicUri(uri));
  const url = new URL(uri);
  const parts = url.pathname.split("/").filter((p) => p !== "");
  // As `URL` reads them, and as they stand in the address.
  const asWritten = [...uri.matchAll(/[?&]([^=&]+)=([^&#]*)/g)].map(([, name, value]) => [name!, value!] as const);
  const values = [...url.searchParams, ...asWritten].filter(([name]) => !HARMLESS.has(name)).map(([, value]) => value);
  const hidden = [url.username, url.password, url.search, ...values, ...parts.slice(parts.length > 1 ? 1 : 0)];
  const secrets = hidden.flatMap((s) => [s, decoded(s)].flatMap(written)).filter((s) => s.length >= LEAST_SECRET);
  let out = text;
  for (const whole of written(uri)) out = out.replaceAll(whole, publicUri(uri));
  for (const secret of secrets.sort((a, b) => b.length - a.length)) out = out.replaceAll(secret, "***");
  return out;
}

/** As it is, and as `quote` puts it into a launch string (which may name another host than the address: the one found for it). */
const written = (text: string): string[] => [text, text.replace(/(["\\])/g, "\\$1")];

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
