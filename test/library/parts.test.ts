import { spawnSync } from "node:child_process";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { alignedI420, packedBytes } from "../../src/library/i420.js";
import { planesOf } from "../../src/model/faces/i420.js";
import { loadOptional, MissingPackageError } from "../../src/optional.js";
import { sourceFile } from "../../src/paths.js";
import { withoutOnnxRuntime } from "../model/engines/support.js";

const test = suite("library: parts");

test("pictures of any size keep every pixel; turning four times by 90 degrees is nothing", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 13 }), fc.integer({ min: 1, max: 13 }), (width, height) => {
      const data = Uint8Array.from({ length: packedBytes(width, height) }, (_, i) => (i * 37) & 255);
      const { data: out } = alignedI420(data, width, height);
      const { yStride, uvStride, uOffset, vOffset } = planesOf(width, height);
      const [w, h] = [(width + 1) >> 1, (height + 1) >> 1];
      for (let y = 0; y < height; y++)
        assert.equal(out.slice(y * yStride, y * yStride + width), data.slice(y * width, (y + 1) * width));
      for (const [offset, begin] of [
        [uOffset, width * height],
        [vOffset, width * height + w * h],
      ] as const)
        for (let y = 0; y < h; y++)
          assert.equal(
            out.slice(offset + y * uvStride, offset + y * uvStride + w),
            data.slice(begin + y * w, begin + (y + 1) * w),
          );
      let turned = alignedI420(data, width, height, 90);
      assert.equal([turned.width, turned.height], [height, width]);
      // The upper left corner goes to the upper right.
      assert.is(turned.data[height - 1], data[0]);
      for (let i = 0; i < 3; i++) turned = alignedI420(turned.data, turned.width, turned.height, 90);
      assert.equal(turned.data, out);
      const half = alignedI420(data, width, height, 180);
      assert.equal(alignedI420(half.data, width, height, 180).data, out);
      const left = alignedI420(data, width, height, 270);
      assert.equal(alignedI420(left.data, left.width, left.height, 90).data, out);
    }),
    { numRuns: 60 },
  );
});

test("a package that is not there is named, with the command that helps", () => {
  try {
    loadOptional("no-such-package-here", "this test");
    assert.unreachable();
  } catch (error) {
    assert.instance(error, MissingPackageError);
    const { code, message } = error as MissingPackageError;
    assert.is(code, "SL_NATIVE_MISSING");
    assert.match(message, /needed for this test .*npm install no-such-package-here/s);
  }
});

test("openModel without onnxruntime-node says which package is missing and how to get it", () => {
  const script = `const { openModel } = await import(${JSON.stringify(pathToFileURL(sourceFile("index")).href)});
    await openModel().catch((e) => console.log([e.name, e.code, e.message].join("; ")));`;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [...process.execArgv, ...withoutOnnxRuntime, "--input-type=module", "-e", script],
    { encoding: "utf8", timeout: 30_000 },
  );
  assert.match(
    stdout,
    /^MissingPackageError; SL_NATIVE_MISSING; onnxruntime-node is needed for running models/,
    stderr,
  );
  assert.match(stdout, /install it: npm install onnxruntime-node$/m);
});

test.run();
