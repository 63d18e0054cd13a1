import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { ChannelStatus, SourceState } from "../../transport/ipc/messages.js";
import type { ServerState } from "../state.js";

const MODES = ["separated", "late", "bypass", "muted"] as const;
const SOURCES: readonly SourceState[] = ["connecting", "live", "stalled", "back-off", "ended", "refused"];
/** More counters than this in one process' report are left out: a faulty child must not make the page grow without end. */
const MAX_COUNTERS = 200;

/** The supervisor's own: CPU, memory, event-loop delay. Made once. */
const own = new Registry();
let collecting = false;

/**
 * Text of GET /metrics. The children count; what they report is put into a fresh registry at each request, so that a channel that is gone
 * leaves no series behind and a restarted one starts at zero, which Prometheus understands.
 */
export async function metricsText(state: ServerState, events: { clients: number; dropped: number }): Promise<string> {
  if (!collecting) {
    collecting = true;
    collectDefaultMetrics({ register: own, prefix: "sightline_supervisor_" });
  }
  const m = new Scrape();
  m.gauge("sightline_info", "Version, as a label.", { version: state.version }, 1);
  m.gauge(
    "sightline_config_faulty",
    "1 while the newest configuration file is refused.",
    {},
    state.configError ? 1 : 0,
  );
  for (const key of state.restartNeeded)
    m.gauge(
      "sightline_config_restart_needed",
      "1 for a setting of the newest configuration that waits for the service to be started anew.",
      { key },
      1,
    );
  m.gauge("sightline_event_clients", "Open listeners of /api/events.", {}, events.clients);
  m.counter(
    "sightline_event_clients_dropped_total",
    "Listeners dropped because they did not read.",
    {},
    events.dropped,
  );
  for (const p of state.processes) {
    const process = { process: p.name };
    m.gauge("sightline_process_up", "1 while the process is ready.", process, p.state === "running" ? 1 : 0);
    m.counter("sightline_process_restarts_total", "Starts after the first one.", process, p.restarts);
    m.gauge("sightline_process_resident_memory_bytes", "Resident memory.", process, p.memoryBytes);
  }
  m.gauge("sightline_gateway_publishers", "Publishers connected.", {}, state.gateway.publishers.length);
  m.gauge("sightline_gateway_players", "Players connected.", {}, state.gateway.players);
  m.gauge("sightline_gateway_viewers", "WHEP viewers connected.", {}, state.gateway.viewers);
  m.counters("sightline_gateway", "of the gateway", {}, state.gateway.counters);
  for (const inference of state.inferences) {
    const model = { model: inference.model };
    m.gauge("sightline_inference_up", "1 while the model is loaded and warmed up.", model, inference.ready ? 1 : 0);
    m.gauge(
      "sightline_inference_warm_up_seconds",
      "How long the newest warm-up took.",
      model,
      seconds(inference.warmUpMs),
    );
    for (const t of inference.engines?.tries ?? [])
      m.gauge(
        "sightline_inference_engine",
        "1 for the engine that runs; 0 with the reason for every other (docs/reference/engines.md).",
        { ...model, engine: t.name, reason: t.reason ?? "running" },
        t.reason === null ? 1 : 0,
      );
    if (inference.engines)
      m.gauge(
        "sightline_inference_engine_fallback",
        "1 while the CPU stands in for another engine (SL_ENGINE_FALLBACK).",
        model,
        inference.engines.code === null ? 0 : 1,
      );
    m.quantiles("sightline_inference_step_seconds", "Time of a model step in the engine.", model, inference.stepMs);
    m.counters("sightline_inference", "of the inference process", model, inference.counters);
  }
  for (const { name, status } of state.channels) {
    m.gauge("sightline_channel_up", "1 while the channel reports.", { channel: name }, status ? 1 : 0);
    if (status) channelMetrics(m, status);
  }
  return `${await m.registry.metrics()}\n${await own.metrics()}`;
}

