import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  announce,
  attributes,
  MAX_SDP_BYTES,
  readOffer,
  SdpError,
  withCredentials,
} from "../../src/transport/webrtc/sdp.js";
import { readFragment, writeFragment } from "../../src/transport/webrtc/sdp-fragment.js";
import { fuzz } from "../transport/fuzz.js";
import { BROWSER_OFFER } from "./offer.js";

const test = suite("WebRTC: session descriptions");

const lines = (sdp: string): string[] => sdp.split("\r\n");
const refusal = (text: string, role: "publish" | "play" = "publish"): string => {
  try {
    readOffer(text, role);
    return "taken";
  } catch (error) {
    if (error instanceof SdpError) return error.code;
    throw error;
  }
};

test("a browser's offer is narrowed to one H.264, its repair stream, and one Opus; candidates and simulcast are gone", () => {
  const offer = readOffer(BROWSER_OFFER, "publish");
  assert.equal([offer.sound, offer.picture, offer.data, offer.setup], [true, "H264", false, "actpass"]);
  assert.equal(
    lines(offer.sdp).filter((l) => l.startsWith("m=")),
    ["m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=video 9 UDP/TLS/RTP/SAVPF 102 103"],
  );
  const named = attributes(offer.sdp, "rtpmap").map((v) => v.split(" ")[1]);
  assert.equal(named, ["opus/48000/2", "H264/90000", "rtx/90000"]);
  assert.equal(attributes(offer.sdp, "candidate"), []);
  assert.equal(attributes(offer.sdp, "simulcast"), []);
  assert.is(offer.candidates, 2);
  assert.ok(offer.sdp.includes("a=rtcp-fb:102 nack pli") && !offer.sdp.includes("a=rtcp-fb:96"));
});

test("the payload type of the profile that will be sent is preferred", () => {
  const play = BROWSER_OFFER.replaceAll("a=sendonly", "a=recvonly");
  const type = (profile: number | null) => attributes(readOffer(play, "play", profile).sdp, "rtpmap")[1]!.split(" ")[0];
  assert.equal([type(null), type(0x42), type(0x64), type(0x4d)], ["102", "102", "112", "102"]);
});

test("VP8 is taken of a publisher that has no H.264 we can take, with its feedback and repair stream; viewers need H.264", () => {
  const noH264 = BROWSER_OFFER.replace(/^a=rtpmap:\d+ H264.*\r\n/gm, "");
  for (const text of [noH264, BROWSER_OFFER.replaceAll("packetization-mode=1", "packetization-mode=0")]) {
    const offer = readOffer(text, "publish");
    assert.is(offer.picture, "VP8");
    assert.is(
      lines(offer.sdp).find((l) => l.startsWith("m=video")),
      "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
    );
    assert.equal(attributes(offer.sdp, "rtcp-fb"), ["111 transport-cc", "96 nack pli"]);
  }
  assert.is(refusal(noH264.replaceAll("a=sendonly", "a=recvonly"), "play"), "SL_VIDEO_CODEC_UNSUPPORTED");
  assert.is(readOffer(BROWSER_OFFER.slice(0, BROWSER_OFFER.indexOf("m=video")), "publish").picture, null);
});

test("sound that is sent again when asked is known by its feedback line", () => {
  const withLine = (line: string) =>
    readOffer(BROWSER_OFFER.replace("a=rtpmap:63", `${line}\r\na=rtpmap:63`), "publish");
  assert.is(readOffer(BROWSER_OFFER, "publish").soundNack, false);
  assert.is(withLine("a=rtcp-fb:63 nack").soundNack, false, "of another payload type");
  for (const line of ["a=rtcp-fb:111 nack", "a=rtcp-fb:* nack"]) assert.is(withLine(line).soundNack, true);
  assert.ok(withLine("a=rtcp-fb:111 nack").sdp.includes("a=rtcp-fb:111 nack\r\n"));
});

