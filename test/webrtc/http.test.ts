import { readdirSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { RtpHeader, RtpPacket } from "werift";
import { packetize } from "../../src/transport/webrtc/h264-packetizer.js";
import { MAX_SDP_BYTES } from "../../src/transport/webrtc/sdp.js";
import { inScope, openGateway, until } from "../gateway/support.js";
import { mutate, random } from "../transport/fuzz.js";
import { BROWSER_OFFER } from "./offer.js";
import { attach, base, FRAGMENT, PLAY_OFFER, PPS, problem, publisher, SPS, send, viewer } from "./sessions.js";
import { post } from "./support.js";

const test = suite("WHIP and WHEP over HTTP");

test("OPTIONS, methods that are not, and paths that are nothing", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    for (const path of ["/whip", "/whip/KEY", "/whep/one"]) {
      const options = await send(base(running) + path, "OPTIONS", null, { Origin: "https://elsewhere.example" });
      assert.is(options.status, 204);
      assert.is(options.headers.get("access-control-allow-origin"), "*");
      assert.match(options.headers.get("access-control-allow-headers")!, "Authorization");
      assert.match(options.headers.get("access-control-allow-methods")!, "PATCH");
      assert.is(options.headers.get("accept-post"), "application/sdp");
      for (const method of ["GET", "PUT", "DELETE", "PATCH"]) {
        const answer = await send(base(running) + path, method, null, {});
        assert.is(answer.headers.get("allow"), "POST, OPTIONS");
        assert.equal(await problem(answer), [405, "SL_HTTP_METHOD"]);
      }
    }
    const session = `${base(running)}/webrtc/${"a".repeat(22)}`;
    assert.equal(await problem(await send(session, "DELETE", null, {})), [404, "SL_SESSION_UNKNOWN"]);
    assert.is((await fetch(`${base(running)}/whipx/KEY`)).status, 404);
    assert.is(running.gateway.sessions, 0);
  }));

test("what cannot be taken is refused with its status and code, and frees everything", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const whip = `${base(running)}/whip/KEY`;
    const sdp = { "Content-Type": "application/sdp" };
    const cases: [string, string | null, Record<string, string>, number, string][] = [
      [`${base(running)}/whip`, BROWSER_OFFER, sdp, 401, "SL_KEY_UNKNOWN"],
      [`${base(running)}/whip/WRONG`, BROWSER_OFFER, sdp, 401, "SL_KEY_UNKNOWN"],
      [whip, BROWSER_OFFER, { ...sdp, Authorization: "Bearer WRONG" }, 401, "SL_KEY_UNKNOWN"],
      [whip, BROWSER_OFFER, { "Content-Type": "application/json" }, 415, "SL_HTTP_INVALID"],
      [whip, `${BROWSER_OFFER}${"a=x:y\r\n".repeat(MAX_SDP_BYTES / 7)}`, sdp, 413, "SL_HTTP_TOO_LARGE"],
      [whip, "hello", sdp, 400, "SL_WEBRTC_SDP_MALFORMED"],
      [whip, BROWSER_OFFER.replace(/H264|VP8/g, "VP9"), sdp, 422, "SL_VIDEO_CODEC_UNSUPPORTED"],
      [whip, BROWSER_OFFER.replaceAll("opus/48000/2", "G722/8000"), sdp, 422, "SL_AUDIO_CODEC_UNSUPPORTED"],
      [whip, PLAY_OFFER, sdp, 422, "SL_WEBRTC_SDP_UNSUPPORTED"],
      [`${base(running)}/whep/none`, PLAY_OFFER, sdp, 404, "SL_STREAM_UNKNOWN"],
      [`${base(running)}/whep/one?stem=other`, PLAY_OFFER, sdp, 400, "SL_HTTP_INVALID"],
    ];
    for (const [url, body, headers, status, code] of cases)
      assert.equal(await problem(await send(url, "POST", body, headers)), [status, code], `${url} ${code}`);
    assert.is((await send(`${base(running)}/whip`, "POST", "", sdp)).headers.get("www-authenticate"), "Bearer");
    assert.is(running.gateway.sessions, 0);
    assert.equal(running.gateway.status().publishers, []);
    assert.is(running.counter("gateway_faults_total"), 0);
  }));

