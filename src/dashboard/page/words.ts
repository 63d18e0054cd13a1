import { CODES } from "../../codes.js";
import type { ChannelStatus, SourceState } from "../../transport/ipc/messages.js";

/** The sentence that belongs to a code; null for one that this page does not know (the server may be newer). */
export function sentenceOf(code: string): string | null {
  return Object.hasOwn(CODES, code) ? CODES[code as keyof typeof CODES] : null;
}

/**
 * How a channel's mode is shown: one word and one colour for each thing that an operator must tell apart. Sound that leaves as it came is
 * `bypass` by an operator's wish, `untouched` where nobody is to be separated, and `fault` where something stands in the way.
 */
export type Shown = "separated" | "late" | "bypass" | "untouched" | "fault" | "muted" | "waiting";

export const SHOWN_WORD: Record<Shown, string> = {
  separated: "Separated",
  late: "Late",
  bypass: "Bypass",
  untouched: "Untouched",
  fault: "Untouched",
  muted: "Muted",
  waiting: "No input",
};

/** Reasons for which the sound is meant to be left alone. */
const AS_MEANT: readonly (string | null)[] = [null, "SL_NO_FACE", "SL_PICTURE_FROZEN", "SL_VISIBLE_SILENT"];

export function shownMode({ source, mode, reason, bypass }: ChannelStatus): Shown {
  if (source !== "live") return "waiting";
  if (mode !== "bypass") return mode;
  if (bypass || reason === "SL_BYPASS_OPERATOR") return "bypass";
  return AS_MEANT.includes(reason) ? "untouched" : "fault";
}

/** How many outputs are not served though they should be; one that is connecting, or waits for its receiver, is none of them. */
export function outputsDown({ outputs }: ChannelStatus): string | null {
  const down = outputs.filter(({ state }) => state !== "live" && state !== "connecting").length;
  return down === 0 ? null : down === 1 ? "1 output down" : `${down} outputs down`;
}

const KEEP_SENTENCE = {
  "on-screen": "Off-screen voices are turned down.",
  "off-screen": "The voices of the people in the picture are turned down.",
  mix: "Both voices are let through.",
} as const;

/** What the mode means right now, in a sentence for people. */
export function explain(status: ChannelStatus): string {
  if (status.reason !== null) return sentenceOf(status.reason) ?? "The reason has no description in this page.";
  if (status.mode === "separated" && (status.strengthPercent === 0 || status.attenuationLimitDb === 0))
    return "Nothing is turned down: the strength or the limit is at zero.";
  if (status.mode === "separated") return KEEP_SENTENCE[status.keep];
  if (status.mode === "muted") return "No sound leaves.";
  return status.mode === "late"
    ? "The model does not keep up; the sound is left as it is."
    : "The sound is left as it is.";
}

export const SOURCE_WORD: Record<SourceState, string> = {
  connecting: "connecting",
  live: "live",
  stalled: "stalled",
  "back-off": "reconnecting",
  ended: "ended",
  refused: "refused",
};

/** The channel's own source: it is waited for, by whoever publishes or answers. */
export function sourceWord({ source }: ChannelStatus): string {
  return source === "connecting" ? "waiting for its source" : SOURCE_WORD[source];
}

/** `jitter_reserve` or `jitterReserve` becomes `jitter reserve`. */
export function plain(name: string): string {
  return name
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .replaceAll("_", " ")
    .toLowerCase();
}

export function milliseconds(ms: number): string {
  return ms.toFixed(Math.abs(ms) < 10 ? 1 : 0);
}

export function decibels(db: number): string {
  return db < -90 ? "silent" : `${db.toFixed(1).replace("-", "−")} dBFS`;
}

export function age(ms: number): string {
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s`;
  return ms < 3_600_000 ? `${Math.floor(ms / 60_000)} min` : `${Math.floor(ms / 3_600_000)} h`;
}
