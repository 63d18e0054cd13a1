import { PACKAGE_ROOT } from "../paths.js";
import { apt, type Check, lastLine, run } from "./check.js";
import { ELEMENTS } from "./elements.js";

export async function gstreamer(): Promise<Check[]> {
  const listing = await run("gst-inspect-1.0", []);
  if (listing.error !== null) {
    return [
      {
        area: "gstreamer",
        name: "gst-inspect-1.0",
        state: "missing",
        detail: listing.error,
        fix: apt("gstreamer1.0-tools"),
      },
    ];
  }
  const version = /GStreamer (\S+)/.exec((await run("gst-inspect-1.0", ["--version"])).out)?.[1] ?? "unknown";
  // One line an element: `plugin:  element: description`.
  const present = new Set([...listing.out.matchAll(/^\S+: {2}(\S+):/gm)].map((m) => m[1]));
  const checks: Check[] = [{ area: "gstreamer", name: "GStreamer", state: "ok", detail: version, fix: null }];
  for (const need of ELEMENTS) {
    const missing = need.elements.filter((e) => !present.has(e));
    const have = need.elements.filter((e) => present.has(e));
    const detail =
      missing.length === 0
        ? have.join(" ")
        : `missing: ${missing.join(" ")}${have.length > 0 ? `; present: ${have.join(" ")}` : ""}`;
    checks.push({
      area: "gstreamer",
      name: need.package,
      state: missing.length === 0 ? "ok" : need.needed ? "missing" : "warn",
      detail: `${detail} (${need.why})`,
      fix: missing.length === 0 ? null : apt(need.package),
    });
  }
  return checks;
}

/** Native code is tried in another process: a crash there is an answer, here it would be the end. */
export async function addon(): Promise<Check[]> {
  const script =
    'const { Pipeline } = require("gstreamer-superficial"); new Pipeline("fakesrc num-buffers=1 ! fakesink"); console.log("loads");';
  const { out, error } = await run(process.execPath, ["-e", script], PACKAGE_ROOT);
  const good = error === null && out.includes("loads");
  return [
    {
      area: "gstreamer",
      name: "gstreamer-superficial",
      state: good ? "ok" : "missing",
      detail: good ? "native addon loads" : `native addon does not load: ${lastLine(error ?? out)}`,
      fix: good
        ? null
        : `${apt("g++", "make", "python3", "pkg-config", "libgstreamer1.0-dev", "libgstreamer-plugins-base1.0-dev")} && npm install --no-save gstreamer-superficial`,
    },
  ];
}
