import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Gateway } from "../../src/gateway/gateway.js";
import type { Limits } from "../../src/gateway/limits.js";
import { EcmaArray } from "../../src/transport/amf/amf0.js";
import { aacFrameTag, aacSequenceTag } from "../../src/transport/flv/audio.js";
import { scriptTag } from "../../src/transport/flv/script.js";
import { FlvReader, type FlvTag } from "../../src/transport/flv/tag.js";
import { avcFrameTag, avcSequenceTag } from "../../src/transport/flv/video.js";
import { encodeFrame, FrameReader } from "../../src/transport/ipc/frame.js";
import type { ChannelToGateway, GatewayToChannel } from "../../src/transport/ipc/messages.js";
import { type Answer, AnswerReader, commands, media, opening } from "../transport/rtmp-client.js";

/** No wait in a test may be longer than this. */
const PATIENCE_MS = 20_000;

export async function within<T>(promise: Promise<T>, what: string, ms = PATIENCE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls until `test` gives something. */
export async function until<T>(what: string, test: () => T | false | null | undefined, ms = PATIENCE_MS): Promise<T> {
  const end = performance.now() + ms;
  for (;;) {
    const value = test();
    if (value) return value;
    if (performance.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

export const HEADERS: readonly FlvTag[] = [
  scriptTag("onMetaData", 0, new EcmaArray({ width: 16, height: 16 })),
  avcSequenceTag(Buffer.from("0142c00affe1", "hex"), 0),
  aacSequenceTag(Buffer.from("1190", "hex"), 0),
];

/** A picture whose number can be read back from its body. */
export function picture(n: number, key: boolean, bytes = 16, timestampMs = n * 40): FlvTag {
  const unit = Buffer.alloc(Math.max(4, bytes - 5));
  unit.writeUInt32BE(n);
  return avcFrameTag(unit, key, timestampMs, 0);
}

export function sound(n: number, timestampMs = n * 40): FlvTag {
  return aacFrameTag(Buffer.of(0x21, n & 255), timestampMs);
}

/** Short names of tags: `M` metadata, `V` `A` sequence headers, `K3` key picture 3, `p4` picture, `s` sound, `x` other. */
export function names(tags: readonly FlvTag[]): string {
  return tags
    .map((tag) => {
      if (tag.type === 18) return tag.body.includes("onMetaData") ? "M" : "x";
      if (tag.type === 8) return tag.body[1] === 0 ? "A" : "s";
      if (tag.body[1] === 0) return "V";
      return `${tag.body[0] === 0x17 ? "K" : "p"}${tag.body.readUInt32BE(5)}`;
    })
    .join(" ");
}

/** Closes what a test opened, also when it fails, newest first. */
export class Scope {
  #closers: (() => unknown)[] = [];

  add<T>(thing: T, close: (thing: T) => unknown): T {
    this.#closers.push(() => close(thing));
    return thing;
  }

  async close(): Promise<void> {
    for (const close of this.#closers.reverse()) await close();
  }
}

export async function inScope(body: (scope: Scope) => Promise<void>): Promise<void> {
  const scope = new Scope();
  try {
    await within(body(scope), "the test", 60_000);
  } finally {
    await scope.close();
  }
}

export type Running = {
  gateway: Gateway;
  rtmpPort: number;
  mediaPort: number;
  socket: string;
  dir: string;
  counter: (name: string) => number;
};

/** A gateway on free ports with the channels `one` (key `KEY`) and `two` (key `KEY2`). */
export async function openGateway(scope: Scope, limits: Partial<Limits> = {}): Promise<Running> {
  const dir = scope.add(await mkdtemp(join(tmpdir(), "sightline-gateway-")), (d) =>
    rm(d, { recursive: true, force: true }),
  );
  const socket = join(dir, "gateway.sock");
  const gateway = scope.add(new Gateway(() => {}, limits), (g) => g.close());
  const host = { host: "127.0.0.1", port: 0 };
  const streamKeys = { KEY: "one", KEY2: "two" };
  const ports = await gateway.listen({ socket, rtmp: host, media: host, streamKeys, channels: ["one", "two"] });
  return { gateway, ...ports, socket, dir, counter: (name) => gateway.status().counters[name]! };
}

export function openSocket(scope: Scope, where: { port: number; host: string } | { path: string }): Socket {
  const socket = scope.add(connect(where), (s) => s.destroy());
  socket.on("error", () => {});
  return socket;
}

/** A raw RTMP client: collects the answers. */
export class RtmpClient {
  readonly answers: Answer[] = [];
  closed = false;
  readonly socket: Socket;
  #reader = new AnswerReader();

  constructor(scope: Scope, port: number) {
    this.socket = openSocket(scope, { port, host: "127.0.0.1" });
    this.socket.on("data", (data) => this.answers.push(...this.#reader.push(data)));
    this.socket.on("close", () => {
      this.closed = true;
    });
  }

  send(...parts: Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  get tags(): FlvTag[] {
    return this.answers.flatMap(({ type, timestamp, payload }) =>
      type === 8 || type === 9 || type === 18 ? [{ type, timestampMs: timestamp, body: payload }] : [],
    );
  }
}

/** A channel process' end of the Unix socket. */
export class ChannelClient {
  readonly messages: GatewayToChannel[] = [];
  readonly tags: FlvTag[] = [];
  closed = false;
  readonly socket: Socket;
  #reader = new FrameReader<GatewayToChannel>();

  constructor(scope: Scope, path: string) {
    this.socket = openSocket(scope, { path });
    this.socket.on("data", (data) => {
      for (const { header, payload } of this.#reader.push(data)) {
        if (header.t === "tag")
          this.tags.push({ type: header.tagType, timestampMs: header.timestampMs, body: payload });
        else this.messages.push(header);
      }
    });
    this.socket.on("close", () => {
      this.closed = true;
    });
  }

  send(message: ChannelToGateway, payload?: Buffer): void {
    this.socket.write(encodeFrame(message, payload));
  }

  out(tag: FlvTag): void {
    this.send({ t: "out", tagType: tag.type, timestampMs: tag.timestampMs }, tag.body);
  }

  /** `live`, `gone`, `refused CODE` in order. */
  get story(): string[] {
    return this.messages.map((m) => (m.t === "publisher" ? m.state : m.t === "refused" ? `refused ${m.code}` : m.t));
  }
}

/** An HTTP-FLV player: its tags as they come. */
export async function playHttp(
  scope: Scope,
  url: string,
): Promise<{ tags: FlvTag[]; state: { ended: boolean }; response: Response }> {
  const abort = scope.add(new AbortController(), (a) => a.abort());
  const response = await within(fetch(url, { signal: abort.signal }), url);
  const reader = new FlvReader();
  const tags: FlvTag[] = [];
  const state = { ended: false };
  const read = async () => {
    for await (const chunk of response.body!) tags.push(...reader.push(Buffer.from(chunk as Uint8Array)));
    state.ended = true;
  };
  read().catch(() => {});
  return { tags, state, response };
}

export type Run = { readonly child: ChildProcess; readonly done: Promise<{ code: number | null; text: string }> };

/** Starts a program with a time limit; its output is kept (bounded) for messages of failing tests. */
export function start(scope: Scope, program: string, args: readonly string[], seconds = 40): Run {
  const child = spawn("timeout", ["-s", "KILL", String(seconds), program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  const keep = (data: Buffer) => {
    text = (text + data.toString("latin1")).slice(-20_000);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const done = new Promise<{ code: number | null; text: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, text }));
  });
  // SIGTERM: `timeout` passes it on to the program, SIGKILL would leave the program alone.
  scope.add(child, async () => {
    if (child.exitCode === null) child.kill("SIGTERM");
    await done;
  });
  return { child, done };
}

/** A publisher that was let in and has sent the headers. */
export async function publish(scope: Scope, running: Running, key = "KEY"): Promise<RtmpClient> {
  const client = new RtmpClient(scope, running.rtmpPort);
  client.send(opening("publish", "live", key));
  await until("the publisher to be let in", () =>
    commands(client.answers).includes("onStatus NetStream.Publish.Start"),
  );
  client.send(...HEADERS.map((tag) => media(tag)));
  return client;
}

/** A channel process that has heard who publishes. */
export async function attach(scope: Scope, running: Running, channel = "one"): Promise<ChannelClient> {
  const link = new ChannelClient(scope, running.socket);
  link.send({ t: "attach", channel });
  await until("the state of the publisher", () => link.messages.length > 0);
  return link;
}

/** As the publisher or player of an RTMP connection. */
export const send = (client: RtmpClient, ...tags: FlvTag[]) => client.send(...tags.map((tag) => media(tag)));
