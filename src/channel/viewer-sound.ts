import type { Rendered } from "../pipeline/gain-renderer.js";
import type { AudioBlock } from "../pipeline/types.js";
import { GstError, type GstFault } from "../transport/gst/pipeline.js";
import type { ViewerStem } from "../transport/ipc/messages.js";
import { OpusEncoder } from "./encode.js";

/** One Opus packet of a stem; its sound begins at `atSample` of the timeline. */
export type StemFrame = { readonly stem: ViewerStem; readonly atSample: number; readonly data: Buffer };

/**
 * Opus for WHEP viewers, only while there are any: an encoder is made when its stem is wanted for the first time and gets nothing while
 * nobody listens. Without an Opus encoder on the machine viewers see pictures without sound; the channel goes on.
 */
export class ViewerSound {
  readonly #encoders = new Map<ViewerStem, OpusEncoder>();
  readonly #onFrame: (frame: StemFrame) => void;
  readonly #onFault: (fault: { element: string; message: string }) => void;
  #wanted: ReadonlySet<ViewerStem> = new Set();
  #packets = 0;
  #unavailable = false;

  constructor(onFrame: (frame: StemFrame) => void, onFault: (fault: { element: string; message: string }) => void) {
    this.#onFrame = onFrame;
    this.#onFault = onFault;
  }

  get counters(): Readonly<Record<string, number>> {
    let faults = 0;
    for (const encoder of this.#encoders.values()) faults += encoder.faults;
    return { viewer_opus_packets: this.#packets, viewer_encoder_faults: faults };
  }

  /** The renderer must render what it removed as well. */
  get needsRemoved(): boolean {
    return this.#wanted.has("input") || this.#wanted.has("removed");
  }

  want(stems: readonly ViewerStem[]): void {
    this.#wanted = new Set(stems);
  }

  push({ kept, removed }: Rendered): void {
    if (this.#wanted.has("clean")) this.#encoder("clean")?.push(kept);
    if (removed === null) return;
    if (this.#wanted.has("removed")) this.#encoder("removed")?.push(removed);
    if (this.#wanted.has("input")) this.#encoder("input")?.push(sum(kept, removed));
  }

  close(): void {
    for (const encoder of this.#encoders.values()) encoder.close();
  }

  #encoder(stem: ViewerStem): OpusEncoder | null {
    const made = this.#encoders.get(stem);
    if (made !== undefined || this.#unavailable) return made ?? null;
    const onFrame = ({ atSample, data }: { atSample: number; data: Buffer }): void => {
      if (!this.#wanted.has(stem)) return;
      this.#packets += 1;
      this.#onFrame({ stem, atSample, data });
    };
    try {
      const encoder = new OpusEncoder(onFrame, (fault: GstFault) => this.#onFault(fault));
      this.#encoders.set(stem, encoder);
      return encoder;
    } catch (error) {
      if (!(error instanceof GstError)) throw error;
      this.#unavailable = true;
      this.#onFault({ element: "opusenc", message: error.message });
      return null;
    }
  }
}

/** Kept and removed add up to the input. */
function sum(kept: AudioBlock, removed: AudioBlock): AudioBlock {
  const channels = kept.channels.map((plane, c) => plane.map((value, i) => value + removed.channels[c]![i]!));
  return { atSample: kept.atSample, channels };
}
