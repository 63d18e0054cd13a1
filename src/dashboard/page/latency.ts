import { make, makeTable, setHidden, setRows, setText } from "./dom.js";
import type { ChannelRecord } from "./store.js";
import uPlot from "./vendor/uPlot.esm.js";
import { milliseconds, plain } from "./words.js";

const WINDOW_S = 60;

/** Declared and measured latency as two numbers, as a graph of the last minute, and stage by stage. */
export class Latency {
  readonly element = make("section", "panel latency");
  readonly stages = make("section", "panel stages");
  #declared = make("strong", "");
  #measured = make("strong", "");
  #spread = make("span", "muted", "");
  #plot: uPlot | null = null;
  #frame = make("div", "graph");
  #parts = makeTable("table", ["Part of the declared latency", "ms"]);
  #times = makeTable("table", ["Measured stage", "p50 ms", "p95 ms"]);
  #line = makeTable("table line", ["WHIP publisher's line", "jitter ms", "buffer waits ms"]);
  #noTimes = make("p", "muted", "Nothing measured yet.");

  constructor() {
    this.element.append(
      make("div", "panel-head", make("h3", "", "Latency"), this.#spread),
      make(
        "div",
        "figures",
        make("div", "figure declared", this.#declared, make("span", "muted", "ms declared")),
        make("div", "figure measured", this.#measured, make("span", "muted", "ms measured")),
      ),
      this.#frame,
    );
    this.stages.append(
      make("h3", "", "Where the latency goes"),
      this.#parts.table,
      this.#times.table,
      this.#noTimes,
      this.#line.table,
    );
  }

  update(record: ChannelRecord, nowMs: number): void {
    const { status } = record;
    setText(this.#declared, status ? milliseconds(status.declaredLatencyMs) : "–");
    setText(this.#measured, status?.measuredLatencyMs ? milliseconds(status.measuredLatencyMs.p50) : "–");
    const m = status?.measuredLatencyMs;
    setText(this.#spread, m ? `p95 ${milliseconds(m.p95)} · max ${milliseconds(m.max)}` : "");
    const parts = Object.entries(status?.latencyParts ?? {});
    setRows(
      this.#parts.body,
      parts.map(([name, ms]) => [plain(name), milliseconds(ms)]),
    );
    const stages = Object.entries(status?.stageMs ?? {});
    setRows(
      this.#times.body,
      stages.map(([name, { p50, p95 }]) => [plain(name), milliseconds(p50), milliseconds(p95)]),
    );
    setHidden(this.#noTimes, stages.length > 0);
    setHidden(this.#times.table, stages.length === 0);
    const line = status?.line ?? null;
    setHidden(this.#line.table, line === null);
    setRows(
      this.#line.body,
      (["sound", "picture"] as const).flatMap((track) => {
        const of = line?.[track];
        return of ? [[track, milliseconds(of.jitterMs), milliseconds(of.waitMs)]] : [];
      }),
    );
    this.#draw(record, nowMs);
  }

  destroy(): void {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #draw({ history }: ChannelRecord, nowMs: number): void {
    const { clientWidth: width, clientHeight: height } = this.#frame;
    if (width === 0 || height === 0) return;
    this.#plot ??= new uPlot(options(width, height), [[], [], [], []], this.#frame);
    if (this.#plot.width !== width || this.#plot.height !== height) this.#plot.setSize({ width, height });
    // Time runs to the left, 0 = now: with no news the line wanders off instead of standing still.
    const x = history.atMs.map((at) => (at - nowMs) / 1000);
    this.#plot.setData([x, history.declared, history.p50, history.p95], true);
  }
}

function options(width: number, height: number): uPlot.Options {
  const axis = {
    stroke: "#8b95a3",
    grid: { stroke: "#252b34", width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  return {
    width,
    height,
    cursor: { show: false },
    legend: { show: false },
    scales: {
      x: { time: false, range: [-WINDOW_S, 0] },
      y: { range: (_, least, most) => [0, niceTop(Math.max(least, most))] },
    },
    axes: [
      { ...axis, size: 22, values: (_, ticks) => ticks.map((t) => (t === 0 ? "now" : `${t} s`.replace("-", "−"))) },
      { ...axis, size: 44 },
    ],
    series: [
      {},
      { label: "declared", stroke: "#8b95a3", width: 1.5, dash: [6, 4], points: { show: false } },
      { label: "p50", stroke: "#5aa9e6", width: 2, points: { show: false } },
      { label: "p95", stroke: "#e5a50a", width: 1, points: { show: false } },
    ],
  };
}

/** A round number with some air above `most`. */
function niceTop(most: number): number {
  if (!(most > 0)) return 100;
  const step = 10 ** Math.floor(Math.log10(most)) / 2;
  return Math.ceil((most * 1.15) / step) * step;
}
