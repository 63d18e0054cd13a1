import type { ChannelStatus } from "../../transport/ipc/messages.js";
import { make, setText } from "./dom.js";
import { decibels } from "./words.js";

const FLOOR_DB = -60;
const HOLD_MS = 1500;
const FALL_DB_PER_MS = 0.02;

type Levels = ChannelStatus["levels"];
const ROWS: readonly { key: keyof Levels; label: string }[] = [
  { key: "inDb", label: "Before" },
  { key: "outDb", label: "After" },
  { key: "removedDb", label: "Removed" },
];

/** Three level bars from -60 to 0 dBFS with peaks that stay for a moment and then fall. */
export class Meters {
  readonly element = make("section", "panel meters");
  #rows = ROWS.map(({ key, label }) => {
    const bar = make("div", `bar bar-${key}`);
    const peak = make("div", "peak");
    const value = make("span", "value");
    this.element.append(make("div", "meter", make("span", "label", label), make("div", "track", bar, peak), value));
    return { key, bar, peak, value, held: Number.NEGATIVE_INFINITY, heldAtMs: 0 };
  });

  constructor() {
    this.element.prepend(make("h3", "", "Level"));
    const scale = make("div", "scale");
    for (const db of [-60, -40, -20, 0]) {
      const tick = make("span", "", String(db).replace("-", "−"));
      tick.style.left = `${100 * share(db)}%`;
      scale.append(tick);
    }
    this.element.append(make("div", "meter", make("span"), scale, make("span")));
  }

  /** @param atMs when the levels were measured, on the page's clock */
  update(levels: Levels | null, atMs: number): void {
    for (const row of this.#rows) {
      const db = levels === null ? Number.NEGATIVE_INFINITY : levels[row.key];
      const fallen = row.held - Math.max(0, atMs - row.heldAtMs - HOLD_MS) * FALL_DB_PER_MS;
      if (db >= fallen) {
        row.held = db;
        row.heldAtMs = atMs;
      }
      const shownPeak = Math.max(db, Math.min(fallen, row.held));
      row.bar.style.transform = `scaleX(${share(db)})`;
      row.peak.style.left = `${100 * share(shownPeak)}%`;
      row.peak.classList.toggle("over", shownPeak > -0.5);
      setText(row.value, levels === null ? "no value" : decibels(db));
    }
  }
}

function share(db: number): number {
  return Math.min(1, Math.max(0, (db - FLOOR_DB) / -FLOOR_DB));
}
