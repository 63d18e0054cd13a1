import { SAMPLE_RATE } from "../../../src/pipeline/types.js";
import { decode, mixVoices } from "../../val/mixtures.js";
import { type Bench, WAY_NAMES } from "../bench.js";
import { type Condition, meanDb, medianDb, type Scores, share, type Values } from "../condition.js";
import { levelChange, longestPause, passed, type Span, withoutSilentBegin } from "../measures.js";
import { type Clip, otherVoices, type Voice } from "../people.js";
import { type Dwell, dwell, dwellFrames, dwellSound, FPS } from "../pictures.js";
import { labelsOf } from "./mixed.js";

const FRAME = SAMPLE_RATE / FPS;
/** Seconds: searched for a pause, speech before it, and after it; of the lengthened silence; of the least pause. */
export const SEARCHED = 30;
const BEFORE = 3;
const LEAST_BEFORE = 1.5;
const AFTER = 2;
const SILENCE = 4;
const LEAST_PAUSE = 0.5;
/** Lips still close after a word and open before the next one: so much of the pause is left out (seconds). */
const CLOSING = 0.08;
const OPENING = 0.16;

/** Where in a clip its longest pause is played back and forth for SILENCE seconds; null: it has none. */
export function dwellIn(voice: Float32Array): { plan: Dwell; pause: Span } | null {
  const pause = longestPause(voice, LEAST_BEFORE, AFTER, LEAST_PAUSE);
  if (pause === null) return null;
  const from = Math.ceil(pause.from / FRAME + CLOSING * FPS);
  const to = Math.floor(pause.to / FRAME - OPENING * FPS);
  const begin = Math.max(0, Math.floor(pause.from / FRAME - BEFORE * FPS));
  const end = Math.floor(Math.min(voice.length, pause.to + AFTER * SAMPLE_RATE) / FRAME);
  return { plan: { begin, from, to, rounds: Math.ceil((SILENCE * FPS) / (2 * (to - from))), end }, pause };
}

async function run(bench: Bench, clip: Clip, other: Voice): Promise<Scores | string> {
  const voice = decode(clip.file, Math.min(SEARCHED, clip.seconds));
  const found = dwellIn(voice);
  if (found === null) return `no pause of ${LEAST_PAUSE} s`;
  const { plan, pause } = found;
  const frames = dwellFrames(plan);
  // Sample numbers in what is played: the other voice begins, the next word begins.
  const begins = (plan.from - plan.begin) * FRAME;
  const word = (plan.to - plan.begin + 2 * plan.rounds * (plan.to - plan.from)) * FRAME + pause.to - plan.to * FRAME;
  const length = frames * FRAME;
  const talk = withoutSilentBegin(decode(other.file, Math.min(SEARCHED, other.seconds)));
  const whole = Float32Array.from({ length }, (_, i) => talk[i % talk.length]!);
  // Levels are set by the whole voices; then the other one is silent until the pause.
  const { on, off } = mixVoices(dwellSound(voice, plan), [whole], 0);
  off.fill(0, 0, begins);
  const mix = on.map((x, i) => x + off[i]!);
  const picture = bench.path("silent.mov");
  dwell(clip.file, plan, picture);
  const judge = (sound: Float32Array): Values => ({
    down: levelChange(mix, sound, { from: begins + SAMPLE_RATE, to: word - FRAME }),
    word: passed(mix, sound, on, { from: word, to: word + 0.2 * SAMPLE_RATE }),
  });
  const scores: Record<string, Values> = {};
  for (const way of WAY_NAMES) scores[way] = judge((await bench.separate(picture, mix, way)).sound);
  return scores;
}

/** A visible person who says nothing while another voice is heard. */
export const SILENT: Condition = {
  name: "silent",
  title: "Silent visible person under a going-on voice",
  meaning:
    "A clip of one person in which the longest pause is played back and forth for 4 s or more (the face lives, the lips rest), with another " +
    "voice from there to the end. Down: level from 1 s after that voice began to the end of the silence, output against input. Next word: " +
    "energy of the visible person's voice in its first 200 ms that is let through. Clips without a pause of 0.5 s are left out.",
  columns: [
    medianDb("down, median (dB)", "product", "down"),
    meanDb("down, mean", "product", "down"),
    share("10 dB or more", "product", "down", (x) => x <= -10),
    medianDb("next word, median (dB)", "product", "word"),
    share("loses under 3 dB", "product", "word", (x) => x > -3),
    medianDb("frozen picture: down, median", "frozen", "down"),
    share("frozen: 10 dB or more", "frozen", "down", (x) => x <= -10),
    medianDb("frozen: next word, median", "frozen", "word"),
  ],
  items: ({ people, seed }) =>
    (people?.clips ?? []).map((clip, i) => {
      const [other] = otherVoices(people!, i, 1, seed);
      return { name: clip.name, labels: labelsOf(clip, [other!]), run: (bench) => run(bench, clip, other!) };
    }),
};
