import { z } from "zod";
import { MAX_LOOK_AHEAD_MS } from "../channel/latency.js";
import { ENGINE_CHOICES } from "../model/engines/names.js";

/**
 * The one source of configuration: types, defaults, sightline.example.yml, docs/reference/configuration.md and the errors of
 * `sightline config check` all come from here. Every key carries `.meta({ about, unit?, allowed?, reference?, secret?, example? })`:
 * `about` is its meaning, `allowed` what a text may be, `unit` the unit of a number, `reference: true` says that `env:NAME` and `file:PATH` are resolved,
 * `example` is what the example file shows for a key without a default.
 */
const profile = z.enum(["low", "balanced", "quality"]);
const keep = z.enum(["on-screen", "off-screen", "mix"]);

/** `HOST:PORT`; an IPv6 address stands in brackets. Port 0 lets the system choose. */
const HOST_PORT = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/;
const hostPort = () =>
  z.string().refine((s) => Number(HOST_PORT.exec(s)?.[2] ?? 65_536) <= 65_535, {
    error: "HOST:PORT, for example 127.0.0.1:8080",
  });

/** `FIRST-LAST` of UDP ports; empty: any free one. */
const PORT_RANGE = /^(\d{1,5})-(\d{1,5})$/;
const portRange = () =>
  z.string().refine((s) => s === "" || parsePortRange(s) !== null, { error: "FIRST-LAST, for example 50000-50199" });

/** As `hostName` of the guard gives it (src/supervisor/http). */
const HOST = /^([a-z0-9._-]+|[0-9a-f.]*:[0-9a-f:.]*:[0-9a-f:.]*)$/i;
const IP = /^(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)$/;
const ICE_SERVER = /^(stuns?:[^\s@"<>]+|turns?:[^\s:@"<>]+:[^\s@"<>]+@[^\s@"<>]+)$/;

const fraction = () => z.number().min(0).max(1);

export const channelConfig = z.strictObject({
  input: z.string().default("publish").meta({
    about:
      "`publish`: a publisher pushes to rtmp://HOST:1935/live/KEY; or the rtmp://, srt:// or file:// address to fetch from (`?loop=1` behind a file: round and round); plain, `env:NAME` or `file:PATH`",
    reference: true,
  }),
  key: z.string().min(1).optional().meta({
    about: "stream key for `publish`, needed there, unlike every other channel's; plain, `env:NAME` or `file:PATH`",
    reference: true,
    secret: true,
    example: "env:STUDIO_KEY",
  }),
  outputs: z.array(z.string()).max(16).default([]).meta({
    about:
      "further outputs: rtmp://HOST/APP/KEY, srt://HOST:PORT (`?mode=listener` waits for a receiver), file:///PATH.flv, .mkv, .mp4 or .ts (never written over: numbered); each plain, `env:NAME` or `file:PATH`; the own server always serves rtmp://HOST:1935/out/NAME and http://HOST:8081/out/NAME.flv",
    reference: true,
  }),
  profile: profile
    .default("balanced")
    .meta({ about: "latency against quality: look-ahead, hop, budget and reserve (0.3, 0.8, 2.4 s)" }),
  lookAheadMs: z.number().min(0).max(MAX_LOOK_AHEAD_MS).optional().meta({
    about:
      "how much more is seen and heard before it is decided whose voice is whose, in whole hops; left out: the profile's (0, 120, 1200). It is a part of the latency; 4000 finds the right voice sooner and for more people. A model that decides itself (windows) has none",
    unit: "ms",
    example: 4000,
  }),
  model: z.string().min(1).default("live").meta({ about: "model name below models/, or a path to a model folder" }),
  keep: keep.default("on-screen").meta({ about: "which voice is let through" }),
  strengthPercent: z
    .number()
    .min(0)
    .max(100)
    .default(100)
    .meta({ about: "how much of the suppression is applied", unit: "%" }),
  attenuationLimitDb: z
    .number()
    .min(0)
    .max(80)
    .default(40)
    .meta({ about: "no time-frequency cell is turned down by more than this", unit: "dB" }),
  bypass: z.boolean().default(false).meta({ about: "start with the sound untouched" }),
  region: z
    .strictObject({
      x: fraction().meta({ about: "left edge", unit: "of the width", example: 0.5 }),
      y: fraction().meta({ about: "upper edge", unit: "of the height", example: 0 }),
      width: fraction().meta({ about: "width", unit: "of the width", example: 0.5 }),
      height: fraction().meta({ about: "height", unit: "of the height", example: 1 }),
    })
    .optional()
    .meta({
      about:
        "only faces whose centre lies in this part of the picture count as on-screen (models that look at whole pictures see the rest grey); left out: the whole picture",
    }),
  whenNobodyVisible: z
    .enum(["keep", "mute"])
    .default("keep")
    .meta({ about: "no face, or the picture is frozen: keep the sound as it is, or mute it" }),
  whenVisibleSilent: z
    .enum(["reduce", "keep"])
    .default("reduce")
    .meta({ about: "a visible person is silent while a voice is heard: turn that voice down, or keep it" }),
});
/** Settings of one channel, as the channel process gets them: every reference resolved. */
export type ChannelConfig = z.infer<typeof channelConfig>;

