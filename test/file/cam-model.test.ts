import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { CamLine } from "../../src/file/cam-pass.js";
import { type SeparateOptions, type SeparateReport, separateFile } from "../../src/file/separate-file.js";
import { loadWindow } from "../../src/model/cards.js";
import { importCheckpoint } from "../../src/model/checkpoint/import.js";
import { type Activation, PaperWindow } from "../../src/model/paper/window.js";
import { Resampler } from "../../src/pipeline/resample.js";
import { clipFolder, ffmpeg } from "../gst/clip.js";
import { paperBundle } from "../model/checkpoint/paper-bundle.js";
import { saveBundle, writeBundle } from "../model/checkpoint/write-bundle.js";

/** Random weights, width 1/32; the second network at 96 pixels: 6 x 6 cells. The clip is 3 s: three windows. */
const SIDE = 96;
const [WIDTH, HEIGHT] = [320, 180];
const FRAME = 48_000 / 29.97;
/** By hand: half a window apart, the last one moved back to end with the sound: ceil((144000 - 100608) / FRAME). */
const FRAMES = [0, 28];
const folder = clipFolder();
const at = (name: string): string => join(folder.path, name);
const clip = at("clip.mkv");
let cam: PaperWindow;
let direct: Activation[];

const test = suite("a second network for the heat map");
test.before(async () => {
  saveBundle(at("cam"), writeBundle(paperBundle("cam", false)));
  saveBundle(at("pit"), writeBundle(paperBundle("unet_pit", false)));
  await importCheckpoint(at("cam"), "cam", at("model-cam"), { image: SIDE, frames: 63 });
  await importCheckpoint(at("pit"), "unet_pit", at("model-pit"));
  cam = await PaperWindow.open(await loadWindow(at("model-cam")), { threads: 1 });
  // Colours that cross the whole range, sound beyond -1..1 in places (the network gets it clipped).
  ffmpeg(
    ...["-f", "lavfi", "-i", `testsrc2=s=${WIDTH}x${HEIGHT}:r=30000/1001`],
    ...[
      "-f",
      "lavfi",
      "-i",
      "anoisesrc=a=0.5:r=48000:seed=3",
      "-f",
      "lavfi",
      "-i",
      "aevalsrc=1.3*sin(700*t*(1+t)):s=48000",
    ],
    ...["-filter_complex", "[1][2]join=inputs=2:channel_layout=stereo[a]", "-map", "0:v", "-map", "[a]", "-t", "3"],
    ...["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt", "yuv420p", "-c:a", "pcm_f32le", clip],
  );
  direct = await directly(null);
});
test.after(async () => {
  await cam.close();
  folder.remove();
});

let runs = 0;
const separate = (options: Partial<SeparateOptions> = {}): Promise<SeparateReport> =>
  separateFile({
    input: clip,
    out: at(`out${++runs}`),
    model: at("model-pit"),
    cam: true,
    camModel: at("model-cam"),
    mp4: false,
    engine: "cpu",
    threads: 1,
    signal: AbortSignal.timeout(150_000),
    ...options,
  });
const linesOf = (r: SeparateReport): CamLine[] =>
  readFileSync(r.files["cam.jsonl"]!, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as CamLine);
const raw = (path: string, format: string): Buffer =>
  execFileSync("ffmpeg", ["-v", "error", "-nostdin", "-i", path, "-f", "rawvideo", "-pix_fmt", format, "-"], {
    maxBuffer: 1 << 28,
    timeout: 30_000,
  });

/** What the network gives for the clip, by a way of its own: ffmpeg's planes and sound, pixels by the formulas of BT.601 and of the spec. */
async function directly(mask: "r" | null): Promise<Activation[]> {
  const planes = raw(clip, "yuv420p");
  const bytes = execFileSync("ffmpeg", ["-v", "error", "-i", clip, "-f", "f32le", "-"], { maxBuffer: 1 << 28 });
  const all = new Float32Array(Uint8Array.from(bytes).buffer);
  const channel = (c: number): Float32Array => all.filter((_, i) => i % 2 === c);
  const size = (WIDTH * HEIGHT * 3) / 2;
  const rgb = (frame: Buffer, x: number, y: number): number[] => {
    if (mask === "r" && x >= WIDTH / 2) return [128, 128, 128];
    const half = Math.floor(y / 2) * (WIDTH / 2) + Math.floor(x / 2);
    const luma = (255 / 219) * (frame[y * WIDTH + x]! - 16);
    const cb = (255 / 224) * (frame[WIDTH * HEIGHT + half]! - 128);
    const cr = (255 / 224) * (frame[(WIDTH * HEIGHT * 5) / 4 + half]! - 128);
    const out = [luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb];
    return out.map((v) => Math.min(255, Math.max(0, Math.round(v))));
  };
  const seen = (index: number): Float32Array => {
    // The last picture stays when there are no more.
    const shown = Math.min(index, planes.length / size - 1);
    const frame = planes.subarray(shown * size, (shown + 1) * size);
    const out = new Float32Array(3 * SIDE * SIDE);
    for (let j = 0; j < SIDE; j++)
      for (let i = 0; i < SIDE; i++) {
        const [py, px] = [(j * HEIGHT) / SIDE, (i * WIDTH) / SIDE];
        const [y, x] = [Math.floor(py), Math.floor(px)];
        const [y1, x1] = [Math.min(y + 1, HEIGHT - 1), Math.min(x + 1, WIDTH - 1)];
        const corners = [rgb(frame, x, y), rgb(frame, x1, y), rgb(frame, x, y1), rgb(frame, x1, y1)];
        for (let c = 0; c < 3; c++) {
          const [a, b, d, e] = corners.map((v) => v[c]!) as [number, number, number, number];
          out[3 * (j * SIDE + i) + c] = (a + (b - a) * (px - x)) * (1 - py + y) + (d + (e - d) * (px - x)) * (py - y);
        }
      }
    return out;
  };
  const cache = new Map<number, Float32Array>();
  const results: Activation[] = [];
  const resampler = new Resampler(7, 16);
  for (const first of FRAMES) {
    const pictures = Array.from({ length: 63 }, (_, i) => {
      const picture = cache.get(first + i) ?? seen(first + i);
      cache.set(first + i, picture);
      return picture;
    });
    const [left, right] = [0, 1].map((c) => resampler.run(channel(c), Math.round(first * FRAME), 44_144));
    results.push(await cam.activation({ pictures, left: left!, right: right! }));
  }
  return results;
}

