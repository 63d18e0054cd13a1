import { monitorEventLoopDelay } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { makeClip } from "./support/clip.js";
import { machine, percentile, printTable, row, sleep } from "./support/numbers.js";
import { noiseModels, Product } from "./support/product.js";
import { publish } from "./support/publisher.js";
import { clipFolder, compare } from "./support/session.js";
import { oddSteps, Taker } from "./support/taker.js";

/**
 * What the pipeline adds to the declared latency when the gains are the identity: strength 0 and a model of next to no cost, everything
 * else as always (faces, steps, filter bank, delay line, AAC, gateway twice, HTTP-FLV):
 *
 *     npx tsx bench/overhead.ts [--seconds 60] [--profile low,balanced,quality] [--size 1920x1080] [--bframes 2]
 */
const { values: args } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    profile: { type: "string", default: "balanced" },
    size: { type: "string", default: "1920x1080" },
    bframes: { type: "string", default: "2" },
  },
});
const seconds = Number(args.seconds);
const SETTLE_MS = 5000;

const folder = clipFolder();
const clip = makeClip(folder, { size: args.size, bFrames: Number(args.bframes) });
const models = await noiseModels(folder, "tiny");
console.log(`${machine()}; ${seconds} s of ${args.size}, ${args.bframes} B-frames, model tiny, strength 0`);
let status = 0;
for (const profile of args.profile.split(",")) status |= await measure(profile);
process.exitCode = status;

async function measure(profile: string): Promise<number> {
  const product = await Product.start({ models, channels: { plain: { key: "k", profile, strengthPercent: 0 } } });
  try {
    await product.ready();
    await product.listen();
    const input = await Taker.open(product.inFlv("plain"));
    const output = await Taker.open(product.outFlv("plain"));
    const own = monitorEventLoopDelay({ resolution: 5 });
    own.enable();
    const begun = performance.now();
    await publish(clip, product.publishUrl("k"), seconds).ended;
    const D = product.statuses.at(-1)!.status.declaredLatencyMs;
    await sleep(D + 1000);
    own.disable();
    const c = await compare(input, output);
    const over = c.video.pairs
      .map(({ at, out }) => ({ at: input.pictures[at]!.arrivedMs, out: output.pictures[out]!.arrivedMs }))
      .filter(({ at }) => at - begun > SETTLE_MS)
      .map(({ at, out }) => out - at - D);
    const p99 = percentile(over, 0.99);
    input.close();
    output.close();
    return printTable(`Overhead with identity gains, profile ${profile}`, [
      row("declared latency", `${D.toFixed(0)} ms`),
      row(
        "beyond it p1 / p50 / p95 / p99 / max",
        `${[0.01, 0.5, 0.95, 0.99, 1].map((p) => percentile(over, p).toFixed(1)).join(" / ")} ms of ${over.length} frames`,
        "p99 < 20 ms",
        over.length > 0 && p99 < 20,
      ),
      row("event-loop delay of the measuring process p99", `${(own.percentile(99) / 1e6 - 5).toFixed(1)} ms`),
      row(
        "frames lost / changed",
        `${c.video.lost} / ${c.video.changed}`,
        "0 / 0",
        c.video.lost + c.video.changed === 0 && c.sameConfig,
      ),
      row(
        "AAC steps other than 21 or 22 ms",
        `${oddSteps(output.sounds).length}`,
        "0",
        oddSteps(output.sounds).length === 0,
      ),
    ]);
  } finally {
    await product.stop();
  }
}
