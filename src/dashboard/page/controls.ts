import type { Keep } from "../../pipeline/types.js";
import type { ChannelPatch, ChannelStatus } from "../../transport/ipc/messages.js";
import { make, setHidden, setText } from "./dom.js";
import { sentenceOf } from "./words.js";

const KEEPS: readonly { keep: Keep; label: string }[] = [
  { keep: "on-screen", label: "On-screen" },
  { keep: "mix", label: "Both" },
  { keep: "off-screen", label: "Off-screen" },
];
/** How long a wish may stay unconfirmed before the page shows the server's value again. */
const CONFIRM_MS = 3000;

/** What an operator can change. Shows what the channel says, and marks a wish as such until the channel confirms it. */
export class Controls {
  readonly element = make("section", "panel controls");
  readonly bypass = make("button", "bypass");
  #keeps = KEEPS.map(({ keep, label }) => ({ keep, button: make("button", "", label) }));
  #strength = new Slider("Strength", "strengthPercent", 0, 100, 5, "%", (patch) => this.send(patch));
  #limit = new Slider("At most turned down by", "attenuationLimitDb", 0, 80, 1, "dB", (patch) => this.send(patch));
  #fault = make("p", "fault");
  #status: ChannelStatus | null = null;
  #sending = Promise.resolve();
  #wish: { patch: ChannelPatch; untilMs: number } | null = null;

  constructor(private readonly name: string) {
    this.bypass.type = "button";
    this.bypass.setAttribute("role", "switch");
    this.bypass.addEventListener("click", () => this.toggleBypass());
    const keep = make("div", "segments");
    keep.setAttribute("role", "radiogroup");
    keep.setAttribute("aria-label", "Voice to keep");
    for (const { keep: value, button } of this.#keeps) {
      button.type = "button";
      button.setAttribute("role", "radio");
      button.addEventListener("click", () => this.send({ keep: value }));
      keep.append(button);
    }
    // One stop of the tab key; arrows go from one to the next (WAI-ARIA radio group).
    keep.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const at = this.#keeps.findIndex(({ button }) => button === document.activeElement);
      if (step === undefined || at < 0) return;
      event.preventDefault();
      const next = this.#keeps[(at + step + this.#keeps.length) % this.#keeps.length]!;
      next.button.focus();
      this.send({ keep: next.keep });
    });
    this.element.append(make("h3", "", "Keep"), keep, this.#strength.element, this.#limit.element, this.#fault);
    setHidden(this.#fault, true);
  }

  /** @param enabled false while nothing current is known about the channel */
  update(status: ChannelStatus | null, enabled: boolean, nowMs: number): void {
    this.#status = status;
    if (this.#wish && (nowMs > this.#wish.untilMs || (status && holds(this.#wish.patch, status)))) this.#wish = null;
    const wish = this.#wish?.patch ?? {};
    const bypass = status?.bypass ?? false;
    this.bypass.disabled = !enabled;
    this.bypass.setAttribute("aria-checked", String(bypass));
    this.bypass.classList.toggle("pending", wish.bypass !== undefined);
    setText(this.bypass, bypass ? "Bypass is on (B)" : "Bypass (B)");
    for (const { keep, button } of this.#keeps) {
      button.disabled = !enabled;
      button.setAttribute("aria-checked", String(status?.keep === keep));
      button.tabIndex = keep === (wish.keep ?? status?.keep ?? KEEPS[0]!.keep) ? 0 : -1;
      button.classList.toggle("pending", wish.keep === keep);
    }
    this.#strength.update(status?.strengthPercent ?? null, enabled, wish.strengthPercent);
    this.#limit.update(status?.attenuationLimitDb ?? null, enabled, wish.attenuationLimitDb);
  }

  toggleBypass(): void {
    if (!this.#status || this.bypass.disabled) return;
    // Pressed again before the channel has confirmed: the first press is taken back.
    this.send({ bypass: !(this.#wish?.patch.bypass ?? this.#status.bypass) });
  }

  send(patch: ChannelPatch): void {
    this.#wish = { patch: { ...this.#wish?.patch, ...patch }, untilMs: performance.now() + CONFIRM_MS };
    // One after another: what was asked for last must arrive last.
    this.#sending = this.#sending.then(() => this.#request(patch));
  }

  async #request(patch: ChannelPatch): Promise<void> {
    let fault = "";
    try {
      const answer = await fetch(`/api/channels/${encodeURIComponent(this.name)}`, {
        method: "PATCH",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(patch),
        signal: AbortSignal.timeout(5000),
      });
      if (!answer.ok) fault = describe(answer.status, await answer.text());
    } catch {
      fault = "Not changed: the server does not answer.";
    }
    if (fault !== "") this.#wish = null;
    setText(this.#fault, fault);
    setHidden(this.#fault, fault === "");
  }
}

function holds(patch: ChannelPatch, status: ChannelStatus): boolean {
  return Object.entries(patch).every(([key, value]) => status[key as keyof ChannelPatch] === value);
}

function describe(httpStatus: number, body: string): string {
  let code = "";
  try {
    const answer: unknown = JSON.parse(body);
    if (typeof answer === "object" && answer !== null && "code" in answer) code = String(answer.code).slice(0, 60);
  } catch {
    // Not JSON: the status has to do.
  }
  return `Not changed: ${sentenceOf(code) ?? "the server refused."} (${code === "" ? `HTTP ${httpStatus}` : code})`;
}

/** A labelled slider that sends when it is let go, and shows the channel's value unless it is being moved. */
class Slider {
  readonly element: HTMLElement;
  #input = make("input");
  #value = make("span", "value");
  #held = false;

  constructor(
    label: string,
    key: "strengthPercent" | "attenuationLimitDb",
    least: number,
    most: number,
    step: number,
    private readonly unit: string,
    send: (patch: ChannelPatch) => void,
  ) {
    this.#input.type = "range";
    this.#input.min = String(least);
    this.#input.max = String(most);
    this.#input.step = String(step);
    this.#input.addEventListener("input", () => {
      this.#held = true;
      setText(this.#value, `${this.#input.value} ${unit}`);
      this.#input.setAttribute("aria-valuetext", `${this.#input.value} ${unit}`);
    });
    this.#input.addEventListener("change", () => {
      this.#held = false;
      send({ [key]: Number(this.#input.value) });
    });
    // Let go where it began, there is no `change`.
    for (const end of ["pointerup", "pointercancel", "blur"] as const)
      this.#input.addEventListener(end, () => {
        this.#held = false;
      });
    this.#input.setAttribute("aria-label", label);
    this.element = make("div", "slider", make("span", "", label), this.#value, this.#input);
  }

  update(value: number | null, enabled: boolean, wish: number | undefined): void {
    this.#input.disabled = !enabled;
    this.element.classList.toggle("pending", wish !== undefined);
    if (this.#held) return;
    const shown = wish ?? value;
    if (shown !== null) this.#input.value = String(shown);
    const text = shown === null ? "–" : `${Math.round(shown)} ${this.unit}`;
    setText(this.#value, text);
    this.#input.setAttribute("aria-valuetext", text);
  }
}
