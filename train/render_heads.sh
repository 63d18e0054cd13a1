#!/usr/bin/env bash
# Renders the training heads: bash render_heads.sh SYNTH_PARENT DATA OUT
# SYNTH_PARENT: folder that holds the `synth` package. 40 heads driven by recorded training voices, 30 by espeak-ng, 24 silent people.
set -eu
synth=$1; data=$(realpath "$2"); out=$(realpath -m "$3"); mkdir -p "$out"; cd "$synth"
one() { PYTHONDONTWRITEBYTECODE=1 python3 -m synth --size 320x320 "$@" >/dev/null; }
voices=$(python3 - "$data" <<'P'
import csv, random, sys
rows = [r for r in csv.DictReader(open(sys.argv[1] + "/audio/manifest.tsv"), delimiter="\t") if r["kind"] == "speech" and r["split"] == "train" and float(r["seconds"]) >= 11]
first = list({r["speaker"]: r for r in reversed(rows)}.values())[::-1]
random.seed(3)
random.shuffle(first)
print("\n".join(r["file"] + " " + r["gender"][:1] for r in first[:40]))
P
)
i=0
while read -r file gender; do
  sex=--no-female; [ "$gender" = f ] && sex=--female
  one --scene a --seed $((2000 + i)) --seconds 11 --voice-audio "$data/audio/$file" $sex --out "$out/r$i"
  i=$((i + 1))
done <<<"$voices"
for i in $(seq 0 29); do one --scene a --seed $((3000 + i)) --seconds 10 --out "$out/e$i"; done
for i in $(seq 0 23); do one --scene d --seed $((4000 + i)) --seconds 10 --out "$out/d$i"; done
