import type { IncomingMessage, ServerResponse } from "node:http";
import type { Code } from "../../codes.js";

/** An answer that is an error, as RFC 9457 (problem details) wants it; `code` is ours. */
export class Problem extends Error {
  override readonly name = "Problem";
  constructor(
    readonly status: number,
    readonly code: Code,
    readonly title: string,
    readonly detail: string,
    readonly extra: {
      readonly errors?: readonly { path: string; message: string }[];
      readonly headers?: Readonly<Record<string, string>>;
    } = {},
  ) {
    super(detail);
  }
}

/** What every answer carries; the page's own policy is added in files.ts. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Resource-Policy": "same-origin",
};

export function send(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  type: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): void {
  res.writeHead(status, {
    ...SECURITY_HEADERS,
    "Content-Type": type,
    "Content-Length": Buffer.byteLength(body),
    "Cache-Control": "no-store",
    ...headers,
  });
  res.end(req.method === "HEAD" ? undefined : body);
}

export function sendJson(req: IncomingMessage, res: ServerResponse, status: number, value: unknown): void {
  send(req, res, status, "application/json; charset=utf-8", JSON.stringify(value));
}

export function sendProblem(req: IncomingMessage, res: ServerResponse, problem: Problem): void {
  const { status, code, title, detail, extra } = problem;
  const body = {
    type: `urn:sightline:${code}`,
    title,
    status,
    detail,
    code,
    message: detail,
    instance: req.url,
    ...(extra.errors ? { errors: extra.errors } : {}),
  };
  // The rest of a refused body is not read: the connection cannot be used again.
  send(req, res, status, "application/problem+json", JSON.stringify(body), {
    ...extra.headers,
    ...(req.complete ? {} : { Connection: "close" }),
  });
}

/** Reads a JSON body of bounded size. @throws Problem 413, 415 or 400 */
export async function readJson(req: IncomingMessage, maxBytes: number): Promise<unknown> {
  const type = req.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json" && type !== "application/merge-patch+json") {
    throw new Problem(415, "SL_HTTP_INVALID", "Unsupported content type", "send application/json");
  }
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of req as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > maxBytes) throw new Problem(413, "SL_HTTP_TOO_LARGE", "Content too large", `at most ${maxBytes} bytes`);
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString("utf8")) as unknown;
  } catch (error) {
    throw new Problem(400, "SL_HTTP_INVALID", "Not JSON", (error as Error).message);
  }
}
