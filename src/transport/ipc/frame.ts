/**
 * Framing of the Unix sockets: u32 BE length of the rest | u16 BE length of the header | header (UTF-8 JSON) | payload (raw bytes).
 * A frame longer than MAX_FRAME_BYTES, a header that is not a JSON object, or a header longer than its frame is an error:
 * the connection must be closed, since the position in the stream is lost.
 */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;

export type Frame<H> = { readonly header: H; readonly payload: Buffer };

export class FrameError extends Error {
  readonly code = "SL_IPC_MALFORMED";
  override readonly name = "FrameError";
}

export function encodeFrame(header: object, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const head = Buffer.from(JSON.stringify(header), "utf8");
  const rest = 2 + head.length + payload.length;
  if (head.length > 0xffff || rest > MAX_FRAME_BYTES) {
    throw new FrameError(
      `a frame of ${rest} bytes with a header of ${head.length} is over the limits (${MAX_FRAME_BYTES}, 65535)`,
    );
  }
  const out = Buffer.allocUnsafe(4 + rest);
  out.writeUInt32BE(rest, 0);
  out.writeUInt16BE(head.length, 4);
  out.set(head, 6);
  out.set(payload, 6 + head.length);
  return out;
}

/** Cuts a byte stream into frames. Keeps at most one unfinished frame; pieces are joined once, when the frame is complete. */
export class FrameReader<H> {
  #parts: Buffer[] = [];
  #size = 0;

  /** @throws FrameError when the stream is malformed; the reader must not be used afterwards. */
  push(chunk: Buffer): Frame<H>[] {
    this.#parts.push(chunk);
    this.#size += chunk.length;
    const out: Frame<H>[] = [];
    while (this.#size >= 4) {
      const rest = this.#peekLength();
      if (rest < 2 || rest > MAX_FRAME_BYTES)
        throw new FrameError(`frame length ${rest} is outside 2..${MAX_FRAME_BYTES}`);
      if (this.#size < 4 + rest) break;
      const all = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts, this.#size);
      out.push(parse<H>(all.subarray(4, 4 + rest)));
      const left = all.subarray(4 + rest);
      this.#parts = left.length > 0 ? [left] : [];
      this.#size = left.length;
    }
    return out;
  }

  #peekLength(): number {
    if (this.#parts[0]!.length < 4) this.#parts = [Buffer.concat(this.#parts, this.#size)];
    return this.#parts[0]!.readUInt32BE(0);
  }
}

function parse<H>(body: Buffer): Frame<H> {
  const n = body.readUInt16BE(0);
  if (2 + n > body.length) throw new FrameError(`header of ${n} bytes in a frame of ${body.length}`);
  let header: unknown;
  try {
    header = JSON.parse(body.toString("utf8", 2, 2 + n));
  } catch {
    throw new FrameError("header is not JSON");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header))
    throw new FrameError("header is not a JSON object");
  return { header: header as H, payload: body.subarray(2 + n) };
}
