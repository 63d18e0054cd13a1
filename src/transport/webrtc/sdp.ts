/**
 * Offers of WHIP publishers and WHEP viewers (RFC 8866, 8829, 9725), checked and narrowed before a WebRTC stack sees them: one H.264
 * (of a publisher without it: VP8) and one Opus payload type, no candidates (we are ICE lite and learn addresses from checks), no simulcast.
 */
export const MAX_SDP_BYTES = 64 * 1024;
const MAX_LINES = 2000;
const MAX_LINE_LENGTH = 4096;
/** Sound, picture, data. */
const MAX_MEDIA = 3;
export const MAX_CANDIDATES = 64;

export type SdpErrorCode =
  | "SL_WEBRTC_SDP_MALFORMED"
  | "SL_WEBRTC_SDP_UNSUPPORTED"
  | "SL_VIDEO_CODEC_UNSUPPORTED"
  | "SL_AUDIO_CODEC_UNSUPPORTED";

/** The offer cannot be read (malformed) or lacks what is needed. */
export class SdpError extends Error {
  override readonly name = "SdpError";
  constructor(
    readonly code: SdpErrorCode,
    message: string,
  ) {
    super(message);
  }
}

export type PictureCodec = "H264" | "VP8";
export type Role = "publish" | "play";
export type Offer = {
  /** Narrowed, for the stack. */
  readonly sdp: string;
  readonly iceUfrag: string;
  readonly icePwd: string;
  readonly setup: "actpass" | "active" | "passive";
  readonly sound: boolean;
  /** The sender keeps packets of its sound and sends them again when asked (generic NACK, RFC 4585). */
  readonly soundNack: boolean;
  /** Codec of the picture that is taken; null: no picture is offered. */
  readonly picture: PictureCodec | null;
  /** Data channels are wanted. */
  readonly data: boolean;
  /** Candidates that the offer had. */
  readonly candidates: number;
  /** SPS and PPS that stand in the offer (RFC 6184, 8.1: sprop-parameter-sets); most senders send them with the pictures. */
  readonly parameterSets: readonly Buffer[];
};

type Section = { readonly lines: string[] };

/**
 * Reads and narrows an offer.
 * @param h264Profile first byte of the profile that will be sent (play): a payload type of that profile is preferred
 * @throws SdpError
 */
export function readOffer(text: string, role: Role, h264Profile: number | null = null): Offer {
  const [session, ...media] = sections(text);
  if (session === undefined || session.lines[0] !== "v=0") throw malformed("it does not begin with v=0");
  if (media.length === 0 || media.length > MAX_MEDIA)
    throw unsupported(`${media.length} media sections; allowed are 1 sound, 1 picture and 1 data section`);
  checkBundle(session, media);
  const all = [session, ...media];
  const iceUfrag = only(all, "ice-ufrag", /^[A-Za-z0-9+/]{4,256}$/);
  const icePwd = only(all, "ice-pwd", /^[A-Za-z0-9+/]{22,256}$/);
  only(all, "fingerprint", /^(sha-256|sha-384|sha-512) [0-9A-Fa-f:]{95,191}$/i, true);
  const setup = only(all, "setup", /^(actpass|active|passive)$/) as Offer["setup"];
  const kinds = media.map((section) => kindOf(section));
  if (new Set(kinds).size !== kinds.length) throw unsupported("two media sections of one kind; send one of each");
  let candidates = 0;
  const narrowed = [session.lines.filter((line) => !isDropped(line))];
  let picture: PictureCodec | null = null;
  let soundNack = false;
  for (const [i, section] of media.entries()) {
    const kind = kinds[i]!;
    candidates += section.lines.filter((line) => line.startsWith("a=candidate:")).length;
    const lines = section.lines.filter((line) => !isDropped(line));
    if (kind === "application") {
      narrowed.push(lines);
      continue;
    }
    const taken = takenType({ lines }, kind, role, h264Profile);
    if (kind === "video") picture = taken.codec as PictureCodec;
    else soundNack = values({ lines }, "rtcp-fb").some((v) => v === `${taken.type} nack` || v === "* nack");
    narrowed.push(narrowMedia(lines, kind, role, taken.type));
  }
  if (candidates > MAX_CANDIDATES) throw unsupported(`${candidates} candidates; at most ${MAX_CANDIDATES} are taken`);
  const sound = kinds.includes("audio");
  if (!sound && picture === null) throw unsupported("neither sound nor picture is offered");
  const lines = narrowed.flat();
  return {
    sdp: `${lines.join("\r\n")}\r\n`,
    iceUfrag,
    icePwd,
    setup,
    sound,
    soundNack,
    picture,
    data: kinds.includes("application"),
    candidates,
    parameterSets: lines.flatMap((line) => parameterSets(line)),
  };
}

