import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readAudio } from "../../src/transport/flv/audio.js";
import type { LineReport } from "../../src/transport/ipc/messages.js";
import { ChannelClient, inScope, openGateway, until } from "../gateway/support.js";
import { LossyRelay } from "./lossy-relay.js";
import { connectedPublisher } from "./support.js";

const test = suite("WHIP over a lossy line");
const PACKETS = 400;

type Result = {
  came: number;
  sent: number;
  lost: number;
  counter: (name: string) => number;
  lines: LineReport[];
  answer: string;
};

/** Opus packets of 20 ms (one frame, its number in it) over a line with this much loss and jitter; what the channel gets. */
async function publishSound(soundNack: boolean, loss: number, jitterMs: number): Promise<Result> {
  let result: Result | null = null;
  await inScope(async (scope) => {
    const running = await openGateway(scope);
    const link = new ChannelClient(scope, running.socket);
    link.send({ t: "attach", channel: "one" });
    await until("the state of the publisher", () => link.messages.length > 0);
    const relay = scope.add(await LossyRelay.open({ loss, jitterMs, seed: 5 }), (r) => r.close());
    const url = `http://127.0.0.1:${running.mediaPort}/whip/KEY`;
    const publisher = scope.add(await connectedPublisher(url, relay, "H264", soundNack), (p) => p.close());
    relay.bad = true;
    const beganMs = performance.now();
    for (let i = 0; i < PACKETS; i++) {
      const packet = Buffer.alloc(12 + 40, i & 255);
      packet.writeUInt16BE(0x8060, 0);
      packet.writeUInt16BE((65_400 + i) & 0xffff, 2);
      packet.writeUInt32BE((i * 960) >>> 0, 4);
      packet.writeUInt32BE(1, 8);
      packet[12] = 0xfc; // CELT, 20 ms, stereo, one frame (RFC 6716, 3.1)
      packet.writeUInt16BE(i, 13);
      publisher.send("sound", packet);
      await sleep(Math.max(0, beganMs + 20 * (i + 1) - performance.now()));
    }
    await sleep(1000);
    const numbers = link.tags.flatMap((tag) => {
      const read = tag.type === 8 ? readAudio(tag.body) : null;
      return read?.kind === "opus" ? [read.data.readUInt16BE(1)] : [];
    });
    for (const [i, n] of numbers.entries()) assert.ok(i === 0 || n > numbers[i - 1]!, "in order, none twice");
    result = {
      came: numbers.length,
      sent: PACKETS,
      lost: relay.counters.lost,
      counter: running.counter,
      lines: link.messages.flatMap((m) => (m.t === "line" ? [m.line] : [])),
      answer: publisher.session!.sdp,
    };
  });
  return result!;
}

test("sound of a publisher that sends it again is asked for again, and nearly all comes; the wait stays within its bounds", async () => {
  const { came, sent, lost, counter, lines, answer } = await publishSound(true, 0.05, 20);
  const [asked, recovered] = [counter("whip_sound_nacks_total"), counter("whip_sound_packets_recovered_total")];
  const waits = lines.flatMap((line) => (line.sound === null ? [] : [line.sound.waitMs]));
  const last = lines.at(-1)!;
  console.log(
    `${lost} datagrams lost, ${asked} requests, ${recovered} recovered, ${sent - came} of ${sent} sounds missing; ` +
      `jitter ${last.sound?.jitterMs} ms, waits ${Math.min(...waits)} to ${Math.max(...waits)} ms`,
  );
  assert.match(answer, /a=rtcp-fb:\d+ nack\r\n/);
  assert.ok(asked > 5 && recovered > 5, `${asked} ${recovered}`);
  assert.ok(sent - came <= 6, `${sent - came} of ${sent} are missing`);
  assert.ok(
    waits.every((ms) => ms >= 20 && ms <= 120),
    `${waits}`,
  );
  assert.ok(last.sound!.jitterMs > 2 && last.sound!.jitterMs < 60, `${last.sound!.jitterMs}`);
});

test("a publisher that does not offer it is not asked, and its sound goes on after each loss", async () => {
  const { came, sent, counter, answer } = await publishSound(false, 0.05, 20);
  assert.not.match(answer.slice(0, answer.indexOf("m=video")), /a=rtcp-fb:\d+ nack/);
  assert.is(counter("whip_sound_nacks_total"), 0);
  assert.ok(came < sent && came > 0.8 * sent, `${came} of ${sent}`);
  assert.ok(counter("whip_packets_lost_total") > 5);
});

test.run();
