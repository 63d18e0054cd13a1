import { lookup } from "node:dns/promises";
import { isIP } from "node:net";

/**
 * An srt:// address with the IP address of its host. GStreamer's SRT elements ask the name servers while they hold the thread that starts
 * them, which is ours: a server that does not answer would stop the programme of the whole channel for as long.
 *
 * @throws Error of node:dns (ENOTFOUND ...) with the host's name in it
 */
export async function resolvedSrt(uri: string): Promise<string> {
  const parts = /^(srt:\/\/)([^/?#:[\]]+)(.*)$/s.exec(uri);
  if (parts === null) return uri;
  const [, scheme, host, rest] = parts;
  if (isIP(host!) !== 0) return uri;
  const { address, family } = await lookup(host!);
  return `${scheme}${family === 6 ? `[${address}]` : address}${rest}`;
}