function parameterSets(line: string): Buffer[] {
  const text = /^a=fmtp:.*[ ;]sprop-parameter-sets=([A-Za-z0-9+/=,]{1,2000})/.exec(line)?.[1];
  return (text?.split(",") ?? []).map((part) => Buffer.from(part, "base64")).filter((nal) => nal.length >= 4);
}

/** The same description with other ICE credentials (an ICE restart, RFC 9725, 4.3.3). */
export function withCredentials(sdp: string, ufrag: string, pwd: string): string {
  return sdp
    .replace(/^a=ice-ufrag:[^\r\n]*/gm, `a=ice-ufrag:${ufrag}`)
    .replace(/^a=ice-pwd:[^\r\n]*/gm, `a=ice-pwd:${pwd}`);
}

/** Values of an attribute, anywhere in a description. */
export function attributes(sdp: string, name: string): string[] {
  const start = `a=${name}:`;
  return sdp
    .split(/\r?\n/)
    .filter((line) => line.startsWith(start))
    .map((line) => line.slice(start.length));
}

/**
 * An answer's candidates replaced by `hosts` with the ports of the sockets that were opened, the same in every section; other lines stay.
 * @param hosts IP addresses @returns the text and its candidate lines (without `a=`)
 */
export function announce(sdp: string, hosts: readonly string[]): { sdp: string; candidates: string[] } {
  const opened = attributes(sdp, "candidate").map((value) => value.split(" "));
  const port = (host: string): string | undefined => {
    const isV6 = host.includes(":");
    const sameHost = opened.find((c) => c[4] === host);
    // Sockets are bound to the wildcard address: any address of the family reaches any of them.
    return (sameHost ?? opened.find((c) => c[2]?.toLowerCase() === "udp" && c[4]?.includes(":") === isV6))?.[5];
  };
  const candidates = hosts.flatMap((host, i) => {
    const at = port(host);
    return at === undefined ? [] : [`candidate:${i + 1} 1 udp ${2_130_706_431 - i} ${host} ${at} typ host`];
  });
  const [session, ...media] = sections(sdp);
  const out = [...session!.lines];
  for (const section of media) {
    out.push(...section.lines.filter((line) => !isCandidate(line)));
    out.push(...candidates.map((candidate) => `a=${candidate}`), "a=end-of-candidates");
  }
  return { sdp: `${out.join("\r\n")}\r\n`, candidates };
}

function sections(text: string): Section[] {
  if (text.length > MAX_SDP_BYTES) throw malformed(`${text.length} bytes; at most ${MAX_SDP_BYTES} are taken`);
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  if (lines.length > MAX_LINES) throw malformed(`${lines.length} lines; at most ${MAX_LINES} are taken`);
  const out: Section[] = [{ lines: [] }];
  for (const [i, line] of lines.entries()) {
    if (line.length > MAX_LINE_LENGTH || !/^[a-z]=[^\0\r\n]*$/.test(line)) throw malformed(`line ${i + 1} is no SDP`);
    if (line.startsWith("m=")) out.push({ lines: [] });
    out.at(-1)!.lines.push(line);
  }
  return out;
}

const isCandidate = (line: string): boolean => line.startsWith("a=candidate:") || line === "a=end-of-candidates";
const isDropped = (line: string): boolean => isCandidate(line) || /^a=(simulcast|rid|remote-candidates)\b/.test(line);

/** One transport for everything (RFC 9725, 4.4.1). */
function checkBundle(session: Section, media: readonly Section[]): void {
  const mids = media.map((section) => values(section, "mid")[0]);
  if (mids.some((mid) => mid === undefined || !/^[\x21-\x7e]{1,32}$/.test(mid)) || new Set(mids).size !== mids.length)
    throw malformed("every media section needs its own a=mid");
  if (media.length === 1) return;
  const bundle = values(session, "group").find((value) => value.startsWith("BUNDLE "));
  const bundled = new Set(bundle?.split(" ").slice(1));
  if (mids.some((mid) => !bundled.has(mid!))) throw unsupported("all media must be bundled (a=group:BUNDLE)");
}

function kindOf(section: Section): "audio" | "video" | "application" {
  const match = /^m=(audio|video|application) (\d{1,5})(?:\/\d+)? ([A-Z/]+) /.exec(section.lines[0]!);
  if (match === null)
    throw unsupported(`${JSON.stringify(section.lines[0]!.slice(0, 40))} is not sound, picture or data`);
  const [, kind, , protocol] = match;
  const wanted = kind === "application" ? /^(UDP|TCP)\/DTLS\/SCTP$/ : /^UDP\/TLS\/RTP\/SAVPF$/;
  if (!wanted.test(protocol!)) throw unsupported(`${protocol} for ${kind}; WebRTC's protocols are taken`);
  if (kind !== "application" && !section.lines.includes("a=rtcp-mux")) throw unsupported("a=rtcp-mux is needed");
  return kind as "audio" | "video" | "application";
}

