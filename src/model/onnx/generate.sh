#!/bin/sh
# Writes onnx_pb.ts anew from onnx-ml.proto of the Python package `onnx` (Apache-2.0; the file names its version in ir_version's comments).
# Only needed when a newer ONNX is wanted:  npm ci && pip install onnx && src/model/onnx/generate.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/proto"
cp "$(python3 -c 'import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), "onnx-ml.proto"))')" "$work/proto/onnx.proto"
cat >"$work/buf.gen.yaml" <<YAML
version: v2
inputs:
  - directory: proto
plugins:
  - local: $root/node_modules/.bin/protoc-gen-es
    out: out
    opt: [target=ts, import_extension=js]
YAML
cd "$work"
PATH="$root/node_modules/.bin:$PATH" buf generate
cp out/onnx_pb.ts "$here/onnx_pb.ts"
