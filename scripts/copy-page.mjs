// Completes dist/src/dashboard/page, a folder of static files that is served as it is: the page's own HTML and CSS, the two libraries
// under vendor/, and the table of codes, which the page imports from ../../codes.js, at a web server's root the same as /codes.js.
import { copyFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const page = join(root, "dist", "src", "dashboard", "page");
const require = createRequire(import.meta.url);
const uplot = dirname(require.resolve("uplot"));

mkdirSync(join(page, "vendor"), { recursive: true });
for (const name of ["index.html", "style.css", "icon.svg"]) copyFileSync(join(root, "src", "dashboard", "page", name), join(page, name));
copyFileSync(join(root, "dist", "src", "codes.js"), join(page, "codes.js"));
copyFileSync(join(uplot, "uPlot.esm.js"), join(page, "vendor", "uPlot.esm.js"));
copyFileSync(join(uplot, "uPlot.min.css"), join(page, "vendor", "uPlot.min.css"));
copyFileSync(join(dirname(require.resolve("mpegts.js/package.json")), "dist", "mpegts.js"), join(page, "vendor", "mpegts.js"));
