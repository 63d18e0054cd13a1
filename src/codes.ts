/** Every reason and error code of Sightline with one sentence for people. docs/codes.md lists the same (a test compares). */
export const CODES = {
  SL_MODEL_LATE: "The model's gains did not arrive in time; the sound is left as it is until they do.",
  SL_NO_FACE: "No face that counts as on-screen is visible; the sound is left as it is.",
  SL_PICTURE_FROZEN: "The picture has not changed for a second; the sound is left as it is.",
  SL_BYPASS_OPERATOR: "An operator switched the separation off.",
  SL_INFERENCE_DOWN: "The inference process does not answer; the sound is left as it is until it is back.",
  SL_VISIBLE_SILENT: "The visible people are silent and the channel is set to keep the sound then.",
  SL_SOUND_NOT_RENDERED: "Sound was pushed into the separator but never rendered; its ring is full.",
  SL_SOUND_NOT_CONTIGUOUS: "A block of sound does not begin where the one before it ended.",
  SL_SOUND_FORGOTTEN: "Sound was asked for that has already left the ring.",
  SL_QUEUE_FULL: "A bounded queue with the policy `fail` was full.",
} as const satisfies Record<string, string>;

export type Code = keyof typeof CODES;
