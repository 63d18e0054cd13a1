import { type ChildProcess, spawn } from "node:child_process";
import type { Writable } from "node:stream";
import { flvHeader, flvTag } from "../../src/transport/flv/tag.js";
import { type Clip, clipTags } from "./clip.js";

export type Publisher = {
  readonly process: ChildProcess;
  /** What the program said last; for messages of failures. */
  readonly said: () => string;
  /** Resolves with the exit status when the program ends by itself. */
  readonly ended: Promise<number | null>;
  stop(): Promise<void>;
};

/** A program as publisher or player: killed by `stop`, its words kept (bounded). */
export function startProgram(
  program: string,
  args: readonly string[],
  options: { readonly input?: Iterable<Buffer>; readonly env?: Record<string, string> } = {},
): Publisher {
  const child = spawn(program, args, {
    stdio: [options.input ? "pipe" : "ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
  });
  let text = "";
  const keep = (data: Buffer): void => {
    text = (text + data.toString("latin1")).slice(-8000);
  };
  child.stdout?.on("data", keep);
  child.stderr?.on("data", keep);
  const ended = new Promise<number | null>((resolve) => {
    child.on("close", (code) => resolve(code));
    child.on("error", (error) => {
      text += error.message;
      resolve(null);
    });
  });
  if (options.input && child.stdin) void feed(child, options.input, ended);
  return {
    process: child,
    said: () => text,
    ended,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await ended;
    },
  };
}

async function feed(child: ChildProcess, chunks: Iterable<Buffer>, ended: Promise<unknown>): Promise<void> {
  const stdin = child.stdin!;
  // The program may end before it has read everything.
  stdin.on("error", () => {});
  for (const chunk of chunks) {
    if (child.exitCode !== null || child.signalCode !== null || stdin.destroyed) return;
    if (!stdin.write(chunk)) await Promise.race([drained(stdin), ended]);
  }
  stdin.end();
}

const drained = (stream: Writable): Promise<void> => new Promise((resolve) => stream.once("drain", resolve));

function* flvBytes(clip: Clip, seconds: number): Generator<Buffer> {
  yield flvHeader();
  for (const tag of clipTags(clip, seconds)) yield flvTag(tag);
}

/** ffmpeg as publisher: `seconds` of the clip in real time, bitstreams copied. */
export function publish(clip: Clip, url: string, seconds: number): Publisher {
  return startProgram(
    "ffmpeg",
    [
      ...["-v", "warning", "-re", "-f", "flv", "-i", "pipe:0", "-c", "copy"],
      ...["-flvflags", "no_duration_filesize", "-f", "flv", url],
    ],
    { input: flvBytes(clip, seconds) },
  );
}