test("a session: 201 with all headers, a second publisher 409, RTMP's rule; DELETE frees", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const first = await post(`${base(running)}/whip`, BROWSER_OFFER, { Authorization: "Bearer KEY" });
    assert.is(first.response.status, 201);
    assert.is(first.response.headers.get("content-type"), "application/sdp");
    assert.match(new URL(first.location).pathname, /^\/webrtc\/[\w-]{22}$/);
    assert.match(first.etag, /^"[0-9a-f]{16}"$/);
    assert.match(first.response.headers.get("access-control-expose-headers")!, "Location");
    assert.match(first.sdp, "a=ice-lite");
    assert.match(first.sdp, "useinbandfec=1");
    const second = await send(`${base(running)}/whip/KEY`, "POST", BROWSER_OFFER, {
      "Content-Type": "application/sdp",
    });
    assert.equal(await problem(second), [409, "SL_KEY_IN_USE"]);
    assert.equal(running.gateway.status().publishers.length, 1);
    const gone = await send(first.location, "DELETE", null, {});
    assert.is(gone.status, 200);
    assert.equal([running.gateway.sessions, running.gateway.status().publishers.length], [0, 0]);
    assert.equal(await problem(await send(first.location, "DELETE", null, {})), [404, "SL_SESSION_UNKNOWN"]);
    assert.is((await post(`${base(running)}/whip/KEY`, BROWSER_OFFER)).response.status, 201);
    await until("the channel's story", () => link.story.length >= 4);
    assert.equal(link.story, ["gone", "live", "refused SL_KEY_IN_USE", "gone", "live"].slice(0, link.story.length));
  }));

test("PATCH: trickle, stale ETag, missing If-Match, an ICE restart on the running connection", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const client = await publisher(scope, running);
    const { location, etag } = client.session!;
    const patch = (body: string, headers: Record<string, string>) =>
      send(location, "PATCH", body, { ...FRAGMENT, ...headers });
    const trickle = "a=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host\r\na=end-of-candidates\r\n";
    assert.is((await patch(trickle, { "If-Match": etag })).status, 204);
    assert.equal(await problem(await patch(trickle, {})), [428, "SL_SESSION_STALE"]);
    assert.equal(await problem(await patch(trickle, { "If-Match": '"old"' })), [412, "SL_SESSION_STALE"]);
    assert.equal(await problem(await patch("?", { "If-Match": etag })), [400, "SL_WEBRTC_SDP_MALFORMED"]);
    const noType = await send(location, "PATCH", trickle, { "Content-Type": "text/plain", "If-Match": etag });
    assert.equal(await problem(noType), [415, "SL_HTTP_INVALID"]);

    client.pc.restartIce();
    await client.pc.setLocalDescription(await client.pc.createOffer({ iceRestart: true }));
    const offered = client.pc.localDescription!.sdp;
    const own = (name: string): string => new RegExp(`a=${name}:(\\S+)`).exec(offered)![1]!;
    const frag = `a=ice-ufrag:${own("ice-ufrag")}\r\na=ice-pwd:${own("ice-pwd")}\r\n`;
    const restarted = await patch(frag, { "If-Match": "*" });
    const body = await restarted.text();
    assert.is(restarted.status, 200, body);
    const fresh = restarted.headers.get("etag")!;
    assert.is.not(fresh, etag);
    const theirs = (name: string): string => new RegExp(`a=${name}:(\\S+)`).exec(body)![1]!;
    const answer = client
      .session!.sdp.replace(/a=ice-ufrag:\S+/g, `a=ice-ufrag:${theirs("ice-ufrag")}`)
      .replace(/a=ice-pwd:\S+/g, `a=ice-pwd:${theirs("ice-pwd")}`);
    await client.pc.setRemoteDescription({ type: "answer", sdp: answer });
    // werift, as a client, does not do this by itself while DTLS is up.
    void client.pc.iceTransports[0]!.start();
    await until("the connection after the restart", () => client.pc.iceConnectionState !== "new" && client.connected);
    assert.equal(await problem(await patch(trickle, { "If-Match": etag })), [412, "SL_SESSION_STALE"]);
    // Media goes on through the same session.
    const sound = (n: number): void =>
      client.sound.writeRtp(
        new RtpPacket(
          new RtpHeader({ sequenceNumber: n, timestamp: n * 960, payloadType: 111 }),
          Buffer.of(0xfc, 1, 2),
        ),
      );
    let n = 0;
    await until("sound after the restart", () => {
      sound(n++);
      return link.tags.length > 5;
    });
    assert.is(running.counter("whip_packets_late_total"), 0, "each packet is taken once");
    assert.is(running.counter("webrtc_ice_restarts_total"), 1);
    assert.is(running.gateway.sessions, 1);
  }));

