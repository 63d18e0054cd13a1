import { suite } from "uvu";
import * as assert from "uvu/assert";
import { RtcpTransportLayerFeedback, RtpHeader, RtpPacket, TransportWideCC } from "werift";
import { scriptTag } from "../../src/transport/flv/script.js";
import { avcFrameTag, avcSequenceTag } from "../../src/transport/flv/video.js";
import { joinAvc, writeAvcC } from "../../src/transport/webrtc/h264.js";
import { packetize } from "../../src/transport/webrtc/h264-packetizer.js";
import { ReorderBuffer } from "../../src/transport/webrtc/reorder.js";
import { inScope, openGateway, until } from "../gateway/support.js";
import { attach, base, key, other, PLAY_OFFER, PPS, publisher, SPS, send, viewer, wanted } from "./sessions.js";
import { post, WhepClient } from "./support.js";

const test = suite("WHIP and WHEP, their media");

test("a player that finds no key frame to begin with has the publisher asked for one; one that finds one has not", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { maxGopBytes: 30_000 });
    await attach(scope, running);
    const source = await publisher(scope, running);
    let at = 0;
    const show = async (type: number, times: number, sets = true): Promise<void> => {
      for (let i = 0; i < times; i++) {
        const nal = Buffer.concat([Buffer.of(type), Buffer.alloc(2000, at + 3)]);
        const payloads = packetize(type === 0x65 && sets ? [SPS, PPS, nal] : [nal]);
        for (const [n, payload] of payloads.entries()) {
          const marker = n === payloads.length - 1;
          const header = new RtpHeader({ sequenceNumber: sequence++, timestamp: at * 3000, marker, payloadType: 96 });
          source.picture.writeRtp(new RtpPacket(header, payload));
        }
        at++;
        await new Promise((done) => setTimeout(done, 5));
      }
    };
    let sequence = 1;
    const asked = async (): Promise<number> => {
      await new Promise((done) => setTimeout(done, 700));
      const before = source.keyFramesWanted;
      const answer = await fetch(`${base(running)}/in/one.flv`);
      await new Promise((done) => setTimeout(done, 700));
      await answer.body?.cancel();
      return source.keyFramesWanted - before;
    };
    // Key frames without parameter sets are of no use to anybody: it is asked again and again.
    await show(0x65, 1, false);
    for (let before = source.keyFramesWanted, k = 0; k < 2; k++, before = source.keyFramesWanted) {
      await show(0x65, 1, false);
      await until("another request", () => source.keyFramesWanted > before);
    }
    await show(0x41, 2);
    await until("useless pictures counted", () => running.counter("whip_units_dropped_total") === 5);
    await show(0x65, 1);
    await show(0x41, 4);
    assert.is(await asked(), 0);
    await show(0x41, 30);
    assert.ok((await asked()) > 0);
  }));

