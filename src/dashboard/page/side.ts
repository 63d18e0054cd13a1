import { byId, make, setText } from "./dom.js";
import { type ChannelRecord, isStale, type Store } from "./store.js";
import { age, outputsDown, SHOWN_WORD, sentenceOf, shownMode, sourceWord } from "./words.js";

type Entry = { button: HTMLButtonElement; name: HTMLElement; mode: HTMLElement; source: HTMLElement };

/** The list of channels and the state of the processes. */
export class Side {
  #channels = byId("channels");
  #processes = byId("processes");
  #entries = new Map<string, Entry>();
  #none = make("p", "muted", "No channels are configured.");

  constructor(private readonly select: (name: string) => void) {}

  update(store: Store, selected: string | null, linked: boolean, nowMs: number): void {
    for (const [name, { button }] of this.#entries) {
      if (store.channels.has(name)) continue;
      button.remove();
      this.#entries.delete(name);
    }
    for (const record of store.channels.values()) this.#updateEntry(record, record.name === selected, linked, nowMs);
    if (store.channels.size === 0 && store.server !== null) this.#channels.append(this.#none);
    else this.#none.remove();
    this.#updateProcesses(store, linked, nowMs);
  }

  #updateEntry(record: ChannelRecord, selected: boolean, linked: boolean, nowMs: number): void {
    let entry = this.#entries.get(record.name);
    if (entry === undefined) {
      entry = {
        button: make("button", "channel-entry"),
        name: make("span", "name"),
        mode: make("span", "badge"),
        source: make("span", "muted"),
      };
      entry.button.type = "button";
      entry.button.append(entry.name, entry.mode, entry.source);
      entry.button.addEventListener("click", () => this.select(record.name));
      this.#entries.set(record.name, entry);
      this.#channels.append(entry.button);
    }
    const { status } = record;
    const stale = isStale(record, linked, nowMs);
    entry.button.setAttribute("aria-current", String(selected));
    entry.button.dataset.mode = stale || status === null ? "unknown" : shownMode(status);
    setText(entry.name, record.name);
    setText(entry.mode, stale || status === null ? "Unknown" : SHOWN_WORD[shownMode(status)]);
    const down = status === null || stale ? null : outputsDown(status);
    entry.source.classList.toggle("outputs-down", down !== null);
    setText(
      entry.source,
      status === null ? record.process : stale ? `${age(nowMs - record.atMs)} old` : (down ?? sourceWord(status)),
    );
  }

  #updateProcesses(store: Store, linked: boolean, nowMs: number): void {
    this.#processes.classList.toggle("stale", !linked);
    this.#processes.title = linked ? "" : `${age(nowMs - store.processesAtMs)} old`;
    const rows = store.processes;
    while (this.#processes.childElementCount > rows.length) this.#processes.lastElementChild?.remove();
    rows.forEach((process, i) => {
      let row = this.#processes.children[i];
      if (row === undefined) {
        row = make("div", "process", make("span", "name"), make("span", "process-state"), make("span", "muted detail"));
        this.#processes.append(row);
      }
      const [name, state, detail] = row.children;
      (row as HTMLElement).dataset.state = process.state;
      (row as HTMLElement).title = process.reason === null ? "" : (sentenceOf(process.reason) ?? process.reason);
      setText(name!, process.name);
      setText(state!, process.state);
      const restarts = process.restarts === 1 ? "1 restart" : `${process.restarts} restarts`;
      const memory = process.memoryBytes === null ? "" : ` · ${Math.round(process.memoryBytes / 1e6)} MB`;
      setText(detail!, `${restarts}${memory}`);
    });
  }
}