test("its input is float32, its map has 6 x 6 cells at 96 pixels, and clipping is done for it", () => {
  const { inputs, outputs } = cam.card.paper;
  assert.is(inputs.find((p) => p.name === "video")?.type, "float32");
  assert.equal(outputs.find((p) => p.name === "cam")?.shape, [1, 8, 6, 6]);
  assert.equal([direct[0]!.map.frames, direct[0]!.map.height, direct[0]!.map.width], [8, 6, 6]);
});

test("beside a separator that sees nothing: every window's logit and crop are those of a way of its own", async () => {
  const report = await separate({ camCrop: true });
  assert.equal(readdirSync(join(report.files["cam.mp4"]!, "..")).sort(), [
    "cam.jsonl",
    "cam.mp4",
    "crop.mp4",
    "highlight.jsonl",
    "offscreen.wav",
    "onscreen.wav",
  ]);
  assert.is(report.cam?.windows, FRAMES.length);
  const lines = linesOf(report);
  assert.equal(
    lines.map((l) => l.atSample),
    FRAMES.map((f) => Math.round(f * FRAME)),
  );
  const scale = Math.max(...direct[0]!.map.data.map(Math.abs));
  for (const [i, { logit, crop }] of lines.entries()) {
    assert.ok(Math.abs(logit - direct[i]!.logit) < 1e-3 * scale, `${i}: ${logit}, ${direct[i]!.logit}`);
    // 180 lines hold no square of 224 pixels: the whole height.
    assert.equal([crop.y, crop.height, crop.width], [0, 1, 0.5625]);
  }
  const probe = execFileSync(
    "ffprobe",
    [
      "-v",
      "error",
      "-select_streams",
      "v",
      "-show_entries",
      "stream=width,height",
      "-of",
      "csv=p=0",
      report.files["crop.mp4"]!,
    ],
    { timeout: 30_000 },
  );
  assert.is(probe.toString().trim(), "224,224");
  // The middle of the crop is the middle of what it was cut from.
  const [whole, cropped] = [raw(clip, "gray"), raw(report.files["crop.mp4"]!, "gray")];
  const left = lines[0]!.crop.x * WIDTH;
  let difference = 0;
  for (let y = 20; y < 160; y += 10)
    for (let x = 20; x < 160; x += 10) {
      const [cy, cx] = [y, x].map((v) => Math.round((v * 223) / 179));
      difference += Math.abs(whole[y * WIDTH + left + x]! - cropped[cy! * 224 + cx!]!);
    }
  assert.ok(difference / 196 < 12, `mean difference ${difference / 196}`);
});

