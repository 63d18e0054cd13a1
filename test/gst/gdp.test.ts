import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  GdpError,
  type GdpPacket,
  GdpReader,
  gdpBuffer,
  gdpCaps,
  gdpSegment,
  gdpStreamStart,
  MAX_GDP_PAYLOAD,
} from "../../src/transport/gdp/gdp.js";

const test = suite("gdp");
const SEED = 20_261_124;

const good = (): Buffer[] => [
  gdpStreamStart("a"),
  gdpCaps("audio/x-raw, rate=(int)48000"),
  gdpSegment(),
  gdpBuffer(Buffer.from("sound"), { ptsMs: 21.333333, durationMs: 10 }),
  gdpBuffer(Buffer.from("picture"), { ptsMs: 80, dtsMs: 40, delta: true, discont: true }),
  gdpBuffer(Buffer.alloc(0), { ptsMs: null }),
];

test("what is written is read back, whatever the pieces it arrives in", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          payload: fc.uint8Array({ maxLength: 300 }),
          ptsMs: fc.option(fc.nat(4_000_000_000)),
          dtsMs: fc.option(fc.nat(4_000_000_000)),
          delta: fc.boolean(),
          discont: fc.boolean(),
        }),
        { maxLength: 8 },
      ),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 }),
      (buffers, cuts) => {
        const bytes = Buffer.concat(buffers.map((b) => gdpBuffer(b.payload, b)));
        const reader = new GdpReader();
        const out: GdpPacket[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + cuts[i % cuts.length]!;
          out.push(...reader.push(bytes.subarray(at, end)));
          at = end;
        }
        assert.is(reader.pendingBytes, 0);
        assert.equal(
          out.map((p) => (p.kind === "buffer" ? { ...p, payload: [...p.payload] } : p)),
          buffers.map((b) => ({ kind: "buffer", ...b, payload: [...b.payload], durationMs: null })),
        );
      },
    ),
    { seed: SEED, numRuns: 300 },
  );
});

test("every proper prefix waits for the rest and gives only whole packets", () => {
  const packets = good();
  const bytes = Buffer.concat(packets);
  for (let n = 0; n < bytes.length; n++) {
    const reader = new GdpReader();
    const got = reader.push(bytes.subarray(0, n)).length;
    let whole = 0;
    for (let sum = 0; whole < packets.length; whole++) {
      sum += packets[whole]!.length;
      if (sum > n) break;
    }
    assert.is(got, whole);
    assert.is(reader.push(bytes.subarray(n)).length, packets.length - whole);
  }
});

test("100,000 mutated streams end in packets or a GdpError, never in growth", () => {
  const bytes = Buffer.concat(good());
  let state = SEED;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let refused = 0;
  for (let i = 0; i < 100_000; i++) {
    const copy = Buffer.from(bytes);
    for (let k = 0; k <= random(4); k++) copy[random(copy.length)] = random(256);
    const reader = new GdpReader();
    try {
      reader.push(copy.subarray(0, random(copy.length + 1)));
      assert.ok(reader.pendingBytes <= copy.length);
    } catch (error) {
      if (!(error instanceof GdpError)) throw new Error(`mutation ${i} of seed ${SEED}: ${String(error)}`);
      refused += 1;
    }
  }
  assert.ok(refused > 1000, "the mutations reach the checks");
});

test("a length over the limit is refused before anything is kept", () => {
  const head = gdpBuffer(Buffer.alloc(0), { ptsMs: 0 });
  head.writeUInt32BE(MAX_GDP_PAYLOAD + 1, 6);
  assert.throws(
    () => new GdpReader().push(head),
    (e: unknown) => e instanceof GdpError && e.code === "SL_GDP_MALFORMED",
  );
});

test.run();
