import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gdpBuffer, gdpCaps, gdpSegment, gdpStreamStart } from "../../src/transport/gdp/gdp.js";

/** As GStreamer would give the sound of a file: mono, a quiet ramp, in pieces of 20 ms. */
function soundBytes(seconds: number): Buffer {
  const caps = "audio/x-raw, format=(string)F32LE, layout=(string)interleaved, rate=(int)48000, channels=(int)1";
  const parts = [gdpStreamStart("s"), gdpCaps(caps), gdpSegment()];
  const samples = Float32Array.from({ length: 960 }, (_, i) => i / 10_000);
  for (let i = 0; i < seconds * 50; i++) parts.push(gdpBuffer(Buffer.from(samples.buffer), { ptsMs: i * 20 }));
  return Buffer.concat(parts);
}

/**
 * Puts a `gst-launch-1.0` in front of PATH that reads any file as so much sound without pictures. With `hangs` it then waits, as one that reads
 * a slow disk does. `gst-launch-1.0.used` beside it says that it was started. Returns the way back.
 */
export function fakeGst(folder: string, { seconds, hangs }: { seconds: number; hangs: boolean }): () => void {
  const data = join(folder, "sound.gdp");
  writeFileSync(data, soundBytes(seconds));
  const script = `#!/bin/sh\n: > "$0.used"\ncase "$*" in *video/x-raw*) exit 0;; esac\ncat '${data}' >&3\n${hangs ? "exec sleep 60" : ""}\n`;
  writeFileSync(join(folder, "gst-launch-1.0"), script, { mode: 0o755 });
  const before = process.env.PATH;
  process.env.PATH = `${folder}:${before}`;
  return () => {
    process.env.PATH = before;
  };
}