test("viewers: pictures untouched from the next key frame, sound by stem, notes on the data channel, key frame asked for", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { sessionSilentMs: 3000 });
    const link = await attach(scope, running);
    const source = await publisher(scope, running);
    const clean = await viewer(scope, running, "/whep/one", true);
    const input = await viewer(scope, running, "/whep/one?stem=input");
    await until("the stems to be told", () => wanted(link).at(-1) === "clean+input");
    await until("the publisher to be asked for a key frame", () => source.keyFramesWanted > 0);
    await until("the data channel", () => clean.notesChannel?.readyState === "open");
    assert.is(clean.notesChannel!.label, "highlights");
    link.out(avcSequenceTag(writeAvcC([SPS], [PPS]), 1000));
    link.out(avcFrameTag(other(1), false, 1000, 0));
    const frames = [key(2), other(3), key(4)];
    for (const [i, frame] of frames.entries()) link.out(avcFrameTag(frame, i !== 1, 1040 + 40 * i, 0));
    link.send({ t: "opus", stem: "clean", timeMs: 1000.5 }, Buffer.of(0xfc, 1));
    link.send({ t: "opus", stem: "input", timeMs: 1000.5 }, Buffer.of(0xfc, 2));
    link.out(scriptTag("onHighlight", 1040, { pts: 1040, mode: "separated", faces: [] }));
    for (const [who, byte] of [
      [clean, 1],
      [input, 2],
    ] as const) {
      await until("three pictures and a sound", () => who.units.length === 3 && who.sounds.length === 1);
      const got = who.units.map((unit) => joinAvc(unit.nals.filter((nal) => (nal[0]! & 31) < 6)).toString("hex"));
      assert.equal(
        got,
        frames.map((frame) => frame.toString("hex")),
      );
      assert.equal([...who.units[0]!.nals.slice(0, 2)], [SPS, PPS]);
      assert.equal(
        who.units.map((unit) => unit.key),
        [true, false, true],
      );
      assert.is(who.units[1]!.timestamp - who.units[0]!.timestamp, 3600);
      assert.equal([...who.sounds[0]!.data], [0xfc, byte]);
    }
    await until("the note", () => clean.notes.length === 1);
    const { rtpTimestamp, ...note } = clean.notes[0]!;
    assert.equal(note, { pts: 1040, mode: "separated", faces: [] });
    assert.is(rtpTimestamp, clean.units[0]!.timestamp);
    assert.is(running.gateway.status().viewers, 2);
    await send(input.session!.location, "DELETE", null, {});
    await until("the stem to be let go", () => wanted(link).at(-1) === "clean");
    await clean.close();
    await until("the closed viewer to be freed", () => running.gateway.status().viewers === 0);
    await until("the last stem to be let go", () => wanted(link).at(-1) === "");
  }));

test("viewers that ask for one key frame again and again have the publisher asked once, until it has come out", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const source = await publisher(scope, running);
    // Until it has sent a key frame it is asked for one anyway.
    const pictures = packetize([SPS, PPS, Buffer.alloc(60, 0x65)]);
    for (const [i, payload] of pictures.entries()) {
      const marker = i === pictures.length - 1;
      const header = new RtpHeader({ sequenceNumber: i + 1, timestamp: 3000, marker, payloadType: 96 });
      source.picture.writeRtp(new RtpPacket(header, payload));
    }
    await until("its picture", () => link.tags.some((tag) => tag.type === 9 && tag.body[1] === 1));
    const watching = await viewer(scope, running);
    await until("the first request", () => source.keyFramesWanted > 0);
    link.out(avcSequenceTag(writeAvcC([SPS], [PPS]), 0));
    const [receiver] = watching.pc.getReceivers();
    const complain = async (forMs: number): Promise<number> => {
      await new Promise((done) => setTimeout(done, 600));
      const before = source.keyFramesWanted;
      for (let ms = 0; ms < forMs; ms += 100) {
        await receiver!.sendRtcpPLI(receiver!.track.ssrc!);
        await new Promise((done) => setTimeout(done, 100));
      }
      return source.keyFramesWanted - before;
    };
    link.out(avcFrameTag(key(1), true, 40, 0));
    await until("the key frame", () => watching.units.length === 1);
    assert.is(await complain(1000), 1);
    // It came out; what is lost after that is worth another one.
    link.out(avcFrameTag(key(2), true, 80, 0));
    await until("the next key frame", () => watching.units.length === 2);
    assert.is(await complain(500), 1);
    // One that never comes is asked for again.
    assert.ok((await complain(2500)) >= 1);
  }));

