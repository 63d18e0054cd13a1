import { siSdr } from "../../val/metrics.js";
import { decode, mixVoices } from "../../val/mixtures.js";
import { WAY_NAMES } from "../bench.js";
import { type Condition, meanDb, percent, share, type Values } from "../condition.js";
import { bounded } from "../measures.js";
import { otherClip } from "../people.js";
import { labelsOf, MOST_SECONDS } from "./mixed.js";

/** One sound, each of the two pictures. */
export const SWAP: Condition = {
  name: "swap",
  title: "Swap test: one mixture, each of its two people shown in turn",
  meaning:
    "The sound is the same both times, so nothing but the picture says whom to keep. Right: the output is nearer (SI-SDR) to the voice of who " +
    "is shown. Both right: with the one picture and with the other; something that does not look at all is right in half of the pictures and never in both. " +
    "Moved: by how many dB the SI-SDR of a voice is better with its own picture than with the other's.",
  columns: [
    percent("right of all pictures", "product", "right"),
    share("both right", "product", "both"),
    meanDb("moved (dB)", "product", "moved"),
    percent("frozen picture: right", "frozen", "right"),
    share("frozen: both right", "frozen", "both"),
    meanDb("frozen: moved", "frozen", "moved"),
  ],
  items: ({ people, seed }) =>
    (people?.clips ?? []).map((clip, i) => {
      const other = otherClip(people!, i, seed);
      return {
        name: clip.name,
        labels: labelsOf(clip, [other]),
        run: async (bench) => {
          const seconds = Math.min(MOST_SECONDS, clip.seconds, other.seconds);
          const { on, off, mix } = mixVoices(decode(clip.file, seconds), [decode(other.file, seconds)], 0);
          const scores: Record<string, Values> = {};
          for (const way of WAY_NAMES) {
            const a = (await bench.separate(clip.file, mix, way)).sound;
            const b = (await bench.separate(other.file, mix, way)).sound;
            const [aOn, aOff, bOn, bOff] = [siSdr(a, on), siSdr(a, off), siSdr(b, on), siSdr(b, off)];
            const [first, second] = [Number(aOn > aOff), Number(bOff > bOn)];
            scores[way] = {
              right: (first + second) / 2,
              both: first * second,
              moved: bounded((aOn - bOn + bOff - aOff) / 2),
            };
          }
          return scores;
        },
      };
    }),
};
