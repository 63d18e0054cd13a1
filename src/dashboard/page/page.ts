import { ChannelView } from "./channel-view.js";
import { Connection } from "./connection.js";
import { byId, setHidden, setText } from "./dom.js";
import { Side } from "./side.js";
import { Store } from "./store.js";
import { age } from "./words.js";

/**
 * The dashboard. Events change the store; ten times a second what is on the page follows the store and the clock, so that ages grow
 * and old values turn grey even when nothing arrives any more.
 */
const store = new Store();
let selected: string | null = decodeURIComponent(location.hash.slice(1)) || null;
let view: ChannelView | null = null;
let viewBase: string | null = null;

const main = byId("channel");
const side = new Side((name) => {
  selected = name;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  draw();
});
const connection = new Connection((event) => store.take(event, performance.now()));

function mediaBase(): string | null {
  const port = store.server?.mediaPort ?? null;
  if (port === null) return null;
  const host = store.server?.mediaHost ?? location.hostname;
  return `${location.protocol}//${host}:${port}`;
}

function draw(): void {
  const nowMs = performance.now();
  const { up, sinceMs } = connection.link;
  document.body.classList.toggle("unlinked", !up);
  const link = byId("link");
  link.dataset.up = String(up);
  setText(
    link,
    up
      ? "connected"
      : connection.refusal !== null
        ? `refused: ${connection.refusal}`
        : store.server === null
          ? "connecting to the server"
          : `connection to the server lost ${age(nowMs - sinceMs)} ago`,
  );
  setText(byId("version"), store.server?.version ?? "");
  const notice = store.server?.configError ?? null;
  setHidden(byId("notice"), notice === null);
  setText(
    byId("notice"),
    notice === null ? "" : `The new configuration was refused, the old one is in force: ${notice}`,
  );

  if (selected === null || !store.channels.has(selected)) selected = store.channels.keys().next().value ?? null;
  const record = selected === null ? undefined : store.channels.get(selected);
  const base = mediaBase();
  if (view !== null && (view.name !== record?.name || viewBase !== base)) {
    view.close();
    view = null;
  }
  if (view === null && record !== undefined) {
    view = new ChannelView(record.name, base);
    viewBase = base;
    main.append(view.element);
  }
  side.update(store, selected, up, nowMs);
  if (record !== undefined) view?.update(record, up, nowMs);
}

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "b" || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  view?.controls.toggleBypass();
});

setInterval(() => requestAnimationFrame(draw), 100);
draw();
