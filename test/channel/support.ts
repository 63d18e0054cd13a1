import { type ChildProcess, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Gateway } from "../../src/gateway/gateway.js";

export type TestGateway = {
  readonly gateway: Gateway;
  readonly socket: string;
  readonly rtmpPort: number;
  readonly mediaPort: number;
  readonly folder: string;
  close: () => Promise<void>;
};

/** A real gateway with one channel called `main` (stream key `key`) in a folder of its own. */
export async function openGateway(): Promise<TestGateway> {
  const folder = mkdtempSync(join(tmpdir(), "sightline-channel-"));
  const gateway = new Gateway(() => {});
  const socket = join(folder, "gateway.sock");
  const { rtmpPort, mediaPort } = await gateway.listen({
    socket,
    rtmp: { host: "127.0.0.1", port: 0 },
    media: { host: "127.0.0.1", port: 0 },
    streamKeys: { key: "main" },
    channels: ["main"],
  });
  return {
    gateway,
    socket,
    rtmpPort,
    mediaPort,
    folder,
    close: async () => {
      await gateway.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export type Program = { readonly child: ChildProcess; readonly exited: Promise<number | null> };

/** A program without inherited pipes, ended with SIGKILL after `limitMs`. @param onText gets what it prints on stdout */
export function run(
  command: string,
  args: readonly string[],
  limitMs: number,
  onText: ((text: string) => void) | null = null,
): Program {
  const child = spawn(command, args, { stdio: ["ignore", onText === null ? "ignore" : "pipe", "inherit"] });
  if (onText !== null) child.stdout?.setEncoding("utf8").on("data", onText);
  const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
  const exited = new Promise<number | null>((resolve) => {
    child.once("exit", (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
  return { child, exited };
}

/**
 * Ends an ffmpeg that plays: it finishes its file. It looks at the first signal when the next packet comes, which may be never; the second
 * one breaks the read off.
 */
export async function endPlayer({ child, exited }: Program): Promise<void> {
  child.kill("SIGINT");
  const again = setTimeout(() => child.kill("SIGINT"), 500);
  await exited;
  clearTimeout(again);
}

/** Publishes a file at real-time pace, untouched. */
export const publish = (path: string, port: number, limitMs = 30_000): Program =>
  run(
    "ffmpeg",
    ["-v", "error", "-nostdin", "-re", "-i", path, "-c", "copy", "-f", "flv", `rtmp://127.0.0.1:${port}/live/key`],
    limitMs,
  );

/** Waits until `condition` holds. */
export async function until(condition: () => boolean, limitMs: number, what: string): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what} did not happen within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A UDP port that was free a moment ago. */
export async function freeUdpPort(): Promise<number> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(resolve));
  return port;
}
