import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AmfError, EcmaArray } from "../../src/transport/amf/amf0.js";
import { aacFrameTag, aacSequenceTag, opusHeadTag, opusTag, readAudio } from "../../src/transport/flv/audio.js";
import { readScript, scriptName, scriptTag } from "../../src/transport/flv/script.js";
import {
  FlvError,
  FlvReader,
  type FlvTag,
  flvHeader,
  flvTag,
  PICTURE,
  SCRIPT,
  SOUND,
} from "../../src/transport/flv/tag.js";
import { avcFrameTag, avcSequenceTag, isEnhanced, readVideo, vp8FrameTag } from "../../src/transport/flv/video.js";
import { fuzz, inPieces, random } from "./fuzz.js";

const test = suite("flv");

const unit = Buffer.from("0000000465888400", "hex");
const tags: FlvTag[] = [
  scriptTag("onMetaData", 0, new EcmaArray({ width: 16, height: 16 })),
  avcSequenceTag(Buffer.from("0142c00affe1", "hex"), 0),
  aacSequenceTag(Buffer.from("1190", "hex"), 0),
  avcFrameTag(unit, true, 0xfff_ffff, 80),
  aacFrameTag(Buffer.from("2110", "hex"), 0xffff_ffff),
  avcFrameTag(unit, false, 40, -40),
  { type: SOUND, timestampMs: 41, body: Buffer.alloc(0) },
];
const file = Buffer.concat([flvHeader(), ...tags.map(flvTag)]);

/** Reads the bytes as far as anything in the project would look into them. */
function lookInto(tag: FlvTag): void {
  if (tag.type === PICTURE) readVideo(tag.body);
  else if (tag.type === SOUND) readAudio(tag.body);
  else {
    scriptName(tag.body);
    readScript(tag.body);
  }
}

test("tags come back as they were written, whatever the pieces", () => {
  const next = random(3);
  for (const most of [1, 3, 20, 1000]) {
    const reader = new FlvReader();
    const out: FlvTag[] = [];
    inPieces(file, most, next, (piece) => out.push(...reader.push(piece)));
    assert.equal(out, tags);
  }
});

test("the layout of a tag is that of annex E.4.1", () => {
  assert.is(flvHeader().toString("hex"), "464c5601050000000900000000");
  const tag = { type: SOUND, timestampMs: 0x01020304, body: Buffer.from("af0021", "hex") } as const;
  assert.is(flvTag(tag).toString("hex"), "08000003" + "02030401" + "000000" + "af0021" + "0000000e");
});

test("access units are found in legacy bodies with their composition time", () => {
  assert.equal(readVideo(tags[3]!.body), { kind: "frame", key: true, ctsMs: 80, data: unit });
  assert.equal(readVideo(tags[5]!.body), { kind: "frame", key: false, ctsMs: -40, data: unit });
  assert.is(readVideo(tags[1]!.body).kind, "sequence");
  assert.is(readVideo(Buffer.from("1702000000", "hex")).kind, "none", "end of sequence");
  assert.is(readVideo(Buffer.from("5700", "hex")).kind, "none", "a seek command");
});

test("enhanced headers are recognised by their fourcc", () => {
  const enhanced = (first: number, fourCc: string, rest = "") =>
    Buffer.concat([Buffer.of(first), Buffer.from(fourCc), Buffer.from(rest, "hex")]);
  assert.equal(readVideo(enhanced(0x90, "hvc1", "01")), { kind: "unsupported", codec: "hvc1" });
  assert.equal(readVideo(enhanced(0x91, "av01", "00")), { kind: "unsupported", codec: "av01" });
  assert.equal(readVideo(Buffer.from("1c00000000", "hex")), { kind: "unsupported", codec: "HEVC" });
  assert.equal(readVideo(Buffer.from("22", "hex")), { kind: "unsupported", codec: "H.263" });
  assert.equal(readVideo(enhanced(0xa1, "avc1", "00005061")), {
    kind: "frame",
    key: false,
    ctsMs: 80,
    data: Buffer.from("a"),
  });
  assert.equal(readVideo(enhanced(0x93, "avc1", "61")), { kind: "frame", key: true, ctsMs: 0, data: Buffer.from("a") });
  assert.equal(readVideo(enhanced(0x91, "vp08", "1001")), { kind: "vp8", key: true, data: Buffer.from("1001", "hex") });
  assert.equal(readVideo(enhanced(0xa3, "vp08", "11")), { kind: "vp8", key: false, data: Buffer.of(0x11) });
  assert.equal(readVideo(enhanced(0x90, "vp08", "01")), { kind: "none" }, "a configuration");
  assert.equal(readVideo(enhanced(0x91, "vp08")), { kind: "none" }, "an empty frame");
  for (const key of [true, false]) {
    const tag = vp8FrameTag(Buffer.of(1, 2, 3), key, 40);
    assert.equal([tag.timestampMs, readVideo(tag.body)], [40, { kind: "vp8", key, data: Buffer.of(1, 2, 3) }]);
  }
  assert.ok(isEnhanced(enhanced(0x90, "hvc1")));
  assert.not.ok(isEnhanced(tags[3]!.body));
});

