import type { IncomingMessage } from "node:http";
import { Problem } from "./problem.js";

const LOCAL = ["localhost", "127.0.0.1", "::1"];

/** Host name of a `Host` header or of an origin's authority, without port and brackets, in lower case; null when it is malformed. */
export function hostName(authority: string | undefined): string | null {
  const m = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/i.exec(authority ?? "");
  return (m?.[1] ?? m?.[2])?.toLowerCase() ?? null;
}

/**
 * Refuses what a strange web page could make a browser send. The `Host` must be one by which the operator opens the dashboard (else a name
 * that a stranger's DNS points at us would do), and an `Origin`, which browsers add to requests of pages, must be the very same host and port.
 * Programs send no `Origin` and need no more than the right `Host`.
 * @throws Problem 403
 */
export function checkSource(req: IncomingMessage, allowed: readonly string[]): void {
  const host = hostName(req.headers.host);
  if (host === null || ![...LOCAL, ...allowed.map((h) => h.toLowerCase())].includes(host)) {
    throw new Problem(
      403,
      "SL_HTTP_FORBIDDEN",
      "Host not allowed",
      host === null
        ? `the Host header ${JSON.stringify(String(req.headers.host ?? "").slice(0, 100))} cannot be read`
        : `the host ${JSON.stringify(host.slice(0, 100))} is not allowed; add it, so written, to httpHosts in the configuration`,
    );
  }
  const origin = req.headers.origin;
  if (origin === undefined) return;
  const authority = /^https?:\/\/([^/]+)$/i.exec(origin)?.[1];
  if (authority?.toLowerCase() !== req.headers.host?.toLowerCase()) {
    throw new Problem(
      403,
      "SL_HTTP_FORBIDDEN",
      "Origin not allowed",
      "pages of other origins may not use this address",
    );
  }
}