test("a publisher that never connects, and one that vanishes without DELETE, free the key", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { handshakeMs: 600, sessionSilentMs: 900 });
    assert.is((await post(`${base(running)}/whip/KEY`, BROWSER_OFFER)).response.status, 201);
    await until("the session to be freed", () => running.gateway.sessions === 0);
    assert.is(running.counter("webrtc_sessions_not_connected_total"), 1);
    const client = await publisher(scope, running);
    assert.is(running.gateway.status().publishers.length, 1);
    // No media at all from now on; its ICE checks alone do not hold the key.
    await until("the key to be freed", () => running.gateway.status().publishers.length === 0);
    assert.is(running.gateway.sessions, 0);
    assert.is(running.counter("webrtc_sessions_gone_total"), 1);
    await client.close();
  }));

test("1,000 turned and cut requests: every one is answered, nothing is left", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { handshakeMs: 1500 });
    const next = random(77);
    const bodies = [BROWSER_OFFER, PLAY_OFFER].map((text) => Buffer.from(text));
    const paths = ["/whip/KEY", "/whep/one", "/whip", "/whep/one?stem=input", "/webrtc/xyz", "/whip/%ff", "//whip/KEY"];
    const methods = ["POST", "POST", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"];
    const types = ["application/sdp", "application/sdp", "application/sdp", "application/trickle-ice-sdpfrag", "x"];
    const statuses = new Map<number, number>();
    const descriptors = (): number => readdirSync("/proc/self/fd").length;
    const before = descriptors();
    for (let i = 0; i < 250; i++) {
      const some = Array.from({ length: 4 }, async () => {
        const method = methods[next(methods.length)]!;
        const headers: Record<string, string> = { "Content-Type": types[next(types.length)]! };
        if (next(3) === 0) headers["If-Match"] = "*";
        if (next(3) === 0) headers.Authorization = next(2) === 0 ? "Bearer KEY" : "Bearer \t";
        const body = mutate(bodies[next(2)]!, next);
        const { status } = await fetch(base(running) + paths[next(paths.length)]!, {
          method,
          headers,
          ...(method === "OPTIONS" ? {} : { body }),
        });
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      });
      await Promise.all(some);
    }
    assert.is(
      [...statuses.values()].reduce((a, b) => a + b),
      1000,
    );
    assert.not(statuses.has(500), JSON.stringify([...statuses]));
    await until("all sessions to be freed", () => running.gateway.sessions === 0);
    // A few connections of fetch stay open for a while.
    await until("the descriptors to be given back", () => descriptors() <= before + 12);
    assert.is(running.counter("gateway_faults_total"), 0);
    const client = await publisher(scope, running);
    assert.ok(client.connected);
  }));

