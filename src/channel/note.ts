import type { ModeState } from "../pipeline/gain-timeline.js";
import type { StepOutcome } from "./step-runner.js";
import type { NoteUnit } from "./units.js";

/**
 * `onHighlight`, the metadata beside the programme: media time in milliseconds, mode and reason in which the sound leaves, the
 * sample, and the faces at that sample (boxes in fractions of the picture, score and share of the sound 0..1).
 */
export function highlightNote({ facesSample, faces }: StepOutcome, ptsMs: number, state: ModeState | null): NoteUnit {
  const reason = state?.reason ?? null;
  const value = {
    pts: Math.round(ptsMs),
    mode: state?.mode ?? "bypass",
    // Left out rather than null: mpegts.js cannot read AMF's null and drops whatever follows it.
    ...(reason === null ? {} : { reason }),
    sample: facesSample,
    faces: faces.map(({ id, box, score, speaking }) => ({ id, ...box, score, speaking })),
  };
  return { kind: "note", ptsMs, name: "onHighlight", value };
}
