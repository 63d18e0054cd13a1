/** A caller asked the pipeline for something it cannot do; `code` is stable and listed in src/codes.ts. */
export class PipelineError extends Error {
  constructor(
    readonly code: "SL_SOUND_NOT_RENDERED" | "SL_SOUND_NOT_CONTIGUOUS" | "SL_SOUND_FORGOTTEN" | "SL_QUEUE_FULL",
    message: string,
  ) {
    super(message);
    this.name = "PipelineError";
  }
}