test("sound that is not AAC is named", () => {
  assert.equal(readAudio(tags[2]!.body), { kind: "sequence", config: Buffer.from("1190", "hex") });
  assert.equal(readAudio(tags[4]!.body), { kind: "frame", data: Buffer.from("2110", "hex") });
  assert.equal(readAudio(Buffer.from("2fff", "hex")), { kind: "unsupported", codec: "MP3" });
  assert.equal(readAudio(Buffer.from("90664c6143", "hex")), { kind: "unsupported", codec: "fLaC" });
  assert.equal(readAudio(opusHeadTag(Buffer.of(1, 2), 0).body), { kind: "opusHead", head: Buffer.of(1, 2) });
  assert.equal(readAudio(opusTag(Buffer.of(3), 0).body), { kind: "opus", data: Buffer.of(3) });
  assert.equal(readAudio(Buffer.from("924f707573", "hex")), { kind: "none" });
});

test("@setDataFrame is taken off and odd values behind the name do no harm", () => {
  const { body } = scriptTag("@setDataFrame", 0, "onMetaData", new EcmaArray({ a: 1 }));
  const found = scriptName(body);
  assert.is(found.name, "onMetaData");
  assert.is(readScript(found.body).name, "onMetaData");
  assert.is(
    scriptName(Buffer.concat([scriptTag("onMetaData", 0).body, Buffer.from("0800000001", "hex")])).name,
    "onMetaData",
  );
});

test("a wrong header, an encrypted tag, a body over the limit are refused", () => {
  const bad = [
    Buffer.from("RIFF00000000000"),
    Buffer.concat([flvHeader(), Buffer.from("28000001000000000000", "hex"), Buffer.alloc(9)]),
  ];
  for (const bytes of bad)
    assert.throws(
      () => new FlvReader().push(bytes),
      (e: unknown) => e instanceof FlvError,
    );
  const small = new FlvReader(10);
  assert.throws(
    () => small.push(file),
    (e: unknown) => e instanceof FlvError,
  );
});

test("a tag that announces 16 MiB costs only what came of it", () => {
  const before = process.memoryUsage().arrayBuffers;
  const readers = Array.from({ length: 100 }, () => {
    const reader = new FlvReader();
    reader.push(Buffer.concat([flvHeader(), Buffer.from("09ffffff00000000000000aa", "hex")]));
    return reader;
  });
  assert.is(readers.length, 100);
  assert.ok(process.memoryUsage().arrayBuffers - before < 4 * 1024 * 1024);
});

test("every prefix of a good file reads without an error, and the rest completes it", () => {
  for (let n = 0; n <= file.length; n++) {
    const reader = new FlvReader();
    assert.equal([...reader.push(file.subarray(0, n)), ...reader.push(file.subarray(n))], tags);
  }
});

test("100000 mutations give tags or a known error, never more bytes than came in", () => {
  const result = fuzz({ samples: [file], count: 100_000, seed: 11, allowed: [FlvError, AmfError] }, (bytes) => {
    let size = 0;
    for (const tag of new FlvReader().push(bytes)) {
      size += tag.body.length + 11;
      lookInto(tag);
    }
    assert.ok(size <= bytes.length);
  });
  assert.ok(result.taken > 1000 && result.refused > 1000, JSON.stringify(result));
});

test("100000 mutated bodies are understood or refused", () => {
  const result = fuzz(
    { samples: tags.map((tag) => tag.body), count: 100_000, seed: 12, allowed: [FlvError, AmfError] },
    (body, next) => {
      const type = ([SOUND, PICTURE, SCRIPT] as const)[next(3)]!;
      lookInto({ type, timestampMs: 0, body });
    },
  );
  assert.ok(result.taken > 1000 && result.refused > 1000, JSON.stringify(result));
});

test.run();
