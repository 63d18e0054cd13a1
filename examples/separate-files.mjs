// Separates a WAV file with the pictures that belong to it; both voices come out as WAV files that add up to the input.
//
//   ffmpeg -i talk.mp4 -ac 2 -ar 48000 -c:a pcm_s16le talk.wav
//   ffmpeg -i talk.mp4 -an -vf fps=25,scale=640:360 -pix_fmt yuv420p -f rawvideo talk.yuv
//   node separate-files.mjs talk.wav talk.yuv 640x360 25 OUT-FOLDER
import { mkdirSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { lastValueFrom, tap } from "rxjs";
import { interleave, openModel, separateAll } from "sightline";

const [wavPath, yuvPath, size = "", rate, out] = process.argv.slice(2);
const [width, height] = size.split("x").map(Number);
if (!out || !(width > 0 && height > 0 && Number(rate) > 0)) {
  console.error("usage: node separate-files.mjs SOUND.wav PICTURES.yuv WIDTHxHEIGHT PICTURES-A-SECOND OUT-FOLDER");
  process.exit(2);
}

/** 16-bit WAV to planar floats. */
function readWav(path) {
  const file = readFileSync(path);
  let format = null;
  for (let at = 12; at + 8 <= file.length; at += 8 + file.readUInt32LE(at + 4) + (file.readUInt32LE(at + 4) & 1)) {
    const name = file.toString("latin1", at, at + 4);
    const body = file.subarray(at + 8, at + 8 + file.readUInt32LE(at + 4));
    if (name === "fmt ") format = { channels: body.readUInt16LE(2), rate: body.readUInt32LE(4), bits: body.readUInt16LE(14) };
    if (name !== "data") continue;
    if (format?.bits !== 16) throw new Error(`${path} is not 16-bit WAV; see the first lines of this example`);
    const count = Math.floor(body.length / 2 / format.channels);
    const planes = Array.from({ length: format.channels }, (_, c) =>
      Float32Array.from({ length: count }, (_, i) => body.readInt16LE(2 * (i * format.channels + c)) / 32768),
    );
    return { rate: format.rate, planes };
  }
  throw new Error(`${path} is not a WAV file`);
}

function writeWav(path, planes) {
  const [channels, count] = [planes.length, planes[0]?.length ?? 0];
  const file = Buffer.alloc(44 + 2 * channels * count);
  file.write("RIFF", 0);
  file.writeUInt32LE(file.length - 8, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(channels, 22);
  file.writeUInt32LE(48000, 24);
  file.writeUInt32LE(48000 * 2 * channels, 28);
  file.writeUInt16LE(2 * channels, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(2 * channels * count, 40);
  for (let i = 0; i < count; i++)
    for (let c = 0; c < channels; c++)
      file.writeInt16LE(Math.max(-32768, Math.min(32767, Math.round(planes[c][i] * 32768))), 44 + 2 * (i * channels + c));
  writeFileSync(path, file);
}

/** Blocks of 20 ms, as a decoder would give them. */
function* sounds({ rate: sampleRate, planes }) {
  const block = Math.round(sampleRate / 50);
  for (let at = 0; at < planes[0].length; at += block)
    yield { kind: "sound", ptsMs: (1000 * at) / sampleRate, sampleRate, channels: planes.map((p) => p.subarray(at, at + block)) };
}

/** One picture after another from the file, never the whole of it. */
function* pictures() {
  const file = openSync(yuvPath, "r");
  const bytes = width * height + 2 * ((width + 1) >> 1) * ((height + 1) >> 1);
  for (let i = 0; ; i++) {
    const data = new Uint8Array(bytes);
    if (readSync(file, data, 0, bytes, i * bytes) < bytes) return;
    yield { kind: "picture", ptsMs: (1000 * i) / Number(rate), width, height, data };
  }
}

const model = await openModel("live");
const kept = [];
const removed = [];
let steps = 0;
let seen = 0;
try {
  const results = separateAll(interleave(sounds(readWav(wavPath)), pictures()), { model, removed: true });
  await lastValueFrom(
    results.pipe(
      tap((result) => {
        if (result.kind === "sound") {
          kept.push(result.kept);
          removed.push(result.removed);
        } else if (result.kind === "highlight") {
          steps += 1;
          if (result.faces.length > 0) seen += 1;
        }
      }),
    ),
  );
} finally {
  await model.close();
}

const joined = (blocks) =>
  (blocks[0] ?? []).map((_, c) => {
    const plane = new Float32Array(blocks.reduce((sum, block) => sum + block[c].length, 0));
    let at = 0;
    for (const block of blocks) {
      plane.set(block[c], at);
      at += block[c].length;
    }
    return plane;
  });
mkdirSync(out, { recursive: true });
writeWav(join(out, "onscreen.wav"), joined(kept));
writeWav(join(out, "offscreen.wav"), joined(removed));
console.log(JSON.stringify({ seconds: (joined(kept)[0]?.length ?? 0) / 48000, steps, stepsWithAFace: seen }));
