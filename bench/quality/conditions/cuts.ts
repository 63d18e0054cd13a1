import { siSdr, speechRms } from "../../val/metrics.js";
import { decode, type Mixed, mixVoices } from "../../val/mixtures.js";
import { type Bench, WAY_NAMES } from "../bench.js";
import { type Condition, meanDb, medianDb, type Scores, share, type Values } from "../condition.js";
import { bounded, levelChange, passed, span } from "../measures.js";
import { type Clip, otherClip, otherVoices, type People, type Voice } from "../people.js";
import { cutTo, type Dwell, dwell, slideBetween } from "../pictures.js";
import { labelsOf } from "./mixed.js";
import { dwellIn, SEARCHED } from "./silent.js";

/** Every item lasts so long; a cut comes here, or a slide lies between two moments. */
const SECONDS = 12;
const CUT = 6;
const SLIDE = { from: 5, to: 7 } as const;
/** What is judged right after a cut, in which a face that begins anew cannot be decided yet. */
const SOON = 2;

const enough = (people: People, i: number): boolean => people.clips[i]!.seconds >= SECONDS;

/** Improvement and kept in the spans by name. */
function judge(
  { on, off, mix }: Mixed,
  sound: Float32Array,
  spans: Readonly<Record<string, readonly [number, number]>>,
): Values {
  const values: Record<string, number> = {};
  for (const [name, [from, to]] of Object.entries(spans)) {
    const where = span(from, to);
    const cut = (x: Float32Array): Float32Array => x.subarray(where.from, where.to);
    const quality = siSdr(cut(sound), cut(on));
    values[`gain${name}`] = bounded(quality - siSdr(cut(mix), cut(on)));
    values[`kept${name}`] = Number(quality > siSdr(cut(sound), cut(off)));
  }
  return values;
}

async function judged(
  bench: Bench,
  picture: string,
  mixed: Mixed,
  values: (sound: Float32Array) => Values,
): Promise<Scores> {
  const scores: Record<string, Values> = { nothing: values(mixed.mix) };
  for (const way of WAY_NAMES) scores[way] = values((await bench.separate(picture, mixed.mix, way)).sound);
  return scores;
}

const columns = (before: string) => [
  meanDb(`${before}: improvement (dB)`, "product", "gainBefore"),
  meanDb("first 2 s after the cut: improvement", "product", "gainSoon"),
  share("kept", "product", "keptSoon"),
  meanDb("all after the cut: improvement", "product", "gainAfter"),
  share("kept", "product", "keptAfter"),
  meanDb("frozen picture, all after: improvement", "frozen", "gainAfter"),
  share("frozen: kept", "frozen", "keptAfter"),
  share("nothing done, all after: kept", "nothing", "keptAfter"),
];

const BACK: Condition = {
  name: "back",
  title: "Back from a slide: 5 s of the face, 2 s of a slide, 5 s of the face",
  meaning:
    "Both people talk for 12 s, equally loud. The face that comes back is a new one to the tracker. Improvement and kept as with two people, for each span by itself.",
  columns: columns("first 5 s"),
  items: ({ people, seed }) =>
    (people?.clips ?? []).flatMap((clip, i) => {
      if (!enough(people!, i)) return [];
      const [other] = otherVoices(people!, i, 1, seed);
      return {
        name: clip.name,
        labels: labelsOf(clip, [other!]),
        run: (bench) => {
          const mixed = mixVoices(decode(clip.file, SECONDS), [decode(other!.file, SECONDS)], 0);
          const picture = bench.path("back.mov");
          slideBetween(clip.file, SLIDE.from, SLIDE.to, SECONDS, picture);
          const spans = {
            Before: [0, SLIDE.from],
            Soon: [SLIDE.to, SLIDE.to + SOON],
            After: [SLIDE.to, SECONDS],
          } as const;
          return judged(bench, picture, mixed, (sound) => judge(mixed, sound, spans));
        },
      };
    }),
};

/** The voices of two clips, one after the other, each for as long as it is seen. */
function inTurn(first: Clip, second: Clip): Float32Array {
  const half = span(0, CUT).to;
  const [a, b] = [first, second].map((clip) => decode(clip.file, CUT).subarray(0, half)) as [
    Float32Array,
    Float32Array,
  ];
  // Equally loud, as at a mixing desk.
  const level = speechRms(a) / speechRms(b);
  const both = new Float32Array(2 * half);
  both.set(a);
  both.set(
    b.map((x) => x * level),
    half,
  );
  return both;
}

const pairs = (people: People | null, seed: number) =>
  (people?.clips ?? []).flatMap((clip, i) => {
    if (clip.seconds < CUT) return [];
    const second = otherClip(people!, i, seed);
    return second.seconds < CUT ? [] : [{ clip, second, i }];
  });

