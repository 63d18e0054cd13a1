import { loadOptional } from "../../optional.js";

/**
 * The typed face of gstreamer-superficial 1.7.4, only what is used. Its traps are kept in one place (`pipeline.ts`):
 * nobody else may call these.
 */
export type NativeBusMessage = {
  readonly type: string;
  readonly name?: unknown;
  readonly message?: unknown;
  readonly _src_element_name?: unknown;
  readonly "old-state"?: unknown;
};

export type NativeElement = {
  /** appsrc only. Anything but a Buffer ends the process. */
  push?(data: Buffer): void;
  /** appsink only; holds one libuv thread until a sample, end of stream (null) or stop (null). */
  pull?(callback: (data: Buffer | null | undefined) => void): void;
  [property: string]: unknown;
};

export type NativePipeline = {
  play(): void;
  stop(): void;
  sendEOS(): void;
  /** Sends "force key unit" upstream from the sink of this name. A name that is not there ends the process. */
  forceKeyUnit(sink: string, count: number): boolean;
  findChild(name: string): NativeElement | undefined;
  /** Holds one libuv thread until the pipeline is stopped. */
  pollBus(callback: (message: NativeBusMessage) => void): void;
  "auto-flush-bus": boolean;
};

type Native = { readonly Pipeline: new (launch: string) => NativePipeline };

let loaded: Native | undefined;

/**
 * Loads the addon (and so GStreamer) at the first use, in one thread per process only: its constructor is a C++ static.
 * @throws MissingPackageError
 */
export function loadNative(): Native {
  loaded ??= loadOptional<Native>(
    "gstreamer-superficial",
    "live channels (`sightline doctor` says what else is missing)",
  );
  return loaded;
}
