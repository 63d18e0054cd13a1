import { inspect } from "node:util";

export const REDACTED = "[redacted]";

/**
 * A text that must not be seen: JSON, logs, template strings and inspect show `[redacted]` (or, for addresses, the harmless part).
 * The one way to the text is `reveal()`, so that a search for it finds every place where a secret leaves.
 */
export class Secret {
  readonly #text: string;
  readonly #shown: string;

  constructor(text: string, shown: string = REDACTED) {
    this.#text = text;
    this.#shown = shown;
  }

  /** A secret whose scheme, host and first path part may be shown. */
  static uri(text: string): Secret {
    return new Secret(text, redactUri(text));
  }

  reveal(): string {
    return this.#text;
  }

  equals(other: Secret): boolean {
    return this.#text === other.#text;
  }

  toString(): string {
    return this.#shown;
  }

  toJSON(): string {
    return this.#shown;
  }

  [inspect.custom](): string {
    return this.#shown;
  }
}

/**
 * Address without what may be secret: user, password, query values (SRT pass phrases and stream ids) and, for RTMP, all of the
 * path after the application (the stream key). Text without a scheme is returned as it is when it is a known word, else hidden.
 */
export function redactUri(text: string): string {
  if (text === "publish" || text === "gateway") return text;
  const m = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)/i.exec(text);
  if (!m) return REDACTED;
  const scheme = m[1]!.toLowerCase();
  const authority = m[2]!;
  const at = authority.lastIndexOf("@");
  const host = at < 0 ? authority : authority.slice(at + 1);
  if (scheme === "file") return `file://${host}${m[3]}`;
  const first = /^\/[^/]*/.exec(m[3]!)?.[0] ?? "";
  const hidden = m[3]!.length > first.length && m[3] !== `${first}/`;
  return `${scheme}://${host}${first}${hidden ? `/${REDACTED}` : ""}${text.includes("?") ? `?${REDACTED}` : ""}`;
}
