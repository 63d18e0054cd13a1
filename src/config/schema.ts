import { z } from "zod";

/**
 * The one source of configuration: types, defaults, sightline.example.yml, docs/reference/configuration.md and the errors of
 * `sightline config check` all come from here. Every key carries `.meta({ about, unit? })`.
 */
const profile = z.enum(["low", "balanced", "quality"]);
const keep = z.enum(["on-screen", "off-screen", "mix"]);

export const channelConfig = z.strictObject({
  input: z
    .string()
    .default("publish")
    .meta({ about: "`publish`: a publisher pushes to rtmp://HOST:1935/live/KEY; or rtmp://, srt://, file:// to fetch from" }),
  key: z.string().optional().meta({ about: "stream key for `publish`; plain, or `env:NAME`, or `file:PATH`", secret: true }),
  outputs: z
    .array(z.string())
    .default([])
    .meta({ about: "further outputs: rtmp://, srt://, file://; the own server always serves rtmp://HOST:1935/out/NAME and http://HOST:8081/out/NAME.flv" }),
  profile: profile.default("balanced").meta({ about: "latency against quality: hop, budget and reserve" }),
  model: z.string().default("live").meta({ about: "model name below models/, or a path to a model folder" }),
  keep: keep.default("on-screen").meta({ about: "which voice is let through" }),
  strengthPercent: z.number().min(0).max(100).default(100).meta({ about: "how much of the suppression is applied", unit: "%" }),
  attenuationLimitDb: z.number().min(0).max(80).default(40).meta({ about: "no time-frequency cell is turned down by more than this", unit: "dB" }),
  bypass: z.boolean().default(false).meta({ about: "start with the sound untouched" }),
  region: z
    .strictObject({ x: z.number().min(0).max(1), y: z.number().min(0).max(1), width: z.number().min(0).max(1), height: z.number().min(0).max(1) })
    .optional()
    .meta({ about: "only faces whose centre lies in this part of the picture count as on-screen (fractions of the picture)" }),
  whenNobodyVisible: z.enum(["keep", "mute"]).default("keep").meta({ about: "no face, or the picture is frozen" }),
  whenVisibleSilent: z.enum(["reduce", "keep"]).default("reduce").meta({ about: "a visible person is silent while a voice is heard" }),
});
export type ChannelConfig = z.infer<typeof channelConfig>;

export const config = z.strictObject({
  http: z.string().default("127.0.0.1:8080").meta({ about: "dashboard, API, /metrics, /healthz, /readyz" }),
  media: z.string().default("127.0.0.1:8081").meta({ about: "HTTP-FLV for players" }),
  rtmp: z.string().default("0.0.0.0:1935").meta({ about: "RTMP server" }),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info").meta({ about: "JSON lines on stderr" }),
  inferenceThreads: z.int().min(1).max(64).default(1).meta({ about: "threads of the inference engine" }),
  channels: z.record(z.string().regex(/^[a-z0-9][a-z0-9_-]{0,63}$/), channelConfig).default({}).meta({ about: "channels by name" }),
});
export type Config = z.infer<typeof config>;