test("10,000 turned RTP and RTCP packets, and noise from strangers: no fault, no growth, the session lives", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const client = await publisher(scope, running);
    const next = random(78);
    const good = packetize([SPS, PPS, Buffer.concat([Buffer.of(0x65), Buffer.alloc(4000, 3)])]);
    // Through the publisher's own keys, so that what is turned gets behind the decryption.
    const transport = client.pc.dtlsTransports[0]!;
    const port = Number(/a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+)/.exec(client.session!.sdp)![1]);
    const { createSocket } = await import("node:dgram");
    const stranger = scope.add(createSocket("udp4"), (s) => void s.close());
    let before = 0;
    for (let i = 0; i < 10_000; i++) {
      const payload = mutate(good[next(good.length)]!, next);
      const kind = next(8);
      if (kind === 0)
        stranger.send(mutate(Buffer.concat([Buffer.of(next(256)), payload.subarray(0, 200)]), next), port, "127.0.0.1");
      else if (kind === 1) {
        const report = Buffer.from("80c80006000000010000000200000003000000040000000500000006", "hex");
        await transport.sendRtcp([{ serialize: () => mutate(report, next, 8) } as never]);
      } else {
        const track = kind === 2 ? client.sound : client.picture;
        // Steps that the sender's own SRTP counter survives.
        const sequenceNumber = (i + (next(4) === 0 ? next(40) : 0)) & 0xffff;
        const timestamp = next(4) === 0 ? next(2 ** 31) : i * 90;
        const header = new RtpHeader({ sequenceNumber, timestamp, marker: next(4) === 0, payloadType: 96 });
        track.writeRtp(new RtpPacket(header, payload));
      }
      if (i % 50 === 0) await new Promise((done) => setTimeout(done, 1));
      if (i === 5000) before = process.memoryUsage().heapUsed;
    }
    await until("the packets to have come", () => running.counter("whip_packets_total") > 4000);
    assert.ok(process.memoryUsage().heapUsed - before < 64 * 1024 * 1024);
    assert.ok(running.counter("webrtc_datagrams_refused_total") > 100, "strangers are not let in");
    assert.is(running.gateway.sessions, 1);
    assert.is(running.counter("gateway_faults_total"), 0);
    assert.not(link.closed);
  }));

/** An SCTP packet with a right checksum, as a peer makes it: ports and tag of its association, then chunks as they are given. */
function sctpPacket(tag: number, chunks: Buffer): Buffer {
  const packet = Buffer.concat([Buffer.alloc(12), chunks]);
  packet.writeUInt16BE(5000, 0);
  packet.writeUInt16BE(5000, 2);
  packet.writeUInt32BE(tag, 4);
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
}

/** CRC-32C (RFC 3309). */
function crc32c(bytes: Buffer): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1));
  }
  return ~crc >>> 0;
}

/** DATA chunks as they are given, with a TSN each from one on. */
function dataChunks(
  tag: number,
  tsn: number,
  step: number,
  flags: number,
  protocol: number,
  bodies: Buffer[],
): Buffer[] {
  return bodies.map((body, i) => {
    const chunk = Buffer.alloc(16 + ((body.length + 3) & ~3));
    chunk.writeUInt8(flags, 1);
    chunk.writeUInt16BE(16 + body.length, 2);
    chunk.writeUInt32BE((tsn + step * i) >>> 0, 4);
    chunk.writeUInt16BE(9, 8); // a stream that no channel is on
    chunk.writeUInt32BE(protocol, 12);
    body.copy(chunk, 16);
    return sctpPacket(tag, chunk);
  });
}

type Association = { remoteVerificationTag: number; localTsn: number };
type Attack = { readonly what: string; readonly ends: boolean; packets(association: Association): Buffer[] };
const zeroLengths = ["08000000", "0b000000", "01000014000000010001000000100010000000010000000000000000"];
const fewBytes = (n: number, body: Buffer): Buffer[] => Array.from({ length: n }, () => body);
const attacks: readonly Attack[] = [
  ...zeroLengths.map((hex) => ({
    what: `a length of 0: ${hex.slice(0, 8)}`,
    ends: false,
    packets: ({ remoteVerificationTag }: Association) => [
      sctpPacket(hex.startsWith("01") ? 0 : remoteVerificationTag, Buffer.from(hex, "hex")),
    ],
  })),
  { what: "stumps", ends: true, packets: () => fewBytes(30, Buffer.of(0)) },
  {
    what: "65,535 packets acknowledged in four bytes",
    ends: false,
    packets: ({ remoteVerificationTag }) => [
      sctpPacket(remoteVerificationTag, Buffer.from("0300001400000001000100000001000000017fff", "hex")),
    ],
  },
  {
    what: "answers of channels that are not there",
    ends: true,
    packets: ({ remoteVerificationTag, localTsn }) =>
      dataChunks(remoteVerificationTag, localTsn, 1, 3, 50, fewBytes(40, Buffer.of(2))),
  },
  {
    what: "pieces of messages whose end never comes",
    ends: true,
    packets: ({ remoteVerificationTag, localTsn }) =>
      dataChunks(remoteVerificationTag, localTsn + 1, 2, 2, 51, fewBytes(400, Buffer.from("abcd"))),
  },
];

