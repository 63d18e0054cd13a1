import { createHash } from "node:crypto";
import { type ClientRequest, get } from "node:http";
import { aacSequenceTag, readAudio } from "../../src/transport/flv/audio.js";
import { readScript } from "../../src/transport/flv/script.js";
import { FlvReader, type FlvTag, flvHeader, flvTag, flvTagParts, PICTURE, SOUND } from "../../src/transport/flv/tag.js";
import { avcSequenceTag, readVideo } from "../../src/transport/flv/video.js";
import { type Row, row } from "./numbers.js";

/** `arrivedMs`: performance.now() of this process, the same clock for every taker. */
export type TakenPicture = {
  readonly arrivedMs: number;
  readonly dtsMs: number;
  readonly ptsMs: number;
  readonly key: boolean;
  /** Of the access unit's bytes as they lie in the tag. */
  readonly hash: string;
};
export type TakenSound = { readonly arrivedMs: number; readonly ptsMs: number; readonly data: Buffer };
export type TakenNote = { readonly arrivedMs: number; readonly ptsMs: number; readonly value: Record<string, unknown> };

const hashed = (data: Buffer): string => createHash("md5").update(data).digest("base64");

/** The hash of the access unit in a tag, null when there is none: the same as in `TakenPicture`. */
export function hashOf(tag: FlvTag): string | null {
  if (tag.type !== PICTURE) return null;
  const packet = readVideo(tag.body);
  return packet.kind === "frame" ? hashed(packet.data) : null;
}

/** A player over HTTP-FLV which notes when what came. Keeps sound whole and of pictures only hash and times. */
export class Taker {
  readonly pictures: TakenPicture[] = [];
  readonly sounds: TakenSound[] = [];
  readonly notes: TakenNote[] = [];
  /** Sequence headers in the order they came, both kinds. */
  readonly avcConfigs: Buffer[] = [];
  readonly aacConfigs: Buffer[] = [];
  /** Connections that ended, and why. */
  readonly ends: { readonly atMs: number; readonly why: string }[] = [];
  #request: ClientRequest | null = null;
  #closed = false;
  #recording: Buffer[] | null = null;

  private constructor(private readonly url: string) {}

  /** Resolves when the server has answered 200. @throws Error for another status */
  static async open(url: string): Promise<Taker> {
    const taker = new Taker(url);
    await taker.#connect();
    return taker;
  }

  /** Like `open`, but comes back whenever the connection ends, as a player would. */
  static openForEver(url: string, everyMs = 100): Taker {
    const taker = new Taker(url);
    const again = (): void => {
      if (taker.#closed) return;
      taker.#connect(again).catch(() => setTimeout(again, everyMs));
    };
    again();
    return taker;
  }

  #connect(onEnd?: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const request = get(this.url, { agent: false }, (response) => {
        if (response.statusCode !== 200) {
          request.destroy();
          reject(new Error(`${this.url}: HTTP ${response.statusCode}`));
          return;
        }
        resolve();
        const reader = new FlvReader();
        response.on("data", (chunk: Buffer) => {
          const now = performance.now();
          for (const tag of reader.push(chunk)) this.#take(tag, now);
        });
        let over = false;
        const end = (why: string) => () => {
          if (over) return;
          over = true;
          this.ends.push({ atMs: performance.now(), why });
          onEnd?.();
        };
        response.on("end", end("end"));
        response.on("error", end("error"));
        response.on("close", end("close"));
      });
      this.#request = request;
      request.on("error", reject);
      request.on("socket", (socket) => socket.setNoDelay(true));
    });
  }

  #take(tag: FlvTag, arrivedMs: number): void {
    this.#recording?.push(...flvTagParts(tag));
    if (tag.type === PICTURE) {
      const packet = readVideo(tag.body);
      if (packet.kind === "sequence") this.avcConfigs.push(packet.avcC);
      if (packet.kind !== "frame") return;
      const hash = hashed(packet.data);
      const { key, ctsMs } = packet;
      this.pictures.push({ arrivedMs, dtsMs: tag.timestampMs, ptsMs: tag.timestampMs + ctsMs, key, hash });
    } else if (tag.type === SOUND) {
      const packet = readAudio(tag.body);
      if (packet.kind === "sequence") this.aacConfigs.push(packet.config);
      if (packet.kind === "frame") this.sounds.push({ arrivedMs, ptsMs: tag.timestampMs, data: packet.data });
    } else {
      const { name, values } = readScript(tag.body);
      const value = values[0];
      if (name === "onHighlight" && typeof value === "object" && value !== null)
        this.notes.push({ arrivedMs, ptsMs: tag.timestampMs, value: value as unknown as Record<string, unknown> });
    }
  }

  /** From now on, whole tags are kept; `stopRecording` gives them as an FLV file. */
  startRecording(): void {
    const atMs = this.pictures.at(-1)?.dtsMs ?? 0;
    const heads = [
      ...this.avcConfigs.slice(-1).map((c) => avcSequenceTag(c, atMs)),
      ...this.aacConfigs.slice(-1).map((c) => aacSequenceTag(c, atMs)),
    ];
    this.#recording = [flvHeader(), ...heads.map(flvTag)];
  }

  stopRecording(): Buffer {
    const parts = this.#recording ?? [];
    this.#recording = null;
    return Buffer.concat(parts);
  }

  close(): void {
    this.#closed = true;
    this.#request?.destroy();
  }
}

