import { siSdr } from "../../val/metrics.js";
import { decode, mixVoices } from "../../val/mixtures.js";
import { WAY_NAMES } from "../bench.js";
import { type Condition, meanDb, medianDb, share, type Values } from "../condition.js";
import { bounded, levelChange, worstChange } from "../measures.js";
import { type Clip, otherVoices } from "../people.js";
import { held, slide } from "../pictures.js";
import { labelsOf, MOST_SECONDS } from "./mixed.js";

const judge = (before: Float32Array, after: Float32Array): Values => ({
  change: levelChange(before, after, { from: 0, to: before.length }),
  worst: worstChange(before, after),
  quality: bounded(siSdr(after, before)),
});

const small = (x: number): boolean => Math.abs(x) < 0.5;

/** Nobody talks over. */
export const TRANSPARENT: Condition = {
  name: "transparent",
  title: "Transparency: nobody talks over",
  meaning:
    "The visible person alone, as recorded. Change: level of the output against the input. SI-SDR: of the output, the input being the truth (100: untouched).",
  columns: [
    meanDb("change, mean (dB)", "product", "change"),
    share("under 0.5 dB", "product", "change", small),
    medianDb("SI-SDR, median (dB)", "product", "quality"),
    share("over 20 dB", "product", "quality", (x) => x > 20),
    meanDb("frozen picture: change, mean", "frozen", "change"),
    medianDb("frozen: SI-SDR, median", "frozen", "quality"),
  ],
  items: ({ people }) =>
    (people?.clips ?? []).map((clip) => ({
      name: clip.name,
      labels: labelsOf(clip, []),
      run: async (bench) => {
        const { mix } = mixVoices(decode(clip.file, Math.min(MOST_SECONDS, clip.seconds)), [], 0);
        const scores: Record<string, Values> = {};
        for (const way of WAY_NAMES) scores[way] = judge(mix, (await bench.separate(clip.file, mix, way)).sound);
        return scores;
      },
    })),
};

/** Pictures that say nothing: the sound must be left alone. */
const still = (
  name: string,
  title: string,
  what: string,
  make: (clip: Clip, seconds: number, out: string) => void,
): Condition => ({
  name,
  title,
  meaning: `Two people, equally loud, under ${what}, and nothing known from before. Change: level of the output against the input; worst: largest of any second.`,
  columns: [
    meanDb("change, mean (dB)", "product", "change"),
    medianDb("worst second, median (dB)", "product", "worst"),
    share("under 0.5 dB in every second", "product", "worst", small),
  ],
  items: ({ people, seed }) =>
    (people?.clips ?? []).map((clip, i) => {
      const others = otherVoices(people!, i, 1, seed);
      return {
        name: clip.name,
        labels: labelsOf(clip, others),
        run: async (bench) => {
          const seconds = Math.min(MOST_SECONDS, clip.seconds);
          const sounds = others.map((o) => decode(o.file, seconds));
          const { mix } = mixVoices(decode(clip.file, seconds), sounds, 0);
          const picture = bench.path("still.mov");
          make(clip, seconds, picture);
          return { product: judge(mix, (await bench.separate(picture, mix, "product")).sound) };
        },
      };
    }),
});

export const STILL: readonly Condition[] = [
  still("frozen", "Frozen picture", "one picture of the clip, held", (clip, seconds, out) =>
    held(clip.file, seconds, out),
  ),
  still("faceless", "Picture without a face", "a slide", (clip, seconds, out) => slide(clip.file, seconds, out)),
];