for (const { what, ends, packets } of attacks)
  test(`SCTP that hangs or ends a stack: ${what}; the gateway and other viewers go on`, () =>
    inScope(async (scope) => {
      let unhandled = 0;
      const count = (): void => void unhandled++;
      process.on("unhandledRejection", count);
      scope.add(null, () => process.off("unhandledRejection", count));
      const running = await openGateway(scope);
      const watching = await viewer(scope, running);
      const client = await viewer(scope, running, "/whep/one", true);
      await until("the data channel", () => client.notesChannel?.readyState === "open");
      const { sctp, dtlsTransport } = client.pc.sctpTransport!;
      for (const [i, packet] of packets(sctp as unknown as Association).entries()) {
        await dtlsTransport.sendData(packet).catch(() => {});
        // The gateway, in this process too, must read now and then: the kernel keeps some 200 small datagrams and drops the others.
        if (i % 16 === 15) await new Promise((done) => setTimeout(done, 1));
      }
      if (ends) await until("the session to be ended", () => running.gateway.sessions === 1);
      else await new Promise((done) => setTimeout(done, 200));
      await client.close();
      await viewer(scope, running);
      assert.ok(watching.connected);
      assert.equal([unhandled, running.counter("gateway_faults_total")], [0, 0]);
      assert.ok(what.startsWith("pieces") || running.counter("webrtc_sctp_refused_total") > 0);
    }));

test("400 turned SCTP packets that nobody counts: what is let through does the stack no harm", () =>
  inScope(async (scope) => {
    let unhandled = 0;
    const count = (): void => void unhandled++;
    process.on("unhandledRejection", count);
    scope.add(null, () => process.off("unhandledRejection", count));
    const running = await openGateway(scope, { maxBadSctpPerSecond: 1e6 });
    const next = random(79);
    const samples = [
      "00030018000000010000000000000033616263640000000000000000",
      "0100001c00000001000100000010001000000001c000000480080006c0820000",
      "03000014000000010001000000010000000100020000",
      "0400000c0001000811223344",
      "82000010000d000c0000000100000002",
      "c000000c000000050000ffff",
    ].map((hex) => Buffer.from(hex, "hex"));
    const client = await viewer(scope, running, "/whep/one", true);
    await until("the data channel", () => client.notesChannel?.readyState === "open");
    const { sctp, dtlsTransport } = client.pc.sctpTransport!;
    const { remoteVerificationTag } = sctp as unknown as Association;
    for (let i = 0; i < 400; i++)
      await dtlsTransport.sendData(sctpPacket(remoteVerificationTag, mutate(samples[next(samples.length)]!, next)));
    await until("the packets", () => running.counter("webrtc_sctp_refused_total") > 150);
    await viewer(scope, running);
    assert.equal([unhandled, running.counter("gateway_faults_total")], [0, 0]);
  }));

test("a viewer that asks for the same packets again and again gets each once, and so many a second", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    await attach(scope, running);
    const client = await viewer(scope, running);
    const header = Buffer.from("81cd01000000000100000000", "hex");
    header.writeUInt32BE(Number(/m=video[\s\S]*?a=ssrc:(\d+)/.exec(client.session!.sdp)![1]), 8);
    const entries = Buffer.alloc(4 * 254, 0xff);
    for (let i = 0; i < 50; i++)
      await client.pc.dtlsTransports[0]!.sendRtcp([{ serialize: () => Buffer.concat([header, entries]) } as never]);
    await until("the questions", () => running.counter("viewer_nacks_refused_total") > 100_000);
    assert.ok(running.counter("viewer_nacks_total") <= 50 * 17);
    assert.ok(client.connected);
    assert.is(running.counter("gateway_faults_total"), 0);
  }));

test.run();
