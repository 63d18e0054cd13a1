/**
 * The networks of Owens & Efros 2018 by the names of their release (spec section 1.2). `parts`: which of trunk and u-net a preset
 * has; `gamma`: whether the trunk's norms have a scale.
 */
export type PresetName =
  | "full"
  | "large"
  | "static"
  | "scratch"
  | "mono"
  | "no-audio"
  | "unet_pit"
  | "shift"
  | "shift_lowfps"
  | "cam"
  | "action"
  | "action-no-audio";

export type Preset = {
  readonly parts: { readonly trunk: boolean; readonly unet: boolean };
  /** Length of a window of the release; F = floor(seconds * 29.97). */
  readonly seconds: number;
  readonly gamma: boolean;
  /** The last stage keeps its 14x14 cells: class activation maps of twice the size. */
  readonly fineCam: boolean;
  /** What the trunk sees of the F frames: all, every fourth, or the middle one F times. */
  readonly frames: "all" | "every-fourth" | "middle";
  /** What it hears: both channels, their mean on both, or nothing (the sound's channels are zero at the fusion). */
  readonly sound: "stereo" | "mono" | "none";
  readonly optimiser: "adam" | "momentum";
  /** Prefix of the published file, and its step; null where none was published under a known name. */
  readonly checkpoint: string | null;
};

const separation: Preset = {
  parts: { trunk: true, unet: true },
  seconds: 2.135,
  gamma: true,
  fineCam: false,
  frames: "all",
  sound: "stereo",
  optimiser: "adam",
  checkpoint: null,
};

const alignment: Preset = {
  parts: { trunk: true, unet: false },
  seconds: 4.2,
  gamma: false,
  fineCam: false,
  frames: "all",
  sound: "stereo",
  optimiser: "momentum",
  checkpoint: null,
};

/** Recognition of actions (section 4.7); its classes are an option of the graph, for they are the data's. */
const action: Preset = { ...alignment, seconds: 2.56, gamma: true };

/** Where two presets are equal here, they differ in training only (section 1.2). */
export const presets: Readonly<Record<PresetName, Preset>> = {
  full: { ...separation, checkpoint: "sep/full/net.tf-160000" },
  large: { ...separation, checkpoint: "sep/large/net.tf-900000" },
  static: { ...separation, frames: "middle" },
  scratch: separation,
  mono: { ...separation, sound: "mono" },
  "no-audio": { ...separation, sound: "none" },
  unet_pit: { ...separation, parts: { trunk: false, unet: true }, checkpoint: "sep/unet-pit/net.tf-160000" },
  shift: { ...alignment, checkpoint: "shift/net.tf-650000" },
  shift_lowfps: { ...alignment, frames: "every-fourth" },
  cam: { ...alignment, fineCam: true, checkpoint: "cam/net.tf-675000" },
  action,
  "action-no-audio": { ...action, sound: "none" },
};
