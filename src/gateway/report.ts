/** What the gateway tells about itself: counters for the metrics page and log lines. */

export type LogLevel = "debug" | "info" | "warn" | "error";
export type Log = (level: LogLevel, message: string, fields?: Record<string, unknown>) => void;

/** Names of all counters, all monotonic; they exist from the start so that a metrics page shows zeros. */
const NAMES = [
  "rtmp_connections_total",
  "rtmp_malformed_total",
  "rtmp_timeouts_total",
  "rtmp_connections_refused_total",
  "publishers_total",
  "publishers_refused_key_unknown_total",
  "publishers_refused_key_in_use_total",
  "publishers_refused_limit_total",
  "publishers_refused_video_codec_total",
  "publishers_refused_audio_codec_total",
  "publishers_silent_total",
  "players_total",
  "players_refused_total",
  "players_stalled_total",
  "player_dropped_tags_total",
  "http_requests_total",
  "channels_attached_total",
  "channel_malformed_total",
  "channel_dropped_tags_total",
  "tags_in_total",
  "bytes_in_total",
  "tags_out_total",
  "bytes_out_total",
  "log_lines_suppressed_total",
] as const;
export type CounterName = (typeof NAMES)[number];

export class Counters {
  #values: Record<CounterName, number>;

  constructor() {
    this.#values = Object.fromEntries(NAMES.map((name) => [name, 0])) as Record<CounterName, number>;
  }

  add(name: CounterName, count = 1): void {
    this.#values[name] += count;
  }

  get(name: CounterName): number {
    return this.#values[name];
  }

  snapshot(): Record<CounterName, number> {
    return { ...this.#values };
  }
}

/** Lets `perSecond` lines through in each second of `now` (milliseconds) and counts the rest: a flood of bad peers is no flood of lines. */
export function boundedLog(log: Log, counters: Counters, perSecond: number, now: () => number): Log {
  let second = -1;
  let lines = 0;
  return (level, message, fields) => {
    const current = Math.floor(now() / 1000);
    if (current !== second) {
      second = current;
      lines = 0;
    }
    if (++lines > perSecond) counters.add("log_lines_suppressed_total");
    else log(level, message, fields);
  };
}
