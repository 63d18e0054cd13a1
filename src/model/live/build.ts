import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type StreamCard, streamCard } from "../card.js";
import { contradiction, type LoadedStream, sha256 } from "../cards.js";
import { InferenceError } from "../inference.js";
import type { WeightFile } from "../weights.js";
import { clockOf, type LiveConfig, liveConfig, UNIT } from "./config.js";
import { type StepGraphs, stepGraphs, voiceGraph } from "./graph.js";
import type { State } from "./layers.js";

export type BuildMeta = {
  readonly name: string;
  readonly version: string;
  readonly gain?: StreamCard["gain"];
  /** Units that re-make the state; default 52 = 2.08 s. */
  readonly lookBackUnits?: number;
  /** Goes into the card beside what the weight file says (data, licence, scores). */
  readonly training?: Readonly<Record<string, unknown>>;
};

export type BuiltModel = { readonly card: StreamCard; readonly files: Readonly<Record<string, Uint8Array>> };

const json = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: "custom", message: "is not JSON" });
    return z.NEVER;
  }
});
const weightNotes = z.object({
  config: json.pipe(liveConfig),
  training: json.pipe(z.record(z.string(), z.unknown())).default({}),
});

type VoicesCard = NonNullable<StreamCard["voices"]>;

/** When a network with attribution takes a voice to be somebody's who is silent. Chosen on validation people (train/gate.py, docs/decisions/19). */
const GATE: VoicesCard["gate"] = {
  score: { always: 0.57, lips: 0.77, fit: 19, known: -4.66, voice: 6.3 },
  shut: -1.5,
  open: 0.5,
  around: { lips: { before: 20, after: 12 }, fit: { before: 30, after: 30 }, voice: { before: 25, after: 25 } },
  early: 6,
};
/** Ten minutes of a voice are kept. */
const MEMORY: Omit<NonNullable<VoicesCard["memory"]>, "size"> = {
  half: 20,
  settled: 25,
  most: 15_000,
  spoken: { lips: 0.9, fit: 15, from: 0, to: 1 },
  least: 0.5,
  alike: { from: 0.6, to: 0.8 },
  against: 0.02,
  doubt: 12,
};

function voicesOf(attribution: LiveConfig["attribution"]): { voices?: VoicesCard } {
  if (attribution === undefined) return {};
  const { speaker: size } = attribution;
  return { voices: { count: 2, gate: GATE, ...(size === 0 ? {} : { memory: { size, ...MEMORY } }) } };
}

/** States of what the lips show, by the begin of their names. */
const OF_THE_LIPS = /^(second_)?(seen|crop|student|lips)/;

/** A network that is told the picture inside its separator keeps the face in all of its states: nothing of it can be handed on. */
function statesOf({ sound, step }: StepGraphs): StreamCard["states"] {
  const list = (states: readonly State[], of: (name: string) => Pick<StreamCard["states"][number], "of">) =>
    states.map(({ name, shape, init }) => ({ name, shape: [...shape], init, ...of(name) }));
  if (sound === null) return list(step.states, () => ({}));
  return [
    ...list(sound.states, () => ({ of: "sound" })),
    ...list(step.states, (name) => (OF_THE_LIPS.test(name) ? {} : { of: "person" })),
  ];
}

/** Card and files of a live model from its weights (train/export_weights.py); touches no disk. Throws SL_MODEL_INVALID. */
export function makeLive(weights: WeightFile, meta: BuildMeta): BuiltModel {
  const notes = weightNotes.safeParse(weights.notes);
  if (!notes.success)
    throw new InferenceError(
      "SL_MODEL_INVALID",
      `notes of the weight file: ${z.prettifyError(notes.error).replaceAll(/\s*\n\s*/g, " ")}`,
    );
  const { config, training } = notes.data;
  const clock = clockOf(config.separator);
  const graphs = stepGraphs(config, weights.tensors);
  const { sound, step } = graphs;
  const voice = voiceGraph(config, weights.tensors);
  const parts = [...(sound === null ? [] : [sound]), step];
  const files = {
    ...(sound === null ? {} : { "sound.onnx": sound.bytes }),
    "model.onnx": step.bytes,
    "voice.onnx": voice.bytes,
  };
  const card = streamCard.parse({
    format: "sightline-model/1",
    name: meta.name,
    version: meta.version,
    kind: "stream",
    sampleRate: 48_000,
    unitSamples: UNIT,
    picture: { kind: "mouth-crop", side: config.side, colour: "grey" },
    grid: { hopSamples: clock.hop, bins: clock.bins, binHz: clock.binHz },
    firstFrameOffset: clock.firstFrameOffset,
    guardSamples: clock.guard,
    lookBackSamples: (meta.lookBackUnits ?? 52) * UNIT,
    memorySize: config.edim,
    gain: meta.gain ?? "on",
    ...voicesOf(config.attribution),
    states: statesOf(graphs),
    files: { ...(sound === null ? {} : { sound: "sound.onnx" }), step: "model.onnx", voice: "voice.onnx" },
    sha256: Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, sha256(bytes)])),
    parameters: [...parts, voice].reduce((n, graph) => n + graph.parameters, 0),
    macPerSecond: parts.reduce((n, { work }) => n + work.perUnit + work.fixed, 0) * (48_000 / UNIT),
    training: { ...training, ...meta.training, config },
  } satisfies z.input<typeof streamCard>);
  const wrong = contradiction(card);
  if (wrong !== null) throw new InferenceError("SL_MODEL_INVALID", wrong);
  return { card, files };
}

/** As if it had been read from `folder`. */
export function loadedFrom({ card, files }: BuiltModel, folder: string): LoadedStream {
  const { sound, step, voice } = card.files;
  const bytes = (name: string | undefined): Uint8Array | null => (name === undefined ? null : files[name]!);
  return { folder, card, sound: bytes(sound), step: files[step]!, voice: bytes(voice) };
}

/**
 * Writes `folder`/{sound.onnx, model.onnx, voice.onnx, card.json}. The card goes last and every file by rename, so that a reader sees either
 * the old model, the new one, or a SHA-256 that does not match - never half a file that runs.
 */
export async function buildLive(weights: WeightFile, meta: BuildMeta, folder: string): Promise<StreamCard> {
  const { card, files } = makeLive(weights, meta);
  await mkdir(folder, { recursive: true });
  const put = async (name: string, content: Uint8Array | string): Promise<void> => {
    const part = join(folder, `.${name}.part`);
    await writeFile(part, content);
    await rename(part, join(folder, name));
  };
  for (const [name, bytes] of Object.entries(files)) await put(name, bytes);
  await put("card.json", `${JSON.stringify(card, null, 2)}\n`);
  return card;
}
