import type { LoadedConfig } from "../config/loader.js";
import { parseHostPort } from "../config/schema.js";

/** Addresses of one channel, with the host by which this machine reaches itself. */
export type ChannelUrls = {
  /** Where a publisher pushes to; KEY stands for the stream key. null when the channel fetches its input. */
  readonly publish: string | null;
  /** WHIP for a publisher, KEY stands for the stream key. null when the channel fetches its input. */
  readonly whip: string | null;
  /** WHEP of the cleaned programme; `?stem=input` for the sound as it came in, `?stem=removed` for what was taken away. */
  readonly whep: string;
  /** RTMP of the cleaned programme. */
  readonly play: string;
  /** HTTP-FLV of the cleaned programme. */
  readonly playFlv: string;
  /** HTTP-FLV of the programme as it came in. null when the channel fetches its input. */
  readonly inputFlv: string | null;
};

export type Urls = {
  readonly dashboard: string;
  readonly channels: Readonly<Record<string, ChannelUrls>>;
};

/** Where everything is. @param ports those really listened on; 0: the configuration's */
export function urlsOf(config: LoadedConfig, ports: { http: number; rtmp: number; media: number }): Urls {
  const base = (scheme: string, key: "http" | "rtmp" | "media"): string => {
    const { host, port } = parseHostPort(config[key]);
    return `${scheme}://${reachable(host)}:${ports[key] || port}`;
  };
  const rtmp = base("rtmp", "rtmp");
  const media = base("http", "media");
  const channels: Record<string, ChannelUrls> = {};
  for (const [name, channel] of Object.entries(config.channels)) {
    const published = channel.input.reveal() === "publish";
    channels[name] = {
      publish: published ? `${rtmp}/live/KEY` : null,
      whip: published ? `${media}/whip/KEY` : null,
      whep: `${media}/whep/${name}`,
      play: `${rtmp}/out/${name}`,
      playFlv: `${media}/out/${name}.flv`,
      inputFlv: published ? `${media}/in/${name}.flv` : null,
    };
  }
  return { dashboard: `${base("http", "http")}/`, channels };
}

/** A host by which this machine reaches a listener of its own, ready for an address. */
export function reachable(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
