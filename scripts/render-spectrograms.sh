#!/usr/bin/env bash
# Draws models/live/spectrograms.png: 8 s of the demonstration, 0 to 5 kHz, from above: the mixture, what the shipped model keeps,
# the on-screen voice in truth, what it takes away, the off-screen voice in truth. Needs `make build` and ffmpeg.
#
#   scripts/render-spectrograms.sh
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
node dist/src/cli/main.js separate demo/talk.flv --out "$work/out" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
panel="atrim=8:16,asetpts=N/SR/TB,aformat=channel_layouts=mono,aresample=16000"
panel+=",showspectrumpic=s=900x150:legend=0:stop=5000:drange=70:color=fiery"
ffmpeg -v error -y -i demo/talk.flv -i "$work/out/onscreen.wav" -i demo/on-screen.flac -i "$work/out/offscreen.wav" -i demo/off-screen.flac \
  -filter_complex "[0:a]$panel[a];[1:a]$panel[b];[2:a]$panel[c];[3:a]$panel[d];[4:a]$panel[e];[a][b][c][d][e]vstack=inputs=5" \
  -frames:v 1 -pix_fmt pal8 models/live/spectrograms.png
