import { command, UsageError } from "./command.js";
import { differenceText, models } from "./model-info.js";
import { stopOnSignals } from "./stop.js";

/** Enough for ranges that one more clip hardly widens, and some minutes at the paper's size. */
const WINDOWS = 32;
const MAX_WINDOWS = 4096;

export const quantizeCommand = command({
  meta: {
    name: "quantize",
    description:
      "Makes an int8 model of an unfolded one of the paper: the trunk computes in integers, in ranges that clips show; other clips check it",
  },
  args: {
    model: { type: "positional", description: "name, or path with a slash", required: true },
    calibrate: { type: "string", description: "folder of media files, two or more", valueHint: "DIR", required: true },
    out: { type: "string", description: "model folder to write", valueHint: "DIR", required: true },
    name: { type: "string", description: "name in the card (default: the folder's)", valueHint: "NAME" },
    windows: { type: "string", description: "windows in all", valueHint: "N", default: `${WINDOWS}` },
    limit: {
      type: "string",
      description: "largest difference of an output, percent of its root mean square; above it nothing is written",
      valueHint: "PCT",
      default: "10",
    },
    models,
  },
  async run({ args }) {
    const windows = numberIn("windows", args.windows, 2, MAX_WINDOWS);
    if (!Number.isInteger(windows)) throw new UsageError(`--windows ${args.windows}: allowed are whole numbers`);
    const limit = numberIn("limit", args.limit, 0, 1000) / 100;
    const { findModel, loadWindow } = await import("../model/cards.js");
    const { quantiseModel, requireQuantisable } = await import("../model/paper/quantise.js");
    const { calibrationWindows, clipsOf } = await import("../file/calibration.js");
    const { defaultThreads } = await import("../file/separate-file.js");
    const model = await loadWindow(await findModel(args.model, args.models));
    // Said before the long work.
    requireQuantisable(model);
    await clipsOf(args.calibrate);
    const { stop, done } = stopOnSignals();
    const skipped = new Set<string>();
    const onSkipped = (clip: string, why: string): void => {
      if (!skipped.has(clip)) console.error(`left out: ${why}`);
      skipped.add(clip);
    };
    try {
      const { card, floatMs, int8Ms } = await quantiseModel(
        model,
        () => calibrationWindows(model.card, { folder: args.calibrate, windows, signal: stop.signal, onSkipped }),
        args.out,
        { limit, threads: defaultThreads(), signal: stop.signal, ...(args.name !== undefined && { name: args.name }) },
      );
      const { calibration, check } = card.paper.int8!;
      console.log(`${card.name} ${card.version}: int8 trunk, written to ${args.out}`);
      console.log(`  calibrated  ${calibration.windows} windows of ${calibration.clips} clips`);
      console.log(`  difference  ${differenceText(check.difference)}`);
      console.log(`              on ${check.windows} windows of ${check.clips} other clips`);
      console.log(`  a window    ${int8Ms.toFixed(0)} ms on this CPU, float ${floatMs.toFixed(0)} ms`);
    } catch (error) {
      throw stop.signal.aborted ? stop.signal.reason : error;
    } finally {
      done();
    }
  },
});

function numberIn(option: string, text: string, from: number, to: number): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value >= from && value <= to)) throw new UsageError(`--${option} ${text}: allowed are ${from} to ${to}`);
  return value;
}
