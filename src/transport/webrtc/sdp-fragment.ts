import { MAX_CANDIDATES, SdpError } from "./sdp.js";

/** `application/trickle-ice-sdpfrag` (RFC 8840) as WHIP and WHEP clients send it by PATCH (RFC 9725, 4.3). */
export type Fragment = {
  /** ICE credentials, null where the fragment has none. */
  readonly ufrag: string | null;
  readonly pwd: string | null;
  readonly candidates: number;
};

export const MAX_FRAGMENT_BYTES = 16 * 1024;

/** @throws SdpError SL_WEBRTC_SDP_MALFORMED */
export function readFragment(text: string): Fragment {
  const lines = text.split(/\r?\n/).filter((line) => line !== "");
  if (lines.length === 0 || lines.length > 500 || lines.some((line) => !/^[am]=[^\0]{1,1024}$/.test(line)))
    throw new SdpError("SL_WEBRTC_SDP_MALFORMED", "the fragment is not of lines a=... and m=...");
  const value = (name: string, form: RegExp): string | null => {
    const found = lines.find((line) => line.startsWith(`a=${name}:`))?.slice(name.length + 3);
    if (found !== undefined && !form.test(found))
      throw new SdpError("SL_WEBRTC_SDP_MALFORMED", `a=${name} has a value that is not allowed`);
    return found ?? null;
  };
  const candidates = lines.filter((line) => line.startsWith("a=candidate:")).length;
  if (candidates > MAX_CANDIDATES)
    throw new SdpError("SL_WEBRTC_SDP_MALFORMED", `${candidates} candidates; at most ${MAX_CANDIDATES} are taken`);
  return {
    ufrag: value("ice-ufrag", /^[A-Za-z0-9+/]{4,256}$/),
    pwd: value("ice-pwd", /^[A-Za-z0-9+/]{22,256}$/),
    candidates,
  };
}

/** The answer to an ICE restart: our new credentials and candidates. @param mid of the first media section */
export function writeFragment(ufrag: string, pwd: string, mid: string, candidates: readonly string[]): string {
  const lines = [
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${pwd}`,
    "a=ice-lite",
    "m=audio 9 UDP/TLS/RTP/SAVPF 0",
    `a=mid:${mid}`,
    ...candidates.map((candidate) => `a=${candidate}`),
    "a=end-of-candidates",
  ];
  return `${lines.join("\r\n")}\r\n`;
}
