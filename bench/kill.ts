import { parseArgs } from "node:util";
import { makeClip } from "./support/clip.js";
import { machine, printTable, type Row, row, sleep, until } from "./support/numbers.js";
import { Product, shippedModels } from "./support/product.js";
import { type Publisher, publish } from "./support/publisher.js";
import { clipFolder, compare } from "./support/session.js";
import { largestStep, longestHoleMs } from "./support/sound.js";
import { stepsRow, Taker } from "./support/taker.js";

/**
 * `kill -9` of one process after the other in mid-stream, with the whole product, ffmpeg as publisher and a player that stays:
 *
 *     npx tsx bench/kill.ts [inference|channel|gateway ...] [--profile balanced] [--size 1920x1080] [--bframes 2] [--models FOLDER]
 */
const { values: args, positionals } = parseArgs({
  options: {
    profile: { type: "string", default: "balanced" },
    size: { type: "string", default: "1920x1080" },
    bframes: { type: "string", default: "2" },
    models: { type: "string" },
  },
  allowPositionals: true,
});
/** AAC is coded anew on the way: its noise may lift the largest step of the sound by so much. */
const CODING = 1.1;
/** Separation takes away no more than this: what is much lower is a hole. */
const LIMIT_DB = 12;
const CHANNEL = "kill";

const folder = clipFolder();
const clip = makeClip(folder, { size: args.size, bFrames: Number(args.bframes) });
const { models, what } = args.models ? { models: args.models, what: args.models } : await shippedModels(folder);
type Stage = { readonly product: Product; readonly input: Taker; readonly output: Taker; publisher: Publisher };

/** A channel that has been in mode separated for five seconds. */
async function onStage(body: (stage: Stage) => Promise<Row[]>): Promise<Row[]> {
  const product = await Product.start({
    models,
    channels: {
      [CHANNEL]: { key: "k", profile: args.profile!, attenuationLimitDb: LIMIT_DB },
    },
  });
  try {
    await product.ready();
    await product.listen();
    const input = Taker.openForEver(product.inFlv(CHANNEL));
    const output = Taker.openForEver(product.outFlv(CHANNEL));
    await sleep(500);
    const stage = { product, input, output, publisher: publish(clip, product.publishUrl("k"), 120) };
    try {
      await until("mode separated", () => product.statuses.at(-1)?.status.mode === "separated", 30_000);
      await sleep(5000);
      return await body(stage);
    } finally {
      input.close();
      output.close();
      await stage.publisher.stop();
    }
  } finally {
    await product.stop();
  }
}

/** Time (ms after `fromMs`) of the first report of the channel for which `test` holds. */
async function firstReport(
  product: Product,
  fromMs: number,
  test: (status: Product["statuses"][number]["status"]) => boolean,
  limitMs: number,
): Promise<number> {
  return until(
    "a report",
    () => {
      const found = product.statuses.find((s) => s.atMs > fromMs && s.status.name === CHANNEL && test(s.status));
      return found === undefined ? false : found.atMs - fromMs;
    },
    limitMs,
    10,
  ).catch(() => Number.POSITIVE_INFINITY);
}

async function kill(product: Product, process_: string): Promise<number> {
  const pid = await product.pid(process_);
  process.kill(pid, "SIGKILL");
  return performance.now();
}

const inMs = (v: number): string => (Number.isFinite(v) ? `${v.toFixed(0)} ms` : "never");

function killInference(): Promise<Row[]> {
  return onStage(async ({ product, input, output, publisher }) => {
    const before = product.statuses.at(-1)!.status;
    const hopMs = before.latencyParts.hop!;
    const killed = await kill(product, "inference");
    const bypass = await firstReport(product, killed, (s) => s.mode === "bypass", 5000);
    const reason = product.statuses.find((s) => s.atMs > killed && s.status.mode === "bypass")?.status.reason ?? "none";
    const back = await firstReport(product, killed + bypass, (s) => s.mode === "separated", 15_000);
    await sleep(4000);
    await publisher.stop();
    await sleep(before.declaredLatencyMs + 500);
    const c = await compare(input, output);
    const D = before.declaredLatencyMs;
    const lastIn = input.pictures.findLast((p) => p.arrivedMs <= killed)!.ptsMs;
    // From just before the kill until all that was under way with it, and the return, have come out.
    const [from, to] = [lastIn - 1500, lastIn + bypass + back + D + 2000];
    const shift = c.pictureShiftMs;
    const stepIn = largestStep(c.input, from, to);
    const stepOut = largestStep(c.output, from + shift, to + shift);
    const hole = longestHoleMs(c.input, c.output, [from, to], shift, LIMIT_DB + 6);
    return [
      row(
        "first report with mode bypass",
        `${inMs(bypass)} (${reason})`,
        `2 hops = ${2 * hopMs} ms`,
        bypass <= 2 * hopMs,
      ),
      row("separated again", inMs(bypass + back), "10 s", bypass + back <= 10_000),
      row(
        "frames lost / changed",
        `${c.video.lost} / ${c.video.changed}`,
        "0 / 0",
        c.video.lost + c.video.changed === 0,
      ),
      stepsRow(output.sounds),
      row(
        "largest sample step in / out",
        `${stepIn.toFixed(4)} / ${stepOut.toFixed(4)}`,
        `no higher than in (AAC: x ${CODING})`,
        stepOut <= stepIn * CODING,
      ),
      row(`longest stretch more than ${LIMIT_DB + 6} dB lower than in the input`, inMs(hole), "40 ms", hole < 40),
      row("player's connection ended", `${output.ends.length} times`, "0", output.ends.length === 0),
    ];
  });
}

