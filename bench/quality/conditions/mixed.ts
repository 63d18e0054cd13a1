import { Resampler } from "../../../src/pipeline/resample.js";
import { siSdr } from "../../val/metrics.js";
import { decode, type Mixed, mixVoices, renderedPairs } from "../../val/mixtures.js";
import { type Bench, WAY_NAMES } from "../bench.js";
import { BssEval } from "../bss-eval.js";
import { type Condition, type Item, meanDb, type Scores, type Sources, share, type Values } from "../condition.js";
import { bounded } from "../measures.js";
import { type Clip, otherVoices, type Voice } from "../people.js";

export const MOST_SECONDS = 10;

/** BSS-eval works at 16 kHz: there its filters are 32 ms, and most clips hold little above 8 kHz to be judged. */
const toJudge = new Resampler(1, 3);
const at16k = (x: Float32Array): Float32Array => toJudge.run(x, 0, Math.floor(x.length / 3));

/** Scores of estimates of the visible person's voice. */
export class Judge {
  readonly #mixed: Mixed;
  readonly #bss: BssEval;
  readonly #before: number;

  constructor(mixed: Mixed) {
    this.#mixed = mixed;
    this.#bss = new BssEval([at16k(mixed.on), at16k(mixed.off)]);
    this.#before = siSdr(mixed.mix, mixed.on);
  }

  score(sound: Float32Array): Values {
    const { on, off, others } = this.#mixed;
    const quality = siSdr(sound, on);
    const { sdr, sir, sar } = this.#bss.score(at16k(sound), 0);
    return {
      gain: bounded(quality - this.#before),
      kept: Number(others.concat([off]).every((voice) => quality > siSdr(sound, voice))),
      sdr: bounded(sdr),
      sir: bounded(sir),
      sar: bounded(sar),
    };
  }
}

async function judged(bench: Bench, picture: string, mixed: Mixed): Promise<Scores> {
  const judge = new Judge(mixed);
  const scores: Record<string, Values> = { nothing: judge.score(mixed.mix) };
  for (const way of WAY_NAMES) {
    const { sound, share: separated } = await bench.separate(picture, mixed.mix, way);
    scores[way] = { ...judge.score(sound), separated };
  }
  return scores;
}

const OTHER = { true: "two voices of one gender", false: "a man and a woman" } as const;

export function labelsOf(clip: Pick<Clip, "domain" | "gender" | "language">, others: readonly Voice[]) {
  const labels: Record<string, string> = { domain: clip.domain };
  const [other] = others;
  if (other === undefined) return labels;
  if (clip.gender !== null && other.gender !== null) labels.gender = OTHER[`${clip.gender === other.gender}`];
  if (clip.language !== null)
    labels.visible = clip.language === "en" ? "visible person speaks English" : "visible person: another language";
  if (other.language !== null)
    labels.heard = other.language === "en" ? "off-screen voice in English" : "off-screen voice: another language";
  return labels;
}

function peopleItems({ people, seed }: Sources, voices: number, levelDb: number): Item[] {
  if (people === null) return [];
  return people.clips.map((clip, i) => {
    const others = otherVoices(people, i, voices, seed);
    return {
      name: clip.name,
      labels: labelsOf(clip, others),
      run: (bench) => {
        const seconds = Math.min(MOST_SECONDS, clip.seconds);
        const sounds = others.map((o) => decode(o.file, seconds));
        return judged(bench, clip.file, mixVoices(decode(clip.file, seconds), sounds, levelDb));
      },
    };
  });
}

function renderedItems({ rendered }: Sources): Item[] {
  if (rendered === null) return [];
  return renderedPairs(rendered).map((pair) => {
    const [on, off] = pair.genders;
    return {
      name: pair.name,
      labels: on !== null && off !== null ? { gender: OTHER[`${on === off}`] } : {},
      run: (bench) =>
        judged(
          bench,
          pair.picture,
          mixVoices(decode(pair.onVoice, pair.seconds), [decode(pair.offVoice, pair.seconds)], 0),
        ),
    };
  });
}

const COLUMNS = [
  meanDb("SI-SDR improvement (dB)", "product", "gain"),
  share("above 0", "product", "gain"),
  share("kept", "product", "kept"),
  meanDb("SDR", "product", "sdr"),
  meanDb("SIR", "product", "sir"),
  meanDb("SAR", "product", "sar"),
  meanDb("frozen picture: improvement", "frozen", "gain"),
  share("frozen: kept", "frozen", "kept"),
  meanDb("nothing done: SDR", "nothing", "sdr"),
  share("nothing done: kept", "nothing", "kept"),
];

const MEANING =
  "Up to 10 s of a visible person, somebody else off screen all the while. Improvement: SI-SDR of the visible person's voice, output against " +
  "mixture, at 48 kHz. Kept: the output is nearer (SI-SDR) to the visible person's voice than to any other one. SDR, SIR, SAR: BSS-eval v3, " +
  "512 taps at 16 kHz, against the visible voice and all others together.";

const mixed = (name: string, title: string, items: (sources: Sources) => Item[], more = ""): Condition => ({
  name,
  title,
  meaning: MEANING + more,
  columns: COLUMNS,
  items,
});

export const MIXED: readonly Condition[] = [
  mixed("level0", "Two people, both equally loud", (s) => peopleItems(s, 1, 0)),
  mixed("level-5", "The visible person 5 dB below the other", (s) => peopleItems(s, 1, -5)),
  mixed("level+5", "The visible person 5 dB above the other", (s) => peopleItems(s, 1, 5)),
  mixed(
    "voices2",
    "Two voices off screen",
    (s) => peopleItems(s, 2, 0),
    " The others are equally loud, together as loud as the visible one.",
  ),
  mixed(
    "voices3",
    "Three voices off screen",
    (s) => peopleItems(s, 3, 0),
    " The others are equally loud, together as loud as the visible one.",
  ),
  mixed("rendered", "Rendered heads, both equally loud", renderedItems),
];
