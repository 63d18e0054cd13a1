import { spawn } from "node:child_process";
import { createServer } from "node:net";

/** Runs a program to its end and gives its standard output. Ended after a minute; throws with what it said when it fails. */
export function output(program: string, args: readonly string[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], timeout: 60_000, killSignal: "SIGKILL" });
    const parts: Buffer[] = [];
    let said = "";
    child.stdout.on("data", (part: Buffer) => parts.push(part));
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-2000);
    });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code === 0) resolve(Buffer.concat(parts));
      else reject(new Error(`${program} ended with ${code ?? signal}: ${said}`));
    });
  });
}

export function ffmpeg(args: readonly string[]): Promise<Buffer> {
  return output("ffmpeg", ["-v", "error", "-nostdin", "-y", ...args]);
}

export type Packet = { readonly ptsMs: number; readonly dtsMs: number; readonly key: boolean; readonly hash: string };

/** Packets of one track (`v` or `a`) of a file, with a hash of their bytes. */
export async function ffprobePackets(file: string, track: "v" | "a"): Promise<Packet[]> {
  const args = [
    "-v",
    "error",
    "-select_streams",
    track,
    "-show_packets",
    "-show_data_hash",
    "md5",
    "-of",
    "json",
    file,
  ];
  const { packets } = JSON.parse((await output("ffprobe", args)).toString()) as {
    packets: { pts_time: string; dts_time: string; flags: string; data_hash: string }[];
  };
  return packets.map((p) => ({
    ptsMs: Math.round(Number(p.pts_time) * 1000),
    dtsMs: Math.round(Number(p.dts_time) * 1000),
    key: p.flags.includes("K"),
    hash: p.data_hash,
  }));
}

/** The left (or only) channel at 16 kHz. Not `-ac 1`: ffmpeg's down-mix of two equal channels is 3 dB louder than either. */
export async function decodeSound(file: string): Promise<Float32Array> {
  const bytes = await ffmpeg(["-i", file, "-vn", "-af", "pan=mono|c0=c0", "-ar", "16000", "-f", "f32le", "-"]);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length - (bytes.length % 4)));
}

/** A port nobody listens on now; for programs that cannot be given port 0. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
