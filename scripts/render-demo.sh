#!/usr/bin/env bash
# Renders the demonstration clip of demo/ again: a talking head and an interpreter who is not in the picture, both made up
# (drawn faces, espeak-ng voices), so that nothing of anybody else is in it.
#
#   scripts/render-demo.sh PATH/TO/synth [WORKDIR]
#
# PATH/TO/synth is the folder of the talking-head renderer (a Python package called synth). WORKDIR keeps the raw render; if it
# already holds one, only the encoding is repeated.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,8p' "$0" >&2; exit 2; }
synth=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
work=${2:-$(mktemp -d)}
seed=42
seconds=24 # 24 s = 720 pictures at 30 fps = 1125 AAC frames of 1024 samples: picture and sound loop at the same instant

if [ ! -f "$work/truth.json" ]; then
  (cd "$(dirname "$synth")" && PYTHONDONTWRITEBYTECODE=1 python3 -m synth --scene b --seed $seed --seconds $seconds \
    --size 1280x720 --fps 30 --view front --occlude none --background studio --language en --off-language de \
    --gain-db 0 --crf 10 --out "$work")
fi

# Picture: no B-frames, a key frame every 2 s and none elsewhere, so that the first picture of the next loop is a key frame.
# The renderer's film grain is smoothed a little: it costs most of the bits and shows nothing.
ffmpeg -v error -y -i "$work/clip.mp4" -an -vf hqdn3d=2:2:5:5 -c:v libx264 -preset slower -profile:v high -bf 0 -g 60 \
  -keyint_min 60 -sc_threshold 0 -b:v 640k -maxrate 900k -bufsize 1800k -pix_fmt yuv420p -threads 1 \
  -fflags +bitexact -flags:v +bitexact "$work/picture.h264"

# Sound: three rounds are encoded and the middle one is cut out frame by frame. Its first frame overlaps with the end of the round
# before it, so a player that decodes round after round hears no seam. 20 ms fades keep the stems from beginning in mid-wave.
fade="afade=t=in:d=0.02,afade=t=out:st=$(python3 -c "print($seconds - 0.02)"):d=0.02"
ffmpeg -v error -y -i "$work/on_screen.wav" -i "$work/off_screen.wav" -filter_complex \
  "[0]$fade[a];[1]$fade[b];[a][b]amix=inputs=2:normalize=0,pan=stereo|c0=c0|c1=c0" -c:a pcm_s16le "$work/mix.wav"
ffmpeg -v error -y -stream_loop 2 -i "$work/mix.wav" -c:a aac -b:a 112k -ar 48000 -fflags +bitexact -flags:a +bitexact \
  -f adts "$work/rounds.aac"
python3 - "$work/rounds.aac" "$work/sound.aac" $seconds <<'PY'
import sys
data = open(sys.argv[1], "rb").read()
count = int(sys.argv[3]) * 48000 // 1024
frames, at = [], 0
while at + 7 <= len(data):
    size = ((data[at + 3] & 3) << 11) | (data[at + 4] << 3) | (data[at + 5] >> 5)
    frames.append(data[at : at + size])
    at += size
# The encoder's delay is one frame: frame j decodes to the samples from (j - 1) * 1024 on.
open(sys.argv[2], "wb").write(b"".join(frames[count + 1 : 2 * count + 1]))
PY
ffmpeg -v error -y -r 30 -i "$work/picture.h264" -i "$work/sound.aac" -map 0:v -map 1:a -c copy -map_metadata -1 \
  -fflags +bitexact -flvflags no_duration_filesize -f flv "$here/demo/talk.flv"

# What is true about the clip, for tests: the two voices and where face and mouth are. The voices are lossless (a lossy codec would
# not add up sample by sample) but plain: 16 kHz, 10 of 16 bits.
for stem in on_screen off_screen; do
  ffmpeg -v error -y -i "$work/$stem.wav" -ac 1 -ar 16000 -sample_fmt s16 -c:a flac -compression_level 12 \
    -af "$fade,aresample=16000,volume=1/64:precision=double,aformat=s16,volume=64:precision=fixed" \
    -fflags +bitexact -flags:a +bitexact "$here/demo/${stem/_/-}.flac"
done
python3 - "$work/truth.json" "$here/demo/truth.json" <<'PY'
import json, sys
truth = json.load(open(sys.argv[1]))
person, off = truth["people"][0], truth["off_screen"]
frames = person["frames"]
every = 3  # ten samples a second are enough to test a face tracker
def column(name, digits):
    values = frames[name] if isinstance(frames, dict) else [f[name] for f in frames]
    def short(v):
        if isinstance(v, bool): return int(v)
        return [round(x, digits) for x in v] if isinstance(v, list) else round(v, digits)
    return [short(v) for v in values[::every]]
json.dump({
    "about": "what is true about talk.flv; boxes and mouths in pixels of 1280x720, times in seconds, one entry every framesPerEntry pictures",
    "scene": truth["scene"], "seed": truth["seed"], "fps": 30, "frames": truth["frames"], "seconds": truth["seconds"],
    "framesPerEntry": every,
    "onScreen": {"language": "en", "voice": person["voice"]["variant"], "sentences": person["sentences"]},
    "offScreen": {"language": "de", "voice": off["voice"]["variant"], "gainDb": off["gain_db"], "sentences": off["sentences"]},
    "box": column("box", 0), "mouth": column("mouth", 1), "speaking": column("speaking", 0), "opening": column("opening", 2),
}, open(sys.argv[2], "w"), separators=(",", ":"), ensure_ascii=False)
open(sys.argv[2], "a").write("\n")
PY
ls -l "$here"/demo/talk.flv "$here"/demo/*.flac "$here"/demo/truth.json