test("cam.mp4 is warm where the map is high, over the whole picture, not only its middle", async () => {
  const { data } = direct[1]!.map;
  const heat = data.map(Math.abs);
  // So low a limit that there is heat in many places.
  const top = [...heat].sort((a, b) => a - b)[Math.floor(0.85 * heat.length)]!;
  const report = await separate({ camLimit: top });
  const [before, after] = [raw(clip, "rgb24"), raw(report.files["cam.mp4"]!, "rgb24")];
  // A picture of window 1 (which takes over at sample 71 190, picture 44) just after its hottest map from map 3 on.
  const hottest = [3, 4, 5, 6, 7].sort(
    (a, b) => Math.max(...heat.subarray(36 * b, 36 * b + 36)) - Math.max(...heat.subarray(36 * a, 36 * a + 36)),
  )[0]!;
  const picture = 28 + Math.ceil((63 * hottest) / 8);
  const f = (8 * (picture - 28)) / 63;
  const cell = (t: number, y: number, x: number): number => heat[(t * 6 + y) * 6 + x]!;
  const hot = (px: number, py: number): number => {
    const [y, x] = [(py * 5) / (HEIGHT - 1), (px * 5) / (WIDTH - 1)];
    const [y0, x0] = [Math.min(4, Math.floor(y)), Math.min(4, Math.floor(x))];
    let v = 0;
    for (const [t, w] of [
      [Math.floor(f), 1 - (f % 1)],
      [Math.min(7, Math.floor(f) + 1), f % 1],
    ] as const)
      for (const [dy, wy] of [
        [0, 1 - (y - y0)],
        [1, y - y0],
      ] as const)
        for (const [dx, wx] of [
          [0, 1 - (x - x0)],
          [1, x - x0],
        ] as const)
          v += w * wy * wx * cell(t, y0 + dy, x0 + dx);
    return (v - 0.5 * top) / (0.5 * top + 0.001);
  };
  const begin = 3 * WIDTH * HEIGHT * picture;
  let [cold, coldChange, warm, warmChange, edges] = [0, 0, 0, 0, 0];
  for (let y = 0; y < HEIGHT; y += 3)
    for (let x = 0; x < WIDTH; x += 3) {
      const i = begin + 3 * (y * WIDTH + x);
      const change = [0, 1, 2].reduce((sum, c) => sum + Math.abs(before[i + c]! - after[i + c]!), 0);
      const v = hot(x, y);
      if (v < -0.1) [cold, coldChange] = [cold + 1, coldChange + change];
      else if (v > 0.5) {
        [warm, warmChange] = [warm + 1, warmChange + change];
        if (x < WIDTH / 16 || x > (15 * WIDTH) / 16 || y < HEIGHT / 16 || y > (15 * HEIGHT) / 16) edges++;
      }
    }
  assert.ok(cold > 100 && warm > 100 && edges > 5, `${cold} cold, ${warm} warm, ${edges} at the edges`);
  assert.ok(
    warmChange / warm > 3 * (coldChange / cold),
    `${warmChange / warm} where warm, ${coldChange / cold} where cold`,
  );
});

test("a mask hides its half from the second network, too; --release-exact overwrites by the later window", async () => {
  const masked = await directly("r");
  const report = await separate({ mask: "r" });
  const scale = Math.max(...masked[0]!.map.data.map(Math.abs));
  const lines = linesOf(report);
  for (const [i, { logit }] of lines.entries()) assert.ok(Math.abs(logit - masked[i]!.logit) < 1e-3 * scale);
  const change = Math.max(...masked.map((m, i) => Math.abs(m.logit - direct[i]!.logit)));
  assert.ok(change > 5e-3 * scale, `${change} of ${scale}`);
  assert.equal(
    lines.map((l) => l.from),
    [0, Math.floor((Math.round(28 * FRAME) + 100_608 - 3072) / 2)],
  );
  const exact = await separate({ paper: true, releaseExact: true });
  assert.equal(
    linesOf(exact).map((l) => l.from),
    FRAMES.map((f) => Math.round(f * FRAME)),
  );
});

test("beside the live model, with sliding crops: a map as fine as the picture", async () => {
  const report = await separate({ model: "live", camDetail: "crops", camLimit: 1e-3 });
  assert.is(report.cam?.windows, FRAMES.length);
  assert.match(report.model, /^live/);
  assert.ok(existsSync(report.files["cam.mp4"]!));
  // Under so low a limit every pixel is full of heat: 35 % of dark red over all of the picture.
  const [before, after] = [raw(clip, "rgb24"), raw(report.files["cam.mp4"]!, "rgb24")];
  let far = 0;
  for (let i = 0; i < 3 * WIDTH * HEIGHT; i += 3) if (Math.abs(0.65 * before[i + 1]! - after[i + 1]!) > 25) far++;
  assert.ok(far < 0.05 * WIDTH * HEIGHT, `${far} pixels differ`);
});

test("what cannot be done is said before the work, and nothing is left", async () => {
  const refused = async (job: Promise<unknown>, code: string, what: RegExp): Promise<void> => {
    const error = await job.then(
      () => null,
      (e: Error & { code: string }) => e,
    );
    assert.is(error?.code, code, String(error));
    assert.match(error!.message, what);
    assert.not(existsSync(at(`out${runs}`)));
  };
  await refused(
    separate({ camModel: at("model-pit") }),
    "SL_FILE_MODEL",
    /unet_pit\) is not a network for --cam-model.*--preset cam/,
  );
  await refused(separate({ camModel: "live" }), "SL_FILE_MODEL", /kind stream/);
  await refused(separate({ camModel: at("nothing") }), "SL_MODEL_INVALID", /card\.json/);
  ffmpeg("-i", clip, "-vn", "-c", "copy", at("blind.mkv"));
  const blind = await separate({ input: at("blind.mkv") });
  assert.is(blind.cam, undefined);
  assert.equal(readdirSync(join(blind.files["onscreen.wav"]!, "..")).sort(), [
    "highlight.jsonl",
    "offscreen.wav",
    "onscreen.wav",
  ]);
  assert.equal(
    blind.warnings.map((w) => w.code),
    ["SL_FILE_NO_PICTURE"],
  );
});

test.run();
