import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Longest path of a Unix socket (sun_path is 108 bytes with its NUL). */
const MAX_SOCKET_PATH = 107;
const LONGEST_SOCKET_NAME = "inference-99.sock".length;

/** A private folder (mode 0700) for the sockets between our processes. */
export class SocketFolder {
  readonly path: string;

  constructor() {
    const parent =
      Buffer.byteLength(tmpdir()) + "/sightline-XXXXXX/".length + LONGEST_SOCKET_NAME <= MAX_SOCKET_PATH
        ? tmpdir()
        : "/tmp";
    this.path = mkdtempSync(join(parent, "sightline-"));
  }

  /** A path in the folder; what a killed process left there is removed. */
  socket(name: string): string {
    const path = join(this.path, `${name}.sock`);
    rmSync(path, { force: true });
    return path;
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
