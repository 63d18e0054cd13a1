import { existsSync, statSync } from "node:fs";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { fileSink, isMuxedFormat, srtSink } from "../../transport/gst/launch.js";
import { resolvedSrt } from "../../transport/srt-address.js";
import { FlvFileOutput } from "./flv-file-output.js";
import { MuxedOutput } from "./muxed-output.js";
import { type Output, type OutputEvents, type OutputStatus, publicUri } from "./output.js";
import { RtmpOutput } from "./rtmp-output.js";

/** Makes the output for an address. Never throws: an address that cannot be used is an output that has ended, with its reason. */
export function openOutput(uri: string, events: OutputEvents): Output {
  try {
    if (uri.startsWith("rtmp:")) return new RtmpOutput(uri, events);
    if (uri.startsWith("srt:"))
      return new MuxedOutput(publicUri(uri), (tracks, address) => srtSink(address ?? uri, tracks), events, {
        knowsGaps: true,
        address: () => resolvedSrt(uri),
      });
    if (uri.startsWith("file:")) return openFile(fileURLToPath(uri), events);
    return new UselessOutput(publicUri(uri), events, "rtmp://, srt:// and file:// can be written to");
  } catch (error) {
    return new UselessOutput(publicUri(uri), events, error instanceof Error ? error.message : String(error));
  }
}

function openFile(path: string, events: OutputEvents): Output {
  const format = extname(path).slice(1).toLowerCase();
  if (format === "flv") return new FlvFileOutput(`file://${path}`, freePaths(path), events);
  if (isMuxedFormat(format)) {
    const next = freePaths(path);
    return new MuxedOutput(`file://${path}`, (tracks) => fileSink(next(), format, tracks), events, {
      nextFile: next,
      knowsGaps: format === "ts",
    });
  }
  return new UselessOutput(`file://${path}`, events, "file names end in .flv, .mkv, .mp4 or .ts");
}

/** A recording is never written over: `name.flv`, `name-1.flv`, ... */
export function freePath(path: string): string {
  const end = extname(path);
  const stem = path.slice(0, path.length - end.length);
  for (let n = 1, candidate = path; ; n++) {
    if (!existsSync(candidate)) return candidate;
    candidate = `${stem}-${n}${end}`;
  }
}

/** A free path at each call; one that was given before and came to nothing (a full disk, again and again) is given again. */
export function freePaths(path: string): () => string {
  let last: string | null = null;
  return () => {
    if (last === null || sizeOf(last) > 0) last = freePath(path);
    return last;
  };
}

/** 0 where there is no such file, and where the disk does not answer: writing will tell. */
function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}

class UselessOutput implements Output {
  readonly status: OutputStatus;
  readonly counters = {};

  constructor(uri: string, events: OutputEvents, detail: string) {
    this.status = { uri, state: "refused", reason: "SL_OUTPUT_ADDRESS" };
    events.onState(this.status, detail);
  }

  write(): void {}

  interrupted(): void {}

  async close(): Promise<void> {}
}
