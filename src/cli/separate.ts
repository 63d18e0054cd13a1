import { MAX_LOOK_AHEAD_MS, type Profile } from "../channel/latency.js";
import { CAM_DETAILS, type CamDetail } from "../file/cam-detail.js";
import { ENGINE_CHOICES, type EngineChoice } from "../model/engines/names.js";
import { command, UsageError } from "./command.js";

/** What file mode is asked to do; src/cli/run-separate.ts takes it. */
export type SeparateArguments = {
  readonly input: string;
  readonly out: string;
  readonly model: string;
  readonly mask:
    | "l"
    | "r"
    | { readonly x: number; readonly y: number; readonly width: number; readonly height: number }
    | null;
  readonly keep: "on-screen" | "off-screen";
  readonly strengthPercent: number;
  readonly profile?: Profile;
  readonly lookAheadMs?: number;
  readonly cam: boolean;
  readonly camModel?: string;
  readonly camDetail?: CamDetail;
  readonly camLimit?: number;
  readonly camCrop?: boolean;
  readonly paper: boolean;
  readonly releaseExact: boolean;
  readonly engine: EngineChoice;
  readonly json: boolean;
};

export const separateCommand = command({
  meta: { name: "separate", description: "Separates a file into on-screen and off-screen sound" },
  args: {
    input: { type: "positional", description: "media file", required: true },
    out: { type: "string", description: "folder for the results", valueHint: "DIR", required: true },
    model: {
      type: "string",
      description: "name below models/, or a path to a model folder",
      default: "live",
      valueHint: "NAME|PATH",
    },
    mask: {
      type: "string",
      description:
        "part of the picture greyed out for the model (who is there counts as off-screen): l, r, or x,y,w,h in fractions",
      valueHint: "l|r|x,y,w,h",
    },
    keep: { type: "enum", description: "which voice onscreen.mp4 keeps", options: ["on", "off"], default: "on" },
    strength: {
      type: "string",
      description: "how much of the suppression is applied, percent",
      default: "100",
      valueHint: "PCT",
    },
    profile: {
      type: "enum",
      description:
        "steps and look-ahead of a live channel of this profile (live models); left out: the longest look-ahead, 4 s",
      options: ["low", "balanced", "quality"],
    },
    lookAhead: {
      type: "string",
      description: "so much more is seen and heard before it is decided whose voice is whose (live models), 0 to 4000",
      valueHint: "MS",
    },
    cam: {
      type: "boolean",
      description:
        "also writes cam.mp4: heat where the sound comes from (a window model's activation map; else each face's share)",
    },
    camModel: {
      type: "string",
      description:
        "a second network (imported with --preset cam or shift) that draws cam.mp4 from whole pictures, and writes cam.jsonl",
      valueHint: "NAME|PATH",
    },
    camDetail: {
      type: "enum",
      description:
        "with --cam-model: the whole picture once, 25 sliding crops, or each of them with the sound moved by -2 to 2 s (slow)",
      options: [...CAM_DETAILS],
    },
    camLimit: {
      type: "string",
      description: "value of the map that is full heat (the release's fixed limit is 35); default: each window's own",
      valueHint: "VALUE",
    },
    camCrop: { type: "boolean", description: "with --cam-model: also crop.mp4, the square where the sound comes from" },
    paper: {
      type: "boolean",
      description:
        "window models: the predicted voices themselves, as the paper does it, in place of gains: mono, 48 kHz files of the model's 21 kHz",
    },
    releaseExact: {
      type: "boolean",
      description: "with --paper: to the letter of the authors' release (left channel, 1.5 times too loud, hard seams)",
    },
    engine: {
      type: "enum",
      description: "what computes the model: auto takes the fastest that gives the CPU's numbers",
      options: [...ENGINE_CHOICES],
      default: "auto",
    },
    json: { type: "boolean", description: "progress and results as JSON lines" },
  },
  async run({ args }) {
    const options: SeparateArguments = {
      input: args.input,
      out: args.out,
      model: args.model,
      mask: parseMask(args.mask),
      keep: args.keep === "off" ? "off-screen" : "on-screen",
      strengthPercent: parseStrength(args.strength),
      ...(args.profile !== undefined && { profile: args.profile as Profile }),
      ...(args.lookAhead !== undefined && { lookAheadMs: parseLookAhead(args.lookAhead) }),
      cam: args.cam === true || args.camModel !== undefined,
      ...(args.camModel !== undefined && { camModel: args.camModel }),
      ...(args.camDetail !== undefined && { camDetail: args.camDetail as CamDetail }),
      ...(args.camLimit !== undefined && { camLimit: parseLimit(args.camLimit) }),
      ...(args.camCrop && { camCrop: true }),
      paper: args.paper === true,
      releaseExact: args.releaseExact === true,
      engine: args.engine as EngineChoice,
      json: args.json === true,
    };
    if (options.camModel === undefined && (options.camCrop || options.camDetail !== undefined))
      throw new UsageError("--cam-crop and --cam-detail go with --cam-model");
    if (options.camLimit !== undefined && !options.cam)
      throw new UsageError("--cam-limit goes with --cam or --cam-model");
    if (options.releaseExact && !options.paper) throw new UsageError("--release-exact goes with --paper");
    if (options.paper && options.strengthPercent !== 100)
      throw new UsageError("--strength acts on gains; --paper has none");
    // Loaded only when asked for: the other commands need no model.
    const { runSeparate } = await import("./run-separate.js");
    const status = await runSeparate(options);
    process.exitCode = status ?? 0;
  },
});

/** @throws UsageError */
export function parseMask(text: string | undefined): SeparateArguments["mask"] {
  if (text === undefined) return null;
  if (text === "l" || text === "r") return text;
  const [x, y, width, height, ...rest] = text
    .split(",")
    .map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  const good = [x, y, width, height].every((v) => v !== undefined && v >= 0 && v <= 1) && rest.length === 0;
  if (!good || width! * height! === 0 || x! + width! > 1.000001 || y! + height! > 1.000001) {
    throw new UsageError(
      `--mask ${text}: allowed are l, r, or x,y,w,h as fractions of the picture that lie inside it, such as 0.5,0,0.5,1`,
    );
  }
  return { x: x!, y: y!, width: width!, height: height! };
}

/** @throws UsageError */
export function parseStrength(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text.replace(/%$/, ""));
  if (!(value >= 0 && value <= 100)) throw new UsageError(`--strength ${text}: allowed is a number from 0 to 100`);
  return value;
}

/** @throws UsageError */
function parseLookAhead(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value >= 0 && value <= MAX_LOOK_AHEAD_MS))
    throw new UsageError(`--look-ahead ${text}: allowed is a number of milliseconds from 0 to ${MAX_LOOK_AHEAD_MS}`);
  return value;
}

/** @throws UsageError */
function parseLimit(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value > 0 && value < 1e9)) throw new UsageError(`--cam-limit ${text}: allowed is a number above 0`);
  return value;
}