type Taken = { readonly type: string; readonly codec: PictureCodec | "Opus" };

/** H.264 where it is offered: it passes untouched. VP8 has to be encoded anew, so it is taken only of publishers that have nothing else. */
function takenType(section: Section, kind: "audio" | "video", role: Role, h264Profile: number | null): Taken {
  if (kind === "audio") {
    const type = typeOf(section, /^\d{1,3} opus\/48000\/2$/i);
    if (type === null) throw new SdpError("SL_AUDIO_CODEC_UNSUPPORTED", "Opus (opus/48000/2) is not offered");
    return { type, codec: "Opus" };
  }
  const h264 = h264Type(section, h264Profile);
  if (h264 !== null) return { type: h264, codec: "H264" };
  const vp8 = role === "publish" ? typeOf(section, /^\d{1,3} VP8\/90000$/i) : null;
  if (vp8 !== null) return { type: vp8, codec: "VP8" };
  const what = role === "publish" ? "neither H.264 with packetization-mode=1 nor VP8 is" : NO_H264;
  throw new SdpError("SL_VIDEO_CODEC_UNSUPPORTED", `${what} offered`);
}

const NO_H264 = "H.264 with packetization-mode=1 is not";

function narrowMedia(lines: string[], kind: "audio" | "video", role: Role, type: string): string[] {
  const section = { lines };
  const direction = /^a=(sendonly|recvonly|sendrecv|inactive)$/;
  const way = lines.map((line) => direction.exec(line)?.[1]).find((d) => d !== undefined) ?? "sendrecv";
  const wanted = role === "publish" ? ["sendonly", "sendrecv"] : ["recvonly", "sendrecv"];
  if (!wanted.includes(way)) throw unsupported(`${kind} is ${way}; ${wanted.join(" or ")} is needed to ${role}`);
  if (role === "publish" && values(section, "ssrc").length === 0)
    throw unsupported(`${kind} has no a=ssrc line; it says which packets are whose`);
  const rtx = values(section, "fmtp").find((value) => value.split(" ")[1]?.split(";").includes(`apt=${type}`));
  const kept = new Set([type, ...(rtx === undefined ? [] : [rtx.split(" ")[0]!])]);
  const about = /^a=(?:rtpmap|fmtp|rtcp-fb):(\S+) /;
  return lines
    .map((line) => (line.startsWith("m=") ? `${line.split(" ").slice(0, 3).join(" ")} ${[...kept].join(" ")}` : line))
    .filter((line) => {
      const number = about.exec(line)?.[1];
      return number === undefined || number === "*" || kept.has(number);
    });
}

/** The first payload type whose rtpmap has this form. */
function typeOf(section: Section, form: RegExp): string | null {
  return (
    values(section, "rtpmap")
      .find((value) => form.test(value))
      ?.split(" ")[0] ?? null
  );
}

function h264Type(section: Section, profile: number | null): string | null {
  const types = values(section, "rtpmap")
    .filter((value) => /^\d{1,3} H264\/90000$/i.test(value))
    .map((value) => value.split(" ")[0]!);
  const fmtp = new Map(values(section, "fmtp").map((value) => [value.split(" ")[0]!, value]));
  const usable = types.filter((type) => /[ ;]packetization-mode=1\b/.test(fmtp.get(type) ?? ""));
  const wanted = profile === null ? "" : `profile-level-id=${profile.toString(16).padStart(2, "0")}`;
  return usable.find((type) => fmtp.get(type)!.toLowerCase().includes(wanted)) ?? usable[0] ?? null;
}

function values(section: Section, name: string): string[] {
  const start = `a=${name}:`;
  return section.lines.filter((line) => line.startsWith(start)).map((line) => line.slice(start.length));
}

/** The value of an attribute that is the same wherever it stands (with BUNDLE there is one transport). */
function only(all: readonly Section[], name: string, form: RegExp, many = false): string {
  const found = new Set(all.flatMap((section) => values(section, name)));
  if (found.size === 0) throw malformed(`a=${name} is missing`);
  if (found.size > (many ? 8 : 1)) throw malformed(`a=${name} differs between the media sections`);
  for (const value of found) if (!form.test(value)) throw malformed(`a=${name} has a value that is not allowed`);
  return [...found][0]!;
}

const malformed = (what: string): SdpError =>
  new SdpError("SL_WEBRTC_SDP_MALFORMED", `the offer is no SDP of WebRTC: ${what}`);
const unsupported = (what: string): SdpError => new SdpError("SL_WEBRTC_SDP_UNSUPPORTED", what);
