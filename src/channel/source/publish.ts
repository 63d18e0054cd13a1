import type { LineReport } from "../../transport/ipc/messages.js";
import type { GatewayLink } from "../gateway-link.js";
import { FlvUnits } from "./flv-units.js";
import { PictureReencoder } from "./reencoder.js";
import type { Source, SourceEvents } from "./source.js";

/** No tag for so long: the publisher is there but sends nothing. */
export const STALL_MS = 2000;

/** A publisher at our own RTMP server; its FLV tags come from the gateway process. */
export class PublishSource implements Source {
  readonly wraps32 = true;
  readonly #link: GatewayLink;
  readonly #events: SourceEvents;
  readonly #reencoder: PictureReencoder;
  #units = new FlvUnits();
  #line: LineReport | null = null;
  #publisher = false;
  #everLive = false;
  #stalled: NodeJS.Timeout | null = null;
  #totals: Record<string, number> = {};

  constructor(link: GatewayLink, events: SourceEvents) {
    this.#link = link;
    this.#events = events;
    this.#reencoder = new PictureReencoder({
      onUnit: (unit) => events.onUnit(unit),
      onFault: (fault) => events.onFault("the picture's re-encoder", fault),
      onKeyFrameWanted: () => link.wantKeyFrame(),
    });
  }

  get counters(): Readonly<Record<string, number>> {
    return { ...sum(this.#totals, this.#units.counters), ...this.#reencoder.counters };
  }

  get line(): LineReport | null {
    return this.#line;
  }

  start(): void {
    this.#events.onState("connecting", "SL_SOURCE_WAITING");
    this.#link.onSource({
      onTag: (tag) => {
        const unit = this.#units.read(tag);
        this.#alive();
        if (unit?.kind === "vp8") this.#reencoder.push(unit);
        else if (unit !== null) this.#events.onUnit(unit);
      },
      onLine: (line) => {
        this.#line = line;
      },
      onPublisher: (live) => {
        this.#publisher = live;
        this.#line = null;
        if (live) {
          this.#everLive = true;
          this.#totals = sum(this.#totals, this.#units.counters);
          this.#units = new FlvUnits();
          this.#reencoder.restart();
          this.#events.onRestart();
          this.#alive();
        } else {
          this.#clear();
          // The gateway tells this too when there has not been a publisher yet.
          if (this.#everLive) this.#events.onState("stalled", "SL_SOURCE_GONE");
          else this.#events.onState("connecting", "SL_SOURCE_WAITING");
        }
      },
      onRefused: (code, detail) => {
        // A second publisher (a backup encoder that tries on) is no word about the one that is live.
        if (this.#publisher) return;
        this.#clear();
        this.#events.onState("refused", code, detail);
      },
      onLost: () => {
        this.#publisher = false;
        this.#line = null;
        this.#clear();
        this.#events.onState("stalled", "SL_GATEWAY_DOWN");
      },
      onBack: () => this.#events.onState("connecting", "SL_SOURCE_WAITING"),
    });
  }

  close(): void {
    this.#clear();
    this.#link.onSource(null);
    this.#reencoder.close();
  }

  #alive(): void {
    if (this.#stalled !== null) {
      this.#stalled.refresh();
      return;
    }
    if (!this.#publisher) return;
    this.#events.onState("live", null);
    this.#stalled = setTimeout(() => {
      this.#stalled = null;
      this.#events.onState("stalled", "SL_SOURCE_SILENT");
    }, STALL_MS);
  }

  #clear(): void {
    if (this.#stalled !== null) clearTimeout(this.#stalled);
    this.#stalled = null;
  }
}

function sum(a: Readonly<Record<string, number>>, b: Readonly<Record<string, number>>): Record<string, number> {
  const out = { ...a };
  for (const [name, value] of Object.entries(b)) out[name] = (out[name] ?? 0) + value;
  return out;
}
