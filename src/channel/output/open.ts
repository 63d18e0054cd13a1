import { access, stat } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { fileSink, isMuxedFormat, srtSink } from "../../transport/gst/launch.js";
import { resolvedSrt } from "../../transport/srt-address.js";
import { FlvFileOutput } from "./flv-file-output.js";
import { MuxedOutput } from "./muxed-output.js";
import { type Output, type OutputEvents, type OutputStatus, publicUri } from "./output.js";
import { RtmpOutput } from "./rtmp-output.js";

/** For the path of a recording; longer than any disk that works is busy. */
const DISK_ANSWERS_MS = 3000;

/** Makes the output for an address. Never throws: an address that cannot be used is an output that has ended, with its reason. */
export function openOutput(uri: string, events: OutputEvents): Output {
  try {
    if (uri.startsWith("rtmp:")) return new RtmpOutput(uri, events);
    if (uri.startsWith("srt:"))
      return new MuxedOutput(publicUri(uri), (tracks, address) => srtSink(address, tracks), events, {
        isFile: false,
        target: () => resolvedSrt(uri),
        knowsGaps: true,
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
    return new MuxedOutput(`file://${path}`, (tracks, file) => fileSink(file, format, tracks), events, {
      isFile: true,
      target: freePaths(path),
      knowsGaps: format === "ts",
    });
  }
  return new UselessOutput(`file://${path}`, events, "file names end in .flv, .mkv, .mp4 or .ts");
}

/** A recording is never written over: `name.flv`, `name-1.flv`, ... */
export async function freePath(path: string): Promise<string> {
  const end = extname(path);
  const stem = path.slice(0, path.length - end.length);
  for (let n = 1, candidate = path; ; n++) {
    if (!(await exists(candidate))) return candidate;
    candidate = `${stem}-${n}${end}`;
  }
}

/**
 * A free path at each call; one that was given before and came to nothing (a full disk, again and again) is given again.
 * It rejects with an Error when the disk does not answer within `limitMs` (a network folder whose server is gone).
 */
export function freePaths(path: string, limitMs = DISK_ANSWERS_MS): () => Promise<string> {
  let last: string | null = null;
  let asked: Promise<string> | null = null;
  const find = async (): Promise<string> => {
    if (last === null || (await sizeOf(last)) > 0) last = await freePath(path);
    return last;
  };
  return () => {
    // A question that is not answered holds a thread of the few there are: until then no other is asked.
    asked ??= find().finally(() => {
      asked = null;
    });
    return inTime(asked, limitMs);
  };
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** 0 where there is no such file, and where the disk says no: writing will tell. */
const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );

async function inTime<T>(answer: Promise<T>, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the disk did not answer within ${limitMs} ms`)), limitMs);
    timer.unref();
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

class UselessOutput implements Output {
  readonly status: OutputStatus;
  readonly counters = {};
  readonly waitsForKey = false;

  constructor(uri: string, events: OutputEvents, detail: string) {
    this.status = { uri, state: "refused", reason: "SL_OUTPUT_ADDRESS" };
    events.onState(this.status, detail);
  }

  write(): void {}

  interrupted(): void {}

  async close(): Promise<void> {}
}