export type VideoComparison = {
  /** Pictures that were compared: from the first one that came out to the last one that could have. */
  readonly compared: number;
  readonly lost: number;
  /** Came out, but never went in like that. */
  readonly changed: number;
  /** Arrival at the output minus arrival at the input, milliseconds, in order. */
  readonly addedMs: readonly number[];
  /** PTS at the output minus PTS at the input, milliseconds. */
  readonly ptsShiftMs: readonly number[];
  /** For each output picture that was found: its index at the input and at the output. */
  readonly pairs: readonly { readonly at: number; readonly out: number }[];
};

/** Follows the output through the input, picture by picture. A clip in a loop repeats its pictures; order and arrival tell them apart. */
export function compareVideo(input: readonly TakenPicture[], output: readonly TakenPicture[]): VideoComparison {
  const pairs: { at: number; out: number }[] = [];
  let next = -1;
  let lost = 0;
  let changed = 0;
  /** A whole round of the clip may be missing; beyond it a match could be another round's. */
  const REACH = 600;
  output.forEach((picture, out) => {
    let at = -1;
    if (next < 0) {
      for (let i = 0; i < input.length && input[i]!.arrivedMs < picture.arrivedMs; i++)
        if (input[i]!.hash === picture.hash) at = i;
    } else {
      const end = Math.min(input.length, next + REACH);
      for (let i = next; i < end && at < 0; i++) if (input[i]!.hash === picture.hash) at = i;
    }
    if (at < 0) {
      changed++;
      return;
    }
    if (next >= 0) lost += at - next;
    next = at + 1;
    pairs.push({ at, out });
  });
  return {
    compared: pairs.length + lost,
    lost,
    changed,
    addedMs: pairs.map(({ at, out }) => output[out]!.arrivedMs - input[at]!.arrivedMs),
    ptsShiftMs: pairs.map(({ at, out }) => output[out]!.ptsMs - input[at]!.ptsMs),
    pairs,
  };
}

/** Distances between timestamps of following AAC frames that are not 21 or 22 ms (1024 samples at 48 kHz). */
export function oddSteps(sounds: readonly TakenSound[]): number[] {
  const odd: number[] = [];
  for (let i = 1; i < sounds.length; i++) {
    const step = sounds[i]!.ptsMs - sounds[i - 1]!.ptsMs;
    if (step < 21 || step > 22) odd.push(step);
  }
  return odd;
}

/** The promise that no AAC frame is missing or too much, as a row of a table. */
export function stepsRow(sounds: readonly TakenSound[]): Row {
  const odd = oddSteps(sounds).length;
  return row("AAC steps other than 21 or 22 ms", `${odd}`, "0", odd === 0);
}
