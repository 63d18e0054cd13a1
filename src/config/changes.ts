import type { ChannelPatch } from "../transport/ipc/messages.js";
import { channelSettings, type LoadedChannel, type LoadedConfig } from "./loader.js";

/** Settings that a running channel takes over without a restart. */
export const LIVE_KEYS = [
  "bypass",
  "keep",
  "strengthPercent",
  "attenuationLimitDb",
] as const satisfies (keyof ChannelPatch)[];

/** What has to be done to go from one configuration to another. */
export type Changes = {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Channels whose process must start anew, with what else is new of the settings in `patch`. */
  readonly restarted: readonly { readonly name: string; readonly patch: ChannelPatch }[];
  /** Channels for which telling the running process is enough. */
  readonly patched: readonly { readonly name: string; readonly patch: ChannelPatch }[];
  /** Stream keys or channel names differ: the gateway is told the new table. */
  readonly streams: boolean;
  /** Server-wide settings that differ; they need a restart of the service, but for logLevel and httpHosts. */
  readonly server: readonly string[];
};

export function changesBetween(before: LoadedConfig, after: LoadedConfig): Changes {
  const added: string[] = [];
  const restarted: { name: string; patch: ChannelPatch }[] = [];
  const patched: { name: string; patch: ChannelPatch }[] = [];
  const removed = Object.keys(before.channels).filter((name) => !Object.hasOwn(after.channels, name));
  let streams = removed.length > 0;
  for (const [name, channel] of Object.entries(after.channels)) {
    const old = Object.hasOwn(before.channels, name) ? before.channels[name] : undefined;
    if (old === undefined) {
      added.push(name);
      streams = true;
      continue;
    }
    if (streamKey(old) !== streamKey(channel)) streams = true;
    const patch = livePatch(old, channel);
    if (fixedPart(old) !== fixedPart(channel)) restarted.push({ name, patch });
    else if (Object.keys(patch).length > 0) patched.push({ name, patch });
  }
  const { channels: _a, ...serverBefore } = before;
  const { channels: _b, ...serverAfter } = after;
  const keys = [
    ...new Set([...Object.keys(serverBefore), ...Object.keys(serverAfter)]),
  ] as (keyof typeof serverBefore)[];
  const server = keys.filter((key) => JSON.stringify(serverBefore[key]) !== JSON.stringify(serverAfter[key]));
  return { added, removed, restarted, patched, streams, server };
}

/** The key under which the gateway takes a publisher for it; null: it takes none. */
export function streamKey({ input, key }: LoadedChannel): string | null {
  return input.reveal() === "publish" ? (key?.reveal() ?? null) : null;
}

/** All of a channel that cannot change while it runs, as one comparable text. */
function fixedPart(channel: LoadedChannel): string {
  const settings: Record<string, unknown> = channelSettings(channel);
  for (const key of LIVE_KEYS) delete settings[key];
  return JSON.stringify(Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function livePatch(before: LoadedChannel, after: LoadedChannel): ChannelPatch {
  const patch: Record<string, unknown> = {};
  for (const key of LIVE_KEYS) if (before[key] !== after[key]) patch[key] = after[key];
  return patch as ChannelPatch;
}