function channelMetrics(m: Scrape, c: ChannelStatus): void {
  const channel = { channel: c.name };
  for (const mode of MODES)
    m.gauge(
      "sightline_channel_mode",
      "1 for the mode that the channel is in.",
      { ...channel, mode },
      c.mode === mode ? 1 : 0,
    );
  for (const source of SOURCES) {
    m.gauge(
      "sightline_channel_source",
      "1 for the state of the channel's source.",
      { ...channel, state: source },
      c.source === source ? 1 : 0,
    );
  }
  if (c.reason !== null)
    m.gauge(
      "sightline_channel_reason",
      "1 for the reason of the mode, see docs/codes.md.",
      { ...channel, reason: c.reason },
      1,
    );
  m.gauge("sightline_channel_declared_latency_seconds", "Declared latency D.", channel, seconds(c.declaredLatencyMs));
  for (const [part, ms] of Object.entries(c.latencyParts).slice(0, MAX_COUNTERS)) {
    m.gauge("sightline_channel_declared_latency_part_seconds", "Parts of D.", { ...channel, part }, seconds(ms));
  }
  m.quantiles(
    "sightline_channel_latency_seconds",
    "Measured latency of the newest 64 units that left.",
    channel,
    c.measuredLatencyMs,
  );
  for (const [stage, ms] of Object.entries(c.stageMs).slice(0, MAX_COUNTERS)) {
    m.quantiles("sightline_channel_stage_seconds", "Time in a stage.", { ...channel, stage }, ms);
  }
  m.gauge("sightline_channel_level_dbfs", "Level of the sound.", { ...channel, point: "in" }, c.levels.inDb);
  m.gauge("sightline_channel_level_dbfs", "Level of the sound.", { ...channel, point: "out" }, c.levels.outDb);
  m.gauge("sightline_channel_level_dbfs", "Level of the sound.", { ...channel, point: "removed" }, c.levels.removedDb);
  m.gauge("sightline_channel_faces", "Faces in the picture.", channel, c.faces.length);
  m.gauge("sightline_channel_drift_ppm", "Clock of the sound against the PTS.", channel, c.driftPpm);
  for (const track of ["sound", "picture"] as const) {
    const line = c.line?.[track];
    if (!line) continue;
    const labels = { ...channel, track };
    m.gauge(
      "sightline_channel_line_jitter_seconds",
      "Jitter of the WHIP publisher's line (RFC 3550).",
      labels,
      seconds(line.jitterMs),
    );
    m.gauge(
      "sightline_channel_line_wait_seconds",
      "How long the jitter buffer waits for a missing packet.",
      labels,
      seconds(line.waitMs),
    );
  }
  m.gauge("sightline_channel_strength_percent", "Strength of the suppression.", channel, c.strengthPercent);
  // The one level among them.
  const { delay_line_waiting: waiting, ...counters } = c.counters;
  m.gauge("sightline_channel_delay_line_waiting", "Units that wait for their time to leave.", channel, waiting ?? 0);
  m.counters("sightline_channel", "of the channel", channel, counters);
}

const seconds = (ms: number | null): number | null => (ms === null ? null : ms / 1000);

/** One answer in the making; metrics are made when their first value comes, values that are no finite numbers are left out. */
class Scrape {
  readonly registry = new Registry();
  readonly #gauges = new Map<string, Gauge>();
  readonly #counters = new Map<string, Counter>();

  gauge(name: string, help: string, labels: Record<string, string>, value: number | null | undefined): void {
    if (typeof value !== "number" || !Number.isFinite(value)) return;
    let metric = this.#gauges.get(name);
    if (!metric) {
      metric = new Gauge({ name, help, labelNames: Object.keys(labels), registers: [this.registry] });
      this.#gauges.set(name, metric);
    }
    metric.set(labels, value);
  }

  counter(name: string, help: string, labels: Record<string, string>, value: number): void {
    if (typeof value !== "number" || !Number.isFinite(value) || value < 0) return;
    let metric = this.#counters.get(name);
    if (!metric) {
      metric = new Counter({ name, help, labelNames: Object.keys(labels), registers: [this.registry] });
      this.#counters.set(name, metric);
    }
    metric.inc(labels, value);
  }

  quantiles(
    name: string,
    help: string,
    labels: Record<string, string>,
    ms: { p50: number; p95: number; max?: number } | null,
  ): void {
    if (!ms) return;
    this.gauge(name, help, { ...labels, quantile: "0.5" }, seconds(ms.p50));
    this.gauge(name, help, { ...labels, quantile: "0.95" }, seconds(ms.p95));
    if (ms.max !== undefined) this.gauge(name, help, { ...labels, quantile: "1" }, seconds(ms.max));
  }

  /** A child's counters by name, `frames_lost` -> `PREFIX_frames_lost_total`. Names that Prometheus does not take are left out. */
  counters(
    prefix: string,
    owner: string,
    labels: Record<string, string>,
    counters: Readonly<Record<string, number>>,
  ): void {
    for (const [key, value] of Object.entries(counters).slice(0, MAX_COUNTERS)) {
      if (!/^[a-z][a-z0-9_]{0,63}$/.test(key)) continue;
      const name = `${prefix}_${key.replace(/_total$/, "")}_total`;
      this.counter(name, `Counter ${key} ${owner}.`, labels, value);
    }
  }
}
