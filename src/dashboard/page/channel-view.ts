import { Controls } from "./controls.js";
import { make, makeTable, setHidden, setRows, setText } from "./dom.js";
import { Latency } from "./latency.js";
import { Meters } from "./meters.js";
import { Players } from "./players.js";
import { type ChannelRecord, isStale } from "./store.js";
import {
  age,
  explain,
  outputsDown,
  plain,
  SHOWN_WORD,
  SOURCE_WORD,
  sentenceOf,
  shownMode,
  sourceWord,
} from "./words.js";

/** Everything about one channel. Built once, then only texts, classes and bars change. */
export class ChannelView {
  readonly element = make("article", "channel");
  readonly controls: Controls;
  #mode = make("strong", "mode-word");
  #sentence = make("span", "sentence");
  #code = make("code", "");
  #old = make("p", "old");
  #banner = make("section", "banner");
  #feed = make("span", "muted feed");
  #outputsDown = make("strong", "outputs-down");
  #pictureNotice = make("p", "muted picture-notice");
  #body = make("div", "body");
  #players: Players;
  #meters = new Meters();
  #latency = new Latency();
  #zero = make("p", "muted zero");
  #counters = makeTable("table counters", ["Counter", "Value"]);
  #outputs = makeTable("table", ["Output", "State", "Reason"]);
  #outputPanel = make("section", "panel", make("h3", "", "Outputs"));

  /** @param published a publisher pushes to the channel: what came in can be played */
  constructor(
    readonly name: string,
    mediaBase: string | null,
    readonly published: boolean,
  ) {
    this.controls = new Controls(name);
    this.#players = new Players(name, mediaBase, published);
    const said = make("div", "said", this.#mode, this.#sentence);
    said.setAttribute("role", "status");
    this.#banner.append(
      make("div", "mode", make("h2", "channel-name", name), said, this.#code),
      make("div", "feed-line", this.#outputsDown, this.#feed),
      this.controls.bypass,
    );
    this.#outputPanel.append(this.#outputs.table);
    const counters = make("section", "panel", make("h3", "", "Counters"), this.#counters.table, this.#zero);
    this.#body.append(
      this.#players.element,
      make("div", "row", this.#meters.element, this.controls.element, this.#latency.element),
      make("div", "row lower", this.#latency.stages, make("div", "stack", counters, this.#outputPanel)),
    );
    this.element.append(this.#banner, this.#old, this.#pictureNotice, this.#body);
  }

  /** @param linked whether the server is connected */
  update(record: ChannelRecord, linked: boolean, nowMs: number): void {
    const { status } = record;
    const ageMs = nowMs - record.atMs;
    const stale = isStale(record, linked, nowMs);
    this.element.classList.toggle("stale", stale);
    setHidden(this.#old, !stale);
    setText(
      this.#old,
      status === null ? "This channel has not said anything yet." : `These values are ${age(ageMs)} old.`,
    );

    this.#banner.dataset.mode = stale || status === null ? "unknown" : shownMode(status);
    if (status === null || stale) {
      setText(this.#mode, "Unknown");
      const before = status === null ? "" : ` It was ${SHOWN_WORD[shownMode(status)].toLowerCase()} ${age(ageMs)} ago.`;
      setText(this.#sentence, `${missing(record, linked)}${before}`);
    } else {
      setText(this.#mode, SHOWN_WORD[shownMode(status)]);
      setText(this.#sentence, explain(status));
    }
    setText(this.#code, stale ? "" : (status?.reason ?? ""));
    const down = status === null || stale ? null : outputsDown(status);
    setHidden(this.#outputsDown, down === null);
    setText(this.#outputsDown, down ?? "");
    setText(this.#feed, status === null ? "" : `${stale ? "last known: " : ""}${feedText(record)}`);
    const notice = status?.video?.notice ?? null;
    setHidden(this.#pictureNotice, notice === null);
    setText(this.#pictureNotice, notice === null ? "" : `${sentenceOf(notice) ?? ""} (${notice})`.trim());
    if (status !== null && !stale && status.source === "live")
      this.#players.consistsOf(status.video !== null, status.audio !== null);
    this.#players.inputCodec = notice === null ? null : status!.video!.codec;
    this.controls.update(status, !stale, nowMs);
    this.#meters.update(status?.levels ?? null, record.atMs);
    this.#latency.update(record, nowMs);
    this.#players.update(
      stale || status === null ? null : status.faces,
      record.atMs - (status?.facesAgeMs ?? 0),
      status?.declaredLatencyMs ?? 0,
      nowMs,
    );
    const counters = Object.entries(status?.counters ?? {}).sort(([a], [b]) => a.localeCompare(b));
    const counted = counters
      .filter(([, value]) => value !== 0)
      .map(([name, value]) => [plain(name), value.toLocaleString("en")]);
    const zero = counters.filter(([, value]) => value === 0).map(([name]) => plain(name));
    setRows(this.#counters.body, counted);
    setText(this.#zero, zero.length === 0 ? "" : `At zero: ${zero.join(", ")}.`);
    const outputs = status?.outputs ?? [];
    setHidden(this.#outputPanel, outputs.length === 0);
    setRows(
      this.#outputs.body,
      outputs.map((o) => [
        o.uri,
        SOURCE_WORD[o.state],
        o.reason === null ? "" : `${sentenceOf(o.reason) ?? ""} (${o.reason})`.trim(),
      ]),
    );
  }

  close(): void {
    this.#players.close();
    this.#latency.destroy();
    this.element.remove();
  }
}

function missing(record: ChannelRecord, linked: boolean): string {
  if (!linked) return "The server cannot be asked.";
  if (record.process !== "running" && record.process !== "") {
    return `${sentenceOf("SL_CHANNEL_DOWN") ?? "The channel's process is not running."} (${record.process})`;
  }
  return "The channel sends no news.";
}

function feedText({ status }: ChannelRecord): string {
  if (status === null) return "";
  const { video, audio, driftPpm } = status;
  const parts = [sourceWord(status)];
  if (video) parts.push(`${video.codec} ${video.width}×${video.height}, ${Number(video.fps.toFixed(2))} fps`);
  if (audio)
    parts.push(
      `${audio.codec} ${audio.sampleRate / 1000} kHz, ${audio.channels === 1 ? "mono" : audio.channels === 2 ? "stereo" : `${audio.channels} channels`}`,
    );
  if (Math.abs(driftPpm) >= 1) parts.push(`drift ${driftPpm.toFixed(0).replace("-", "−")} ppm`);
  return parts.join(" · ");
}