function killChannel(): Promise<Row[]> {
  return onStage(async ({ product, output, publisher }) => {
    const others = await product.pids();
    const killed = await kill(product, `channel:${CHANNEL}`);
    const soundBack = (): number | undefined => output.sounds.find((s) => s.arrivedMs > killed + 300)?.arrivedMs;
    const pictureBack = (): number | undefined => output.pictures.find((p) => p.arrivedMs > killed + 300)?.arrivedMs;
    await until("sound and pictures at the player", () => soundBack() && pictureBack(), 15_000).catch(() => {});
    const onAir = Math.max(soundBack() ?? Infinity, pictureBack() ?? Infinity) - killed;
    const separated = await firstReport(product, killed, (s) => s.mode === "separated" && s.source === "live", 15_000);
    await sleep(3000);
    const now = await product.pids();
    const touched = [...others].filter(([name, pid]) => name !== `channel:${CHANNEL}` && now.get(name) !== pid);
    const key = output.pictures.find((p) => p.arrivedMs > killed + 300)?.key === true;
    return [
      row("sound and pictures at the player again", inMs(onAir), "5 s", onAir <= 5000),
      row("first picture then is a key frame", key ? "yes" : "no", "yes", key),
      row("separated again", inMs(separated), "10 s", separated <= 10_000),
      row(
        "publisher still connected",
        publisher.process.exitCode === null ? "yes" : "no",
        "yes",
        publisher.process.exitCode === null,
      ),
      row("player's connection ended", `${output.ends.length} times`),
      row("other processes touched", touched.map(([name]) => name).join(", ") || "none", "none", touched.length === 0),
    ];
  });
}

function killGateway(): Promise<Row[]> {
  return onStage(async (stage) => {
    const { product, input, output } = stage;
    const others = await product.pids();
    const killed = await kill(product, "gateway");
    // A publisher as they are: it ends with its connection and is started again.
    let attempts = 0;
    const again = (async () => {
      while (input.pictures.at(-1)!.arrivedMs < killed + 300 && performance.now() - killed < 15_000) {
        await Promise.race([stage.publisher.ended, sleep(300)]);
        if (stage.publisher.process.exitCode === null && stage.publisher.process.signalCode === null) continue;
        attempts++;
        await sleep(200);
        stage.publisher = publish(clip, product.publishUrl("k"), 60);
      }
    })();
    const stalled = await firstReport(product, killed, (s) => s.source === "stalled", 5000);
    const reason = product.statuses.find((s) => s.atMs > killed && s.status.source === "stalled")?.status.reason;
    await again;
    const accepted = (input.pictures.find((p) => p.arrivedMs > killed + 300)?.arrivedMs ?? Infinity) - killed;
    await until("pictures at the player", () => output.pictures.at(-1)!.arrivedMs > killed + 300, 15_000).catch(
      () => {},
    );
    const onAir = (output.pictures.find((p) => p.arrivedMs > killed + 300)?.arrivedMs ?? Infinity) - killed;
    const separated = await firstReport(
      product,
      killed + stalled,
      (s) => s.mode === "separated" && s.source === "live",
      15_000,
    );
    const now = await product.pids();
    const touched = [...others].filter(([name, pid]) => name !== "gateway" && now.get(name) !== pid);
    return [
      row("first report that says stalled", `${inMs(stalled)} (${reason ?? "none"})`, "1 s", stalled <= 1000),
      row("publisher accepted again", `${inMs(accepted)} (${attempts} attempts)`, "5 s", accepted <= 5000),
      row("pictures at the player again", inMs(onAir)),
      row("separated again", inMs(stalled + separated), "10 s", stalled + separated <= 10_000),
      row("other processes touched", touched.map(([name]) => name).join(", ") || "none", "none", touched.length === 0),
    ];
  });
}

const scenes: Record<string, () => Promise<Row[]>> = {
  inference: killInference,
  channel: killChannel,
  gateway: killGateway,
};
console.log(`${machine()}; ${args.size}, ${args.bframes} B-frames, profile ${args.profile}, model ${what}`);
let status = 0;
for (const [name, scene] of Object.entries(scenes)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  status |= printTable(`kill -9 of ${name}`, await scene());
}
process.exitCode = status;
