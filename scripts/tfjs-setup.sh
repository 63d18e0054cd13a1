#!/usr/bin/env bash
# Puts tfjs-node into .work/tfjs, built against the libtensorflow of the Python wheel tensorflow_cpu (about 1.5 GB in all): for
# `make test-tfjs`. Nothing of it is needed to run Sightline.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/.work/tfjs
mkdir -p "$folder"
python=${PYTHON:-python3}
if ! "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("tensorflow") is None)'; then
  python=$folder/python/bin/python3
  [ -x "$python" ] || python3 -m venv "$folder/python"
  "$python" -m pip install --quiet --no-deps tensorflow_cpu==2.21.0 # its libraries only: Python never loads it
fi
[ -f "$folder/package.json" ] || echo '{ "private": true }' > "$folder/package.json"
npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --save-exact @tensorflow/tfjs-node@4.22.0
[ -f "$folder/node_modules/@tensorflow/tfjs-node/lib/napi-v8/tfjs_binding.node" ] ||
  scripts/build-tfjs-node.sh --python "$python" "$folder"
