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
  "publishers_refused_path_total",
  "publishers_refused_video_codec_total",
  "publishers_refused_audio_codec_total",
  "publishers_silent_total",
  "players_total",
  "players_refused_total",
  "players_stalled_total",
  "player_dropped_tags_total",
  "http_requests_total",
  "webrtc_sessions_total",
  "webrtc_sessions_refused_total",
  "webrtc_sessions_not_connected_total",
  "webrtc_sessions_gone_total",
  "webrtc_sessions_failed_total",
  "webrtc_ice_restarts_total",
  "webrtc_candidates_total",
  "webrtc_datagrams_refused_total",
  "webrtc_sctp_refused_total",
  "webrtc_data_messages_ignored_total",
  "webrtc_key_frames_wanted_total",
  "whip_packets_total",
  "whip_packets_late_total",
  "whip_packets_lost_total",
  "whip_packets_malformed_total",
  "whip_nacks_total",
  "whip_packets_recovered_total",
  "whip_sound_nacks_total",
  "whip_sound_packets_recovered_total",
  "whip_units_dropped_total",
  "whip_clock_jumps_total",
  "viewers_total",
  "viewers_refused_total",
  "viewer_packets_total",
  "viewer_notes_dropped_total",
  "viewer_nacks_total",
  "viewer_nacks_refused_total",
  "gateway_faults_total",
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