/** What the path of a recording ends in (src/channel/output). */
export const RECORDING = /\.(flv|mkv|mp4|ts)$/i;

/** Channel names stand in addresses, file names and metrics. */
export const CHANNEL_NAME = /^[a-z0-9][a-z0-9_-]{0,63}$/;

export const config = z.strictObject({
  http: hostPort()
    .default("127.0.0.1:8080")
    .meta({ about: "address of dashboard, API, /metrics, /healthz, /readyz", allowed: "HOST:PORT" }),
  httpHosts: z
    .array(
      z
        .string()
        .regex(HOST, { error: "a host name or address without port and brackets" })
        .meta({ allowed: "host name or IP address" }),
    )
    .max(64)
    .default([])
    .meta({
      about:
        "further host names by which the dashboard may be opened and settings changed (`http` must listen there, too); localhost is always allowed",
    }),
  media: hostPort().default("127.0.0.1:8081").meta({
    about: "address of HTTP-FLV for players, of WHIP (POST /whip/KEY) and of WHEP (POST /whep/NAME)",
    allowed: "HOST:PORT",
  }),
  rtmp: hostPort().default("0.0.0.0:1935").meta({ about: "address of the RTMP server", allowed: "HOST:PORT" }),
  webrtc: z
    .strictObject({
      hosts: z
        .array(z.string().regex(IP, { error: "an IP address" }).meta({ allowed: "IP address" }))
        .max(8)
        .default([])
        .meta({
          about:
            "IP addresses that WebRTC peers are told; none: those of `media`. A browser page that uses a camera never reaches 127.0.0.1",
        }),
      ports: portRange().default("").meta({
        about: "UDP ports for WebRTC; empty: any free one",
        allowed: "FIRST-LAST (1024 to 65535) or empty",
      }),
      viewers: z.int().min(0).max(500).default(50).meta({ about: "WHEP viewers at the same time" }),
      iceServers: z
        .array(
          z
            .string()
            .regex(ICE_SERVER, { error: "stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT" })
            .meta({ allowed: "stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT" }),
        )
        .max(8)
        .default([])
        .meta({ about: "STUN and TURN servers that clients are told" }),
    })
    .prefault({})
    .meta({ about: "WebRTC: WHIP publishers and WHEP viewers" }),
  logLevel: z
    .enum(["debug", "info", "warn", "error"])
    .default("info")
    .meta({ about: "least level of the log (JSON lines on stderr)" }),
  models: z.string().min(1).optional().meta({
    about: "folder in which models are looked up by name; left out: the models that came with Sightline",
    example: "/srv/models",
  }),
  inferenceThreads: z.int().min(1).max(64).default(1).meta({ about: "threads of the inference engine" }),
  engine: z.enum(ENGINE_CHOICES).default("auto").meta({
    about:
      "what computes the models: `auto` takes the fastest that gives the CPU's numbers; a named one that cannot be used here is replaced by `cpu`, visibly",
  }),
  memoryWarnMb: z
    .int()
    .min(64)
    .max(1_000_000)
    .default(1500)
    .meta({ about: "a child process larger than this is logged", unit: "MB" }),
  memoryKillMb: z
    .int()
    .min(64)
    .max(1_000_000)
    .default(3000)
    .meta({ about: "a child process larger than this is ended and started anew", unit: "MB" }),
  channels: z
    .record(z.string().regex(CHANNEL_NAME), channelConfig)
    .default({})
    .meta({ about: "channels by name (a-z, 0-9, _ and -, at most 64 characters)" }),
});
/** The whole file; references (`env:`, `file:`) are not resolved here, see loader.ts. */
export type Config = z.infer<typeof config>;

/** First and last port; null when the text is not `FIRST-LAST` with 1024 <= FIRST <= LAST <= 65535. */
export function parsePortRange(text: string): [number, number] | null {
  const m = PORT_RANGE.exec(text);
  if (!m) return null;
  const [first, last] = [Number(m[1]), Number(m[2])];
  return first >= 1024 && first <= last && last <= 65_535 ? [first, last] : null;
}

/** @throws RangeError when the text is not `HOST:PORT` (cannot happen for values that passed the schema). */
export function parseHostPort(text: string): { host: string; port: number } {
  const m = HOST_PORT.exec(text);
  if (!m || Number(m[2]) > 65_535) throw new RangeError(`${JSON.stringify(text)} is not HOST:PORT`);
  return { host: m[1]!.replace(/^\[(.*)\]$/, "$1"), port: Number(m[2]) };
}
