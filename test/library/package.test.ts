import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PACKAGE_ROOT } from "../../src/paths.js";
import { clipFolder, ffmpeg } from "../gst/clip.js";

/** What a stranger gets: packed, unpacked into an empty project, without the checkout's sources and without our TypeScript settings. */
const folder = clipFolder();
const project = join(folder.path, "project");
const installed = join(project, "node_modules", "sightline");
const root = join(PACKAGE_ROOT);
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd: project, encoding: "utf8", timeout: 120_000, stdio: ["ignore", "pipe", "pipe"] });

/** Links everything of the checkout's node_modules but what `without` names. */
function linkDependencies(without: readonly string[]): void {
  const link = (name: string): void => {
    if (!without.includes(name)) symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name));
  };
  for (const name of readdirSync(join(root, "node_modules"))) {
    if (name.startsWith(".") || name === "sightline") continue;
    if (!name.startsWith("@")) link(name);
    else {
      mkdirSync(join(project, "node_modules", name), { recursive: true });
      for (const inner of readdirSync(join(root, "node_modules", name))) link(`${name}/${inner}`);
    }
  }
}

const test = suite("npm package");
test.before(() => {
  mkdirSync(installed, { recursive: true });
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  const [packed] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder.path], {
      cwd: root,
      encoding: "utf8",
      timeout: 120_000,
      stdio: ["ignore", "pipe", "ignore"],
    }),
  ) as [{ filename: string }];
  run("tar", "xzf", join(folder.path, packed.filename), "-C", installed, "--strip-components=1");
  // Its dependencies are those of the checkout, so that the test needs no registry; the native ones of other uses are missing here.
  linkDependencies(["gstreamer-superficial", "@roamhq/wrtc"]);
});
test.after(() => folder.remove());

test("holds what it promises and nothing of the workshop", () => {
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as {
    exports: Record<string, { types?: string; default?: string } | string>;
    bin: Record<string, string>;
    dependencies: Record<string, string>;
    optionalDependencies: Record<string, string>;
  };
  const paths = [...Object.values(manifest.exports), ...Object.values(manifest.bin)].flatMap((entry) =>
    typeof entry === "string" ? [entry] : Object.values(entry),
  );
  assert.ok(paths.length >= 6);
  for (const path of [
    ...paths,
    "models/live/card.json",
    "dist/models/blazeface-back.onnx",
    "dist/src/dashboard/page/index.html",
    "docs/library.md",
  ])
    assert.ok(existsSync(join(installed, path)), path);
  for (const path of ["src", "test", "train", "bench", "dist/test", "dist/bench"])
    assert.not.ok(existsSync(join(installed, path)), path);
  for (const name of ["@roamhq/wrtc", "gstreamer-superficial"]) assert.ok(name in manifest.optionalDependencies, name);
});

test("types of both entries are found by a strict project, without its skipLibCheck", () => {
  writeFileSync(
    join(project, "user.ts"),
    `import { from, type Observable } from "rxjs";
import { interleave, openModel, separate, type MediaOut, type Inference } from "sightline";
import { separateTracks, type SeparatedTracks } from "sightline/webrtc";
const model: Inference = await openModel();
export const out: Observable<MediaOut> = from(interleave([], [])).pipe(separate({ model, controls: { strengthPercent: 50 } }));
export const tracks = (audio: { id: string }): SeparatedTracks<{ id: string }> => separateTracks({ audio }, { model, profile: "low" });
// @ts-expect-error a profile that does not exist
separateTracks({ audio: {} }, { model, profile: "fast" });
`,
  );
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const flags = ["--noEmit", "--strict", "--target", "ES2022", "--module", "NodeNext", "--types", "node"];
  run(process.execPath, tsc, ...flags, "user.ts");
});

test("the example of arrays runs with the shipped model; both voices add up to the input", () => {
  const at = (name: string): string => join(folder.path, name);
  const talk = join(root, "demo", "talk.flv");
  ffmpeg("-i", talk, "-t", "3", "-vn", "-ac", "1", "-ar", "48000", "-c:a", "pcm_s16le", at("talk.wav"));
  const pictures = ["-vf", "fps=25,scale=320:180", "-pix_fmt", "yuv420p", "-f", "rawvideo"];
  ffmpeg("-i", talk, "-t", "3", "-an", ...pictures, at("talk.yuv"));
  // A copy in the project, as somebody would start from it.
  writeFileSync(join(project, "separate.mjs"), readFileSync(join(installed, "examples", "separate-files.mjs")));
  const text = run(process.execPath, "separate.mjs", at("talk.wav"), at("talk.yuv"), "320x180", "25", at("out"));
  const { seconds, steps, stepsWithAFace } = JSON.parse(text) as Record<string, number>;
  console.log(text.trim());
  assert.ok(Math.abs(seconds! - 3) < 0.1, `${seconds} s`);
  assert.ok(steps! > 15 && stepsWithAFace! > 10, text);
  const wav = (name: string): Int16Array => {
    const bytes = readFileSync(at(name));
    const data = bytes.indexOf("data") + 8;
    return Int16Array.from({ length: (bytes.length - data) >> 1 }, (_, i) => bytes.readInt16LE(data + 2 * i));
  };
  const [input, kept, removed] = [wav("talk.wav"), wav("out/onscreen.wav"), wav("out/offscreen.wav")];
  assert.is(kept.length, input.length);
  let worst = 0;
  for (let n = 0; n < input.length; n++) worst = Math.max(worst, Math.abs(input[n]! - kept[n]! - removed[n]!));
  assert.ok(worst <= 2, `differs by ${worst} of 32768`);
  assert.ok(
    removed.some((v) => Math.abs(v) > 30),
    "something was taken away",
  );
});

test("a native package that is missing is named, with its remedy, when it is needed and not before", () => {
  writeFileSync(
    join(project, "missing.mjs"),
    `import { openModel, separateTracks } from "sightline/webrtc";
import "sightline";
const model = await openModel();
try { separateTracks({ audio: {} }, { model }); } catch (e) { console.log(e.code + "; " + e.message); }
await model.close();`,
  );
  const text = run(process.execPath, "missing.mjs");
  assert.match(text, /^SL_NATIVE_MISSING; @roamhq\/wrtc is needed for .*npm install @roamhq\/wrtc/);
});

test.run();