test("what is missing is named by its code", () => {
  const without = (...parts: string[]) =>
    lines(BROWSER_OFFER)
      .filter((l) => !parts.some((p) => l.includes(p)))
      .join("\r\n");
  assert.is(refusal(BROWSER_OFFER), "taken");
  assert.is(refusal("hello"), "SL_WEBRTC_SDP_MALFORMED");
  assert.is(refusal(""), "SL_WEBRTC_SDP_MALFORMED");
  assert.is(refusal(without("H264", "VP8")), "SL_VIDEO_CODEC_UNSUPPORTED");
  assert.is(
    refusal(without("VP8").replaceAll("packetization-mode=1", "packetization-mode=0")),
    "SL_VIDEO_CODEC_UNSUPPORTED",
  );
  assert.is(refusal(without("opus/48000")), "SL_AUDIO_CODEC_UNSUPPORTED");
  for (const part of ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=setup", "a=mid:"])
    assert.is(refusal(without(part)), "SL_WEBRTC_SDP_MALFORMED", part);
  for (const part of ["a=group", "a=rtcp-mux", "a=ssrc:"])
    assert.is(refusal(without(part)), "SL_WEBRTC_SDP_UNSUPPORTED", part);
  assert.is(refusal(BROWSER_OFFER, "play"), "SL_WEBRTC_SDP_UNSUPPORTED");
  assert.is(refusal(`${BROWSER_OFFER}a=x:${"y".repeat(MAX_SDP_BYTES)}\r\n`), "SL_WEBRTC_SDP_MALFORMED");
  const media = BROWSER_OFFER.slice(BROWSER_OFFER.indexOf("m=video"));
  assert.is(refusal(BROWSER_OFFER + media.replace("a=mid:1", "a=mid:2")), "SL_WEBRTC_SDP_UNSUPPORTED");
});

test("answers are told with our addresses only, in every section", () => {
  const answer = [
    "v=0",
    "s=-",
    "t=0 0",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "a=candidate:x 1 udp 99 10.0.0.7 40000 typ host",
    "a=candidate:y 1 udp 99 127.0.0.1 40001 typ host",
    "a=mid:0",
    "m=video 9 UDP/TLS/RTP/SAVPF 102",
    "a=mid:1",
    "",
  ].join("\r\n");
  const { sdp, candidates } = announce(answer, ["127.0.0.1", "203.0.113.5", "2001:db8::1"]);
  assert.equal(candidates, [
    "candidate:1 1 udp 2130706431 127.0.0.1 40001 typ host",
    "candidate:2 1 udp 2130706430 203.0.113.5 40000 typ host",
  ]);
  assert.is(attributes(sdp, "candidate").length, 4);
  assert.is(sdp.includes("10.0.0.7"), false);
});

test("fragments: credentials, candidates, what is wrong", () => {
  const text = writeFragment("abcd", "0123456789012345678901", "0", ["candidate:1 1 udp 1 127.0.0.1 4000 typ host"]);
  assert.equal(readFragment(text), { ufrag: "abcd", pwd: "0123456789012345678901", candidates: 1 });
  assert.equal(readFragment("a=end-of-candidates\r\n"), { ufrag: null, pwd: null, candidates: 0 });
  for (const bad of ["", "x", "a=ice-ufrag:a b\r\n", `${"a=candidate:1\r\n".repeat(65)}`, "a=ice-pwd:short\r\n"])
    assert.throws(
      () => readFragment(bad),
      (e: unknown) => e instanceof SdpError,
    );
  const restarted = withCredentials(BROWSER_OFFER, "zzzz", "9".repeat(22));
  assert.equal([...new Set(attributes(restarted, "ice-ufrag"))], ["zzzz"]);
});

test("turned and cut descriptions are taken or refused, nothing else", () => {
  const samples = [Buffer.from(BROWSER_OFFER), Buffer.from(BROWSER_OFFER.replaceAll("a=sendonly", "a=sendrecv"))];
  const offers = fuzz({ samples, count: 1500, seed: 21, allowed: [SdpError as never] }, (bytes, next) => {
    readOffer(bytes.toString("utf8"), next(2) === 0 ? "publish" : "play");
  });
  assert.ok(offers.refused > 300 && offers.taken > 100, JSON.stringify(offers));
  const fragments = [Buffer.from(writeFragment("abcd", "0123456789012345678901", "0", ["candidate:1"]))];
  fuzz(
    { samples: fragments, count: 1500, seed: 22, allowed: [SdpError as never] },
    (bytes) => void readFragment(bytes.toString("utf8")),
  );
});

test.run();