const NEXT: Condition = {
  name: "next",
  title: "Another person: 6 s of one, a cut, 6 s of the next, one interpreter over both",
  meaning:
    "Each person talks while seen, a third voice talks all the time, as loud as each of them. Improvement and kept as with two people, for each span by itself.",
  columns: columns("first person"),
  items: ({ people, seed }) =>
    pairs(people, seed).map(({ clip, second, i }) => {
      const [interpreter] = otherVoices(people!, i, 2, seed).filter((v) => v.person !== second.person);
      return {
        name: clip.name,
        labels: labelsOf(clip, [interpreter!]),
        run: (bench) => {
          const mixed = mixVoices(inTurn(clip, second), [decode(interpreter!.file, SECONDS)], 0);
          const picture = bench.path("next.mov");
          cutTo(clip.file, CUT, second.file, CUT, picture);
          const spans = { Before: [0, CUT], Soon: [CUT, CUT + SOON], After: [CUT, SECONDS] } as const;
          return judged(bench, picture, mixed, (sound) => judge(mixed, sound, spans));
        },
      };
    }),
};

/** Longest picture of a listener. */
const LISTENS = 4;

/** The next person in the list who makes a pause, and where it is. */
function listenerFor({ clips }: People, i: number, heard: Voice): { second: Clip; rest: Dwell } | null {
  const others = [...clips.slice(i), ...clips.slice(0, i)].filter(
    (c) => c.person !== clips[i]!.person && c.person !== heard.person,
  );
  for (const second of others) {
    const found = dwellIn(decode(second.file, SEARCHED));
    if (found !== null) return { second, rest: found.plan };
  }
  return null;
}

const REACTION: Condition = {
  name: "reaction",
  title: "Reaction shot: 6 s of who speaks, then 4 s of somebody who listens",
  meaning:
    "Both people talk for 10 s, equally loud; after 6 s the picture shows somebody else in a pause of speech (played back and forth). Let through: energy of the first " +
    "person's voice that passes the gains while the listener is seen.",
  columns: [
    meanDb("face: improvement (dB)", "product", "gainBefore"),
    medianDb("listener: voice let through, median (dB)", "product", "through"),
    share("over -3 dB", "product", "through", (x) => x > -3),
    meanDb("listener: improvement", "product", "gainAfter"),
    share("kept", "product", "keptAfter"),
    medianDb("frozen picture: let through, median", "frozen", "through"),
    share("nothing done: kept", "nothing", "keptAfter"),
  ],
  items: ({ people, seed }) =>
    (people?.clips ?? []).flatMap((clip, i) => {
      if (clip.seconds < CUT + LISTENS) return [];
      const [other] = otherVoices(people!, i, 1, seed);
      return {
        name: clip.name,
        labels: labelsOf(clip, [other!]),
        run: async (bench) => {
          const listening = listenerFor(people!, i, other!);
          if (listening === null) return "nobody listens";
          const { second, rest } = listening;
          const seconds = CUT + LISTENS;
          const mixed = mixVoices(decode(clip.file, seconds), [decode(other!.file, seconds)], 0);
          const listener = bench.path("listener.mov");
          dwell(second.file, { ...rest, begin: rest.from, end: rest.to + 1 }, listener);
          const picture = bench.path("reaction.mov");
          cutTo(clip.file, CUT, listener, seconds - CUT, picture);
          const spans = { Before: [0, CUT], After: [CUT, seconds] } as const;
          return judged(bench, picture, mixed, (sound) => ({
            ...judge(mixed, sound, spans),
            through: passed(mixed.mix, sound, mixed.on, span(CUT, seconds)),
          }));
        },
      };
    }),
};

const under = (limit: number) => (x: number) => Math.abs(x) < limit;

const TURN: Condition = {
  name: "turn",
  title: "Taking turns: 6 s of one person, a cut, 6 s of the next, nobody over them",
  meaning:
    "As with another person, without the interpreter: what was believed of the first voice must not cost the second one. Level of the output against the input.",
  columns: [
    meanDb("first person: change (dB)", "product", "before"),
    meanDb("first 2 s after the cut: change", "product", "soon"),
    share("under 1 dB", "product", "soon", under(1)),
    meanDb("all after the cut: change", "product", "after"),
    share("under 1 dB", "product", "after", under(1)),
    meanDb("frozen picture, all after: change", "frozen", "after"),
  ],
  items: ({ people, seed }) =>
    pairs(people, seed).map(({ clip, second }) => ({
      name: clip.name,
      labels: labelsOf(clip, []),
      run: (bench) => {
        const mixed = mixVoices(inTurn(clip, second), [], 0);
        const picture = bench.path("turn.mov");
        cutTo(clip.file, CUT, second.file, CUT, picture);
        return judged(bench, picture, mixed, (sound) => ({
          before: levelChange(mixed.mix, sound, span(0, CUT)),
          soon: levelChange(mixed.mix, sound, span(CUT, CUT + SOON)),
          after: levelChange(mixed.mix, sound, span(CUT, SECONDS)),
        }));
      },
    })),
};

/** What a cut costs, and what is remembered over it. */
export const CUTS: readonly Condition[] = [BACK, NEXT, REACTION, TURN];
