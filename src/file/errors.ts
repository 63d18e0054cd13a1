/** Why file mode gave up; the message names the file and what to do. */
export class FileError extends Error {
  override readonly name = "FileError";
  constructor(
    readonly code:
      | "SL_FILE_MISSING"
      | "SL_FILE_NOT_MEDIA"
      | "SL_FILE_NO_SOUND"
      | "SL_FILE_CODEC"
      | "SL_FILE_MODEL"
      | "SL_FILE_TOO_SHORT"
      | "SL_FILE_OUTPUT"
      | "SL_FILE_STOPPED"
      | "SL_FILE_TOOLS"
      | "SL_FILE_ENCODER"
      | "SL_FILE_MUX"
      | "SL_INFERENCE_FAILED",
    message: string,
  ) {
    super(message);
  }
}

/** Something that the result suffers from, but not so much that there is none. */
export type FileWarning = {
  readonly code:
    | "SL_FILE_CUT_OFF"
    | "SL_FILE_NO_PICTURE"
    | "SL_FILE_JUMP"
    | "SL_FILE_RESIZED"
    | "SL_FILE_CODEC"
    | "SL_FILE_MUX"
    | "SL_ENGINE_FALLBACK";
  readonly message: string;
};
