import type { Readable } from "node:stream";

/** Longest line that is kept; the rest of it is cut off. Characters. */
export const MAX_LINE_CHARS = 4096;

/** Cuts a text stream into lines; keeps at most one unfinished line of bounded length. */
export class LineSplitter {
  #rest = "";
  #cutting = false;

  push(chunk: string): string[] {
    const out: string[] = [];
    let from = 0;
    for (let at = chunk.indexOf("\n"); at >= 0; at = chunk.indexOf("\n", from)) {
      this.#append(chunk.slice(from, at));
      this.#finish(out);
      from = at + 1;
    }
    this.#append(chunk.slice(from));
    return out;
  }

  /** The unfinished last line, if there is one. */
  end(): string[] {
    const out: string[] = [];
    this.#finish(out);
    return out;
  }

  #append(piece: string): void {
    if (this.#cutting) return;
    const room = MAX_LINE_CHARS - this.#rest.length;
    this.#rest += piece.length > room ? piece.slice(0, room) : piece;
    this.#cutting = piece.length > room;
  }

  #finish(out: string[]): void {
    const line = this.#cutting ? `${this.#rest}...` : this.#rest.replace(/\r$/, "");
    this.#rest = "";
    this.#cutting = false;
    if (line.trim() !== "") out.push(line);
  }
}

/**
 * Hands the lines of a child's output to `onLine`, at most `maxPerSecond` of them; how many were left out is said in the next second
 * in which one passes. A child that prints without end costs us neither memory nor a full disk.
 */
export function forwardLines(
  stream: Readable,
  onLine: (line: string, leftOut: number) => void,
  maxPerSecond = 100,
): void {
  const splitter = new LineSplitter();
  let second = 0;
  let passed = 0;
  let leftOut = 0;
  const emit = (lines: string[]): void => {
    for (const line of lines) {
      const now = Math.floor(performance.now() / 1000);
      if (now !== second) {
        second = now;
        passed = 0;
      }
      if (passed >= maxPerSecond) {
        leftOut++;
        continue;
      }
      passed++;
      onLine(line, leftOut);
      leftOut = 0;
    }
  };
  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => emit(splitter.push(chunk)));
  stream.on("end", () => emit(splitter.end()));
  stream.on("error", () => {
    // The child is gone in the middle of a line: its exit is reported elsewhere.
  });
}
