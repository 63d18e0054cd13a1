import { siSdr } from "../../val/metrics.js";
import { decode, mixVoices } from "../../val/mixtures.js";
import { WAY_NAMES } from "../bench.js";
import { type Condition, meanDb, share, type Values } from "../condition.js";
import { bounded, span } from "../measures.js";
import { otherVoices } from "../people.js";
import { slideAfter } from "../pictures.js";
import { labelsOf } from "./mixed.js";

/** Seconds with the face, then without. */
const FACE = 6;
const SLIDE = 6;
/** By so much the right voice must come forward: sound left as it is, in which it was the louder one, is no choice. */
const CHOSEN_DB = 0.5;

/** A face, then a slide, while both people go on. */
export const CUT_AWAY: Condition = {
  name: "cutaway",
  title: "Cut-away: 6 s of the face, then 6 s of a slide",
  meaning:
    "Both people talk for 12 s, equally loud; the picture shows one of them for 6 s, then a slide. Kept and improvement as with two people, for " +
    "each half by itself. Chosen: kept, and further ahead of the other voice than in the mixture, by 0.5 dB at least. Without a memory of the voice the second half cannot differ from doing nothing.",
  columns: [
    share("face: kept", "product", "keptFace"),
    meanDb("face: improvement (dB)", "product", "gainFace"),
    share("slide: kept", "product", "keptSlide"),
    share("slide: chosen", "product", "chosenSlide"),
    meanDb("slide: improvement (dB)", "product", "gainSlide"),
    share("frozen picture, first half: kept", "frozen", "keptFace"),
    share("frozen, second half: chosen", "frozen", "chosenSlide"),
    meanDb("frozen, second half: improvement", "frozen", "gainSlide"),
    share("nothing done, second half: kept", "nothing", "keptSlide"),
  ],
  items: ({ people, seed }) =>
    (people?.clips ?? []).flatMap((clip, i) => {
      if (clip.seconds < FACE + SLIDE) return [];
      const [other] = otherVoices(people!, i, 1, seed);
      return {
        name: clip.name,
        labels: labelsOf(clip, [other!]),
        run: async (bench) => {
          const seconds = FACE + SLIDE;
          const { on, off, mix } = mixVoices(decode(clip.file, seconds), [decode(other!.file, seconds)], 0);
          const picture = bench.path("cutaway.mov");
          slideAfter(clip.file, FACE, SLIDE, picture);
          const judge = (sound: Float32Array): Values => {
            const values: Record<string, number> = {};
            for (const [half, from, to] of [
              ["Face", 0, FACE],
              ["Slide", FACE, seconds],
            ] as const) {
              const where = span(from, to);
              const cut = (x: Float32Array): Float32Array => x.subarray(where.from, where.to);
              const quality = siSdr(cut(sound), cut(on));
              const ahead = quality - siSdr(cut(sound), cut(off));
              values[`kept${half}`] = Number(ahead > 0);
              const aheadBefore = siSdr(cut(mix), cut(on)) - siSdr(cut(mix), cut(off));
              values[`chosen${half}`] = Number(ahead > 0 && ahead > aheadBefore + CHOSEN_DB);
              values[`gain${half}`] = bounded(quality - siSdr(cut(mix), cut(on)));
            }
            return values;
          };
          const scores: Record<string, Values> = { nothing: judge(mix) };
          for (const way of WAY_NAMES) scores[way] = judge((await bench.separate(picture, mix, way)).sound);
          return scores;
        },
      };
    }),
};
