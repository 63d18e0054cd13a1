// Adds to package-lock.json the optional platform packages that a registry mirror without them left out when the lock was written:
// `npm ci` refuses a lock whose edges lead nowhere, even to packages for other systems. Run it after `npm install` adds a dependency:
//
//   node scripts/complete-lock.mjs [--check]
import { readFileSync, writeFileSync } from "node:fs";

const OS = ["android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "aix", "win32"];
const CPU = ["arm64", "armv7", "arm", "x64", "ia32", "riscv64", "ppc64", "s390x", "loong64", "mips64el", "wasm32"];

const text = readFileSync("package-lock.json", "utf8");
const lock = JSON.parse(text);
const missing = [];
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, wanted] of Object.entries(entry.optionalDependencies ?? {})) {
    const known = [`${path}/node_modules/${name}`, `node_modules/${name}`].some((at) => at.replace(/^\//, "") in lock.packages);
    if (known) continue;
    const version = /^\d+\.\d+\.\d+(?:-[\w.]+)?$/.exec(wanted)?.[0];
    if (version === undefined) throw new Error(`${name}@${wanted} of ${path} is not in the lock, and its exact version is not known`);
    const parts = name.split(/[-/]/);
    const os = OS.find((o) => parts.includes(o));
    const cpu = CPU.find((c) => parts.includes(c));
    const libc = parts.includes("musl") ? "musl" : parts.includes("gnu") ? "glibc" : undefined;
    if (os === undefined || cpu === undefined) throw new Error(`${name} is not in the lock, and its platform is not in its name`);
    missing.push(name);
    lock.packages[`node_modules/${name}`] = {
      version,
      cpu: cpu === "armv7" ? ["arm"] : [cpu],
      ...(entry.dev ? { dev: true } : {}),
      ...(libc ? { libc: [libc] } : {}),
      optional: true,
      os: [os],
    };
  }
}
if (missing.length > 0 && process.argv.includes("--check")) {
  console.error(`package-lock.json lacks ${missing.join(", ")}: run node scripts/complete-lock.mjs`);
  process.exitCode = 1;
} else if (missing.length > 0) {
  const { "": root, ...rest } = lock.packages;
  lock.packages = { "": root, ...Object.fromEntries(Object.entries(rest).sort(([a], [b]) => a.localeCompare(b, "en"))) };
  writeFileSync("package-lock.json", `${JSON.stringify(lock, null, 2)}\n`);
  console.log(`added ${missing.length}: ${missing.join(", ")}`);
}
