import type { DashboardState } from "../api.js";
import { ChannelView } from "./channel-view.js";
import { Connection } from "./connection.js";
import { byId, make, setHidden, setText } from "./dom.js";
import { Side } from "./side.js";
import { isStale, Store } from "./store.js";
import { age, SHOWN_WORD, shownMode } from "./words.js";

/**
 * The dashboard. Events change the store; ten times a second what is on the page follows the store and the clock, so that ages grow
 * and old values turn grey even when nothing arrives any more.
 */
const store = new Store();
/** What is shown: what the operator asked for by the address or a click, else the first. It stays when that channel is away for a while. */
let wanted = nameInAddress();
let view: ChannelView | null = null;
let viewBase: string | null = null;

const main = byId("channel");
const gone = make("p", "old");
main.append(gone);
const side = new Side((name) => {
  want(name);
  draw();
});
const connection = new Connection((event) => store.take(event, performance.now()));

function want(name: string): void {
  if (wanted === name) return;
  wanted = name;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
}

function nameInAddress(): string | null {
  try {
    return decodeURIComponent(location.hash.slice(1)) || null;
  } catch {
    return null; // not an address of ours
  }
}

function mediaBase(): string | null {
  const port = store.server?.mediaPort ?? null;
  if (port === null) return null;
  const host = store.server?.mediaHost ?? location.hostname;
  return `${location.protocol}//${host}:${port}`;
}

/** A publisher that was sent away is told of for so long. */
const REFUSED_MS = 60_000;

function noticeText(server: DashboardState | null): string | null {
  if (server === null) return null;
  if (server.configError !== null)
    return `The new configuration was refused, the old one is in force: ${server.configError}`;
  const texts: string[] = [];
  const refused = server.gateway?.refused ?? null;
  if (refused !== null && refused.ageMs < REFUSED_MS)
    texts.push(`A publisher was sent away (${refused.peer}): ${refused.detail} (${refused.code}).`);
  const keys = server.restartNeeded ?? [];
  if (keys.length > 0) texts.push(`Not in force before the service is started anew: ${keys.join(", ")}.`);
  return texts.length === 0 ? null : texts.join(" ");
}

function linkText(up: boolean): string {
  if (connection.isOutdated) return "this page does not fit the server any more: reload it";
  if (up) return "connected";
  if (connection.refusal !== null) return `refused: ${connection.refusal}`;
  return store.server === null ? "connecting to the server" : "connection to the server lost";
}

function draw(): void {
  const nowMs = performance.now();
  const { up, sinceMs } = connection.link;
  document.body.classList.toggle("unlinked", !up);
  const link = byId("link");
  link.dataset.up = String(up);
  setText(link, linkText(up));
  // Beside the live region: a screen reader would say every second of it.
  setText(
    byId("link-age"),
    up || store.server === null || connection.refusal !== null ? "" : `${age(nowMs - sinceMs)} ago`,
  );
  setText(byId("version"), store.server?.version ?? "");
  const notice = noticeText(store.server);
  setHidden(byId("notice"), notice === null);
  setText(byId("notice"), notice ?? "");

  wanted ??= store.channels.keys().next().value ?? null;
  // Never another channel in its place: key B would switch that one.
  const record = wanted === null ? undefined : store.channels.get(wanted);
  const isGone = record === undefined && wanted !== null && store.server !== null;
  setHidden(gone, !isGone);
  setText(gone, isGone ? `${wanted} is not among the channels now. The others are in the list.` : "");
  const base = mediaBase();
  if (view !== null && (view.name !== record?.name || view.published !== record.published || viewBase !== base)) {
    view.close();
    view = null;
  }
  if (view === null && record !== undefined) {
    view = new ChannelView(record.name, base, record.published);
    viewBase = base;
    main.append(view.element);
  }
  side.update(store, wanted, up, nowMs);
  if (record !== undefined) view?.update(record, up, nowMs);
  const status = record === undefined || isStale(record, up, nowMs) ? null : record.status;
  const word = status === null ? "Unknown" : SHOWN_WORD[shownMode(status)];
  document.title = record === undefined ? "Sightline" : `${record.name}: ${word} – Sightline`;
}

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "b" || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  view?.controls.toggleBypass();
});

addEventListener("hashchange", () => {
  wanted = nameInAddress();
});

/** One frame at most is asked for: a page in the background gets none, and would be given all of them at once when it is shown. */
let drawIsDue = false;
setInterval(() => {
  if (drawIsDue) return;
  drawIsDue = true;
  requestAnimationFrame(() => {
    drawIsDue = false;
    draw();
  });
}, 100);
draw();
