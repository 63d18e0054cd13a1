import { existsSync } from "node:fs";
import type { StreamCard, WindowCard } from "../model/card.js";
import { findModel, identityOf, listModels, modelInfo } from "../model/cards.js";
import { prefixOf } from "../model/checkpoint/checkpoint.js";
import { BUILT_IN_MODELS } from "../paths.js";
import { command } from "./command.js";

export const models = {
  type: "string",
  description: "folder of models",
  valueHint: "DIR",
  default: BUILT_IN_MODELS,
} as const;

const million = (n: number): string => `${(n / 1e6).toFixed(2)} M`;
const row = (name: string, text: string): string => `  ${name.padEnd(11)} ${text}`;

function streamLines(card: StreamCard): string[] {
  const { kind, side, colour } = card.picture;
  const ms = (samples: number): string => `${((1000 * samples) / card.sampleRate).toFixed(0)} ms`;
  return [
    row("parameters", million(card.parameters)),
    row("work", `${(card.macPerSecond / 1e9).toFixed(2)} G multiply-adds per second of sound`),
    row("picture", `${kind} ${side}x${side} ${colour}`),
    row("step", `${ms(card.unitSamples)}, guard ${ms(card.guardSamples)}, look-back ${ms(card.lookBackSamples)}`),
  ];
}

/** Largest first: it decides. */
export function differenceText(difference: Readonly<Record<string, number>>): string {
  const all = Object.entries(difference).sort((a, b) => b[1] - a[1]);
  return all.map(([name, value]) => `${name} ${(100 * value).toFixed(2)} %`).join(", ");
}

function int8Lines({ int8 }: WindowCard["paper"]): string[] {
  if (!int8) return [];
  const { from, calibration, check } = int8;
  return [
    row("int8", `trunk in integers, of ${from}`),
    row("calibrated", `${calibration.method} over ${calibration.windows} windows of ${calibration.clips} clips`),
    row("difference", `${differenceText(check.difference)} (${check.windows} windows of ${check.clips} other clips)`),
  ];
}

function windowLines(card: WindowCard): string[] {
  const { preset, width, form, side, window, guardSamples, constants, checkpoint } = card.paper;
  const { sampleRate, frameRate, stft, floorDb, rms } = constants;
  const spectrum = window.spectrum === 0 ? "" : `, ${window.spectrum} spectrum frames`;
  return [
    row("preset", `${preset}, width ${width}, ${form}`),
    ...int8Lines(card.paper),
    row("weights", `${checkpoint.name}, step ${checkpoint.step ?? "unknown"}, index ${checkpoint.indexSha256}`),
    row("parameters", million(card.parameters)),
    row("work", `${(card.macPerWindow / 1e9).toFixed(2)} G multiply-adds a window`),
    row("window", `${window.frames} pictures of ${side}x${side} RGB, ${window.samples} samples${spectrum}`),
    row("guard", `${(guardSamples / 48).toFixed(0)} ms of a window's end are not used live`),
    row("rates", `${sampleRate} Hz, ${frameRate} pictures a second`),
    row(
      "spectrum",
      `window ${stft.window}, step ${stft.step}, size ${stft.size}, ${stft.bins} bins, floor ${floorDb} dB`,
    ),
    row("level", `${rms.toFixed(6)} RMS a channel`),
    ...card.paper.inputs.map((p) => row("input", `${p.name} ${p.type} (${p.shape.join(", ")})`)),
    ...card.paper.outputs.map((p) => row("output", `${p.name} ${p.type} (${p.shape.join(", ")})`)),
  ];
}

/** A checkpoint that was not imported yet; all its checksums are verified. */
async function checkpointInfo(path: string): Promise<{ lines: string[]; json: object }> {
  const { openCheckpoint } = await import("../model/checkpoint/checkpoint.js");
  const { fittingPresets, matchVariables, widthText } = await import("../model/checkpoint/match.js");
  const { paperGraph } = await import("../model/paper/graph.js");
  const checkpoint = openCheckpoint(path);
  try {
    const { variables, prefix, indexSha256 } = checkpoint;
    for (const v of variables) if (v.verifiable) checkpoint.verify(v.name);
    const fitting = fittingPresets(variables).map((preset) => {
      const { width, parameters, ignored } = matchVariables(preset, variables);
      const { macs, sizes } = paperGraph(preset, (name) => checkpoint.read(name), { width });
      return { preset, width, parameters, ignored: ignored.length, macPerWindow: macs, window: sizes };
    });
    const bytes = variables.reduce((sum, v) => sum + v.bytes, 0);
    const others = variables.filter((v) => !v.verifiable).length;
    const lines = [
      `${prefix}: TensorFlow checkpoint`,
      row("variables", `${variables.length}, ${(bytes / 1e6).toFixed(2)} MB; checksums right`),
      ...(others > 0 ? [row("", `${others} of them of types whose checksum was not verified`)] : []),
      row("index", indexSha256),
      ...fitting.map((f) =>
        row(
          "preset",
          `${f.preset}: width ${widthText(f.width)}, ${million(f.parameters)} parameters, ${(f.macPerWindow / 1e9).toFixed(2)} G multiply-adds a window of ${f.window.frames} pictures, ${f.ignored} variables of training`,
        ),
      ),
      ...(fitting.length === 0 ? [row("preset", "none of the known ones")] : []),
    ];
    return { lines, json: { prefix, indexSha256, bytes, presets: fitting, variables } };
  } finally {
    checkpoint.close();
  }
}

export const infoCommand = command({
  meta: {
    name: "info",
    description:
      "What a model (or a TensorFlow checkpoint, by its prefix) declares; its files are verified. Without a name: all models",
  },
  args: {
    model: { type: "positional", description: "name, path with a slash, or prefix of a checkpoint", required: false },
    models,
    json: { type: "boolean", description: "as JSON" },
  },
  async run({ args }) {
    const names = args.model === undefined ? await listModels(args.models) : [args.model];
    if (names.length === 0) console.error(`no models in ${args.models}`);
    for (const name of names) {
      if (existsSync(`${prefixOf(name)}.index`)) {
        const { lines, json } = await checkpointInfo(name);
        console.log(args.json ? JSON.stringify(json) : lines.join("\n"));
        continue;
      }
      const info = await modelInfo(await findModel(name, args.models));
      const { card, folder, sizes } = info;
      if (args.json) {
        console.log(JSON.stringify(info));
        continue;
      }
      console.log(`${card.name} ${card.version} (${card.kind}), ${folder}`);
      const files = Object.entries(sizes).map(([file, size]) => `${file} ${(size / 1e6).toFixed(2)} MB`);
      console.log(row("files", `${files.join(", ")}; checksums right`));
      for (const [file, sum] of Object.entries(card.sha256)) console.log(row("sha256", `${sum} ${file}`));
      console.log(row("identity", identityOf(card)));
      for (const line of card.kind === "stream" ? streamLines(card) : windowLines(card)) console.log(line);
    }
  },
});