test("a publisher is told when each packet of its pictures arrived, where it numbers them", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    await attach(scope, running);
    const told = async (transportWide: boolean): Promise<{ number: number; received: boolean }[]> => {
      const source = await publisher(scope, running, "/whip/KEY", {}, { transportWide });
      const results: { number: number; received: boolean }[] = [];
      source.pc.dtlsTransports[0]!.onRtcp.subscribe((packet) => {
        if (!(packet instanceof RtcpTransportLayerFeedback) || !(packet.feedback instanceof TransportWideCC)) return;
        for (const { sequenceNumber, received } of packet.feedback.packetResults)
          results.push({ number: sequenceNumber, received });
      });
      for (let n = 0; n < 40; n++) {
        const payloads = packetize(n === 0 ? [SPS, PPS, Buffer.alloc(60, 0x65)] : [Buffer.of(0x41, 1, 2)]);
        for (const [i, payload] of payloads.entries()) {
          const header = new RtpHeader({
            sequenceNumber: 4 * n + i + 1,
            timestamp: n * 3000,
            marker: i === payloads.length - 1,
            payloadType: 96,
          });
          source.picture.writeRtp(new RtpPacket(header, payload));
        }
        await new Promise((done) => setTimeout(done, 20));
      }
      await new Promise((done) => setTimeout(done, 400));
      await send(source.session!.location, "DELETE", null, {});
      return results;
    };
    const results = await told(true);
    const numbers = [...new Set(results.map(({ number }) => number))];
    assert.ok(numbers.length >= 40, `${numbers.length} packets`);
    assert.equal(
      numbers,
      numbers.map((_, i) => (numbers[0]! + i) & 0xffff),
      "none left out",
    );
    assert.ok(results.every(({ received }) => received));
    await until("the channel to be free", () => running.gateway.status().publishers.length === 0);
    assert.equal(await told(false), []);
    assert.is(running.counter("gateway_faults_total"), 0);
  }));

test("a viewer that says it takes messages of one byte loses the notes, and costs nobody anything", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { sessionSilentMs: 3000 });
    const link = await attach(scope, running);
    await publisher(scope, running);
    const odd = scope.add(new WhepClient({ data: true }), (c) => c.close());
    const size = /a=max-message-size:\d+/;
    await odd.view(`${base(running)}/whep/one`, (sdp) => {
      assert.match(sdp, size);
      return sdp.replace(size, "a=max-message-size:1");
    });
    const clean = await viewer(scope, running, "/whep/one", true);
    for (const who of [odd, clean]) await until("the data channel", () => who.notesChannel?.readyState === "open");
    link.out(avcSequenceTag(writeAvcC([SPS], [PPS]), 1000));
    link.out(avcFrameTag(key(1), true, 1040, 0));
    link.out(scriptTag("onHighlight", 1040, { pts: 1040, mode: "separated", faces: [] }));
    link.out(avcFrameTag(other(2), false, 1080, 0));
    for (const who of [odd, clean]) await until("both pictures", () => who.units.length === 2);
    await until("the note", () => clean.notes.length === 1);
    assert.is(odd.notes.length, 0);
    const { counters } = running.gateway.status();
    assert.equal([counters.channel_malformed_total ?? 0, counters.viewer_notes_dropped_total], [0, 1]);
  }));

test("B-frames are refused: at the door, and to those who are in", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const early = await viewer(scope, running);
    link.out(avcSequenceTag(writeAvcC([SPS], [PPS]), 0));
    const shown = [80, 200, 120, 160];
    for (const [i, pts] of shown.entries())
      link.out(avcFrameTag(i === 0 ? key(i) : other(i), i === 0, 40 * i, pts - 40 * i));
    await until("the viewer to be dropped", () => running.gateway.status().viewers === 0);
    const late = await post(`${base(running)}/whep/one`, PLAY_OFFER);
    assert.is(late.response.status, 422);
    assert.match(late.sdp, "SL_WEBRTC_REORDERED");
    // Another source without them: after one group of pictures viewers are let in again.
    for (let n = 0; n < 3; n++) link.out(avcFrameTag(key(n), true, 1000 + 40 * n, 0));
    await until(
      "viewers to be let in",
      async () => (await post(`${base(running)}/whep/one`, PLAY_OFFER)).response.status === 201,
    );
    await early.close();
  }));

