import { z } from "zod";
import { channelConfig } from "../../config/schema.js";
import type { ChannelPatch } from "../../transport/ipc/messages.js";
import { Problem } from "./problem.js";

const { bypass, keep, strengthPercent, attenuationLimitDb } = channelConfig.shape;

/** Body of PATCH /api/channels/NAME: the same limits as in the file, none filled in. */
const channelPatch = z.strictObject({
  bypass: bypass.unwrap().optional(),
  keep: keep.unwrap().optional(),
  strengthPercent: strengthPercent.unwrap().optional(),
  attenuationLimitDb: attenuationLimitDb.unwrap().optional(),
});

/** @throws Problem 400 with every fault */
export function parsePatch(body: unknown): ChannelPatch {
  const parsed = channelPatch.safeParse(body);
  if (!parsed.success) {
    const errors = parsed.error.issues.map((issue) => ({
      path: issue.path.map(String).join("."),
      message: issue.message,
    }));
    throw new Problem(
      400,
      "SL_HTTP_INVALID",
      "Not valid",
      errors.map((e) => `${e.path || "body"}: ${e.message}`).join("; "),
      { errors },
    );
  }
  // JSON has no undefined: what is optional is absent.
  const patch = parsed.data as ChannelPatch;
  if (Object.keys(patch).length === 0) {
    throw new Problem(
      400,
      "SL_HTTP_INVALID",
      "Nothing to change",
      `give at least one of ${Object.keys(channelPatch.shape).join(", ")}`,
    );
  }
  return patch;
}
