import { readFile, realpath, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join, sep } from "node:path";
import { contentSecurityPolicy } from "../../dashboard/api.js";
import { Problem, send } from "./problem.js";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
  ".json": "application/json; charset=utf-8",
  ".map": "application/json; charset=utf-8",
};
const MAX_FILE_BYTES = 8 * 1024 * 1024;

/** Path of an address' file, or null. Only plain names: no dot files, no `..`, no empty parts, nothing percent-encoded. */
export function safePath(path: string): string | null {
  if (path === "/") return "index.html";
  if (!/^(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$/.test(path) || path.length > 200) return null;
  return path.slice(1);
}

/** Serves the built dashboard. @throws Problem 404 */
export async function serveFile(
  req: IncomingMessage,
  res: ServerResponse,
  path: string,
  folder: string,
  mediaPort: number | null,
): Promise<void> {
  const missing = new Problem(404, "SL_HTTP_NOT_FOUND", "Not found", "nothing is at this address");
  const relative = safePath(path);
  const type = relative === null ? undefined : TYPES[extname(relative)];
  if (relative === null || type === undefined) throw missing;
  let body: Buffer;
  let tag: string;
  try {
    const file = await inside(folder, relative);
    const info = await stat(file);
    if (!info.isFile() || info.size > MAX_FILE_BYTES) throw missing;
    tag = `"${info.size.toString(36)}-${Math.round(info.mtimeMs).toString(36)}"`;
    if (req.headers["if-none-match"] === tag) {
      res.writeHead(304, { ETag: tag, "Cache-Control": "no-cache" }).end();
      return;
    }
    body = await readFile(file);
  } catch {
    throw missing;
  }
  send(req, res, 200, type, body, {
    ETag: tag,
    "Cache-Control": "no-cache",
    "Content-Security-Policy": contentSecurityPolicy(mediaPort),
  });
}

/** The real file, which must lie in the real folder: a symbolic link does not lead out. */
async function inside(folder: string, relative: string): Promise<string> {
  const root = await realpath(folder);
  const file = await realpath(join(root, relative));
  if (!file.startsWith(root + sep)) throw new Error("outside");
  return file;
}