test("a publisher's clock that is set back now and then is no sign of B-frames; within one group of pictures it is", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = await attach(scope, running);
    const source = await publisher(scope, running);
    let sequenceNumber = 1;
    const send = (timestamp: number, isKey: boolean): void => {
      const units = isKey ? [SPS, PPS, Buffer.concat([Buffer.of(0x65), Buffer.alloc(40, 7)])] : [Buffer.of(0x41, 1, 2)];
      const payloads = packetize(units);
      for (const [i, payload] of payloads.entries()) {
        const header = new RtpHeader({
          sequenceNumber: sequenceNumber++,
          timestamp,
          marker: i === payloads.length - 1,
          payloadType: 96,
        });
        source.picture.writeRtp(new RtpPacket(header, payload));
      }
    };
    const pictures = (): number => link.tags.filter((tag) => tag.type === 9 && tag.body[1] === 1).length;
    let sent = 0;
    for (let group = 0; group < 6; group++) {
      const from = 1_000_000 - group * 90_000; // a second back at each key frame
      for (let n = 0; n < 5; n++) send(from + n * 3000, n === 0);
      sent += 5;
      await until(`${sent} pictures`, () => pictures() >= sent);
    }
    assert.is(running.gateway.status().publishers.length, 1);
    for (const n of [0, 4, 2, 6, 3, 8, 5]) send(2_000_000 + n * 3000, n === 0);
    await until("the end of the publisher", () => running.gateway.status().publishers.length === 0);
  }));

test("a fault of ours at one publisher's packet ends that session with a code; the next one and everybody else go on", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope);
    await attach(scope, running);
    const neighbour = await publisher(scope, running, "/whip/KEY2");
    const source = await publisher(scope, running);
    const packet = (sequenceNumber: number, bytes: number): RtpPacket =>
      new RtpPacket(
        new RtpHeader({ sequenceNumber, timestamp: sequenceNumber * 3000, marker: true, payloadType: 96 }),
        Buffer.alloc(bytes, 0x41),
      );
    const { push } = ReorderBuffer.prototype;
    scope.add(push, (own) => Object.assign(ReorderBuffer.prototype, { push: own }));
    ReorderBuffer.prototype.push = function (this: ReorderBuffer<RtpPacket>, number, value: RtpPacket, nowMs) {
      if (value.payload.length === 77) throw new TypeError("of the test");
      return push.call(this, number, value, nowMs) as ReturnType<typeof push>;
    };
    source.picture.writeRtp(packet(1, 77));
    await until("the end of the session", () => running.gateway.status().publishers.length === 1);
    assert.is(running.counter("gateway_faults_total"), 1);
    const again = await publisher(scope, running);
    const before = running.counter("whip_packets_total");
    for (const [n, client] of [again, neighbour].entries()) client.picture.writeRtp(packet(n + 2, 40));
    await until("packets of both", () => running.counter("whip_packets_total") === before + 2);
    assert.is(running.gateway.status().publishers.length, 2);
    assert.is(running.counter("gateway_faults_total"), 1);
  }));

test("viewers are bounded, and so are sessions that do not connect", () =>
  inScope(async (scope) => {
    const running = await openGateway(scope, { maxConnecting: 2 });
    const url = `${base(running)}/whep/one`;
    assert.equal(
      [(await post(url, PLAY_OFFER)).response.status, (await post(url, PLAY_OFFER)).response.status],
      [201, 201],
    );
    const third = await post(url, PLAY_OFFER);
    assert.equal([third.response.status, (JSON.parse(third.sdp) as { code: string }).code], [503, "SL_GATEWAY_FULL"]);
    assert.is(running.counter("webrtc_sessions_refused_total"), 1);
    // Who waits without a key keeps nobody out who has one.
    assert.ok((await publisher(scope, running)).connected);
  }));

test.run();
