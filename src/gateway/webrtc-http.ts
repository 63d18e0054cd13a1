import type { IncomingMessage, ServerResponse } from "node:http";
import type { Code } from "../codes.js";

/** HTTP manners of WHIP and WHEP (RFC 9725): CORS, bodies of bounded size, problems as RFC 9457. */

const CORS = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Allow-Methods": "POST, PATCH, DELETE, OPTIONS",
  // `*` does not stand for Authorization.
  "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
  "Access-Control-Expose-Headers": "Location, ETag, Link, Accept-Patch",
  "Access-Control-Max-Age": "86400",
} as const;

export const SDP = "application/sdp";
export const FRAGMENT = "application/trickle-ice-sdpfrag";

/** An answer that is an error. */
export class HttpProblem extends Error {
  override readonly name = "HttpProblem";
  constructor(
    readonly status: number,
    readonly code: Code,
    detail: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(detail);
  }
}

export function answer(
  response: ServerResponse,
  status: number,
  headers: Readonly<Record<string, string | readonly string[]>> = {},
  body = "",
): void {
  if (response.headersSent || response.destroyed) return;
  // Never a second request on a connection, as for players.
  response.shouldKeepAlive = false;
  response.writeHead(status, {
    ...CORS,
    "Cache-Control": "no-store",
    ...(status === 204 ? {} : { "Content-Length": Buffer.byteLength(body) }),
    ...(headers as Record<string, string | string[]>),
  });
  response.end(body);
}

export function answerProblem(request: IncomingMessage, response: ServerResponse, problem: HttpProblem): void {
  const { status, code, message, headers } = problem;
  const title = status === 500 ? "Internal fault" : (TITLES[status] ?? "Not possible");
  const body = { type: `urn:sightline:${code}`, title, status, detail: message, code, message };
  answer(response, status, { "Content-Type": "application/problem+json", ...headers }, JSON.stringify(body));
  // The rest of a refused body is not waited for.
  request.resume();
}

const TITLES: Record<number, string> = {
  400: "Not readable",
  401: "Not authorised",
  404: "Not there",
  405: "Method not allowed",
  409: "In use",
  412: "Out of date",
  413: "Content too large",
  415: "Unsupported content type",
  422: "Not supported",
  428: "If-Match needed",
  429: "Too many requests",
  503: "No room",
};

/** Reads a body of this type and bounded size. @throws HttpProblem 413, 415 or 400 */
export async function readBody(request: IncomingMessage, type: string, maxBytes: number): Promise<string> {
  const given = (request.headers["content-type"] ?? "").split(";", 1)[0]!.trim().toLowerCase();
  if (given !== type) throw new HttpProblem(415, "SL_HTTP_INVALID", `send ${type}`);
  const tooLarge = (): HttpProblem => new HttpProblem(413, "SL_HTTP_TOO_LARGE", `at most ${maxBytes} bytes`);
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) throw tooLarge();
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const part of request as AsyncIterable<Buffer>) {
      size += part.length;
      if (size > maxBytes) throw tooLarge();
      parts.push(part);
    }
  } catch (error) {
    if (error instanceof HttpProblem) throw error;
    throw new HttpProblem(400, "SL_HTTP_INVALID", "the body broke off");
  }
  return Buffer.concat(parts).toString("utf8");
}

/** The token of `Authorization: Bearer TOKEN`, else null. */
export function bearer(request: IncomingMessage): string | null {
  return /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? "")?.[1] ?? null;
}

/** Link headers for clients that need ICE servers (RFC 9725, 4.6). @param servers `stun:HOST:PORT`, `turn:USER:PASSWORD@HOST:PORT` */
export function iceServerLinks(servers: readonly string[]): string[] {
  return servers.map((server) => {
    const parts = /^(turns?):([^:@]+):([^@]+)@(.+)$/.exec(server);
    if (parts === null) return `<${server}>; rel="ice-server"`;
    const [, scheme, user, password, rest] = parts;
    return `<${scheme}:${rest}>; rel="ice-server"; username="${user}"; credential="${password}"; credential-type="password"`;
  });
}
