import * as assert from "uvu/assert";
import type { GatewayToChannel } from "../../src/transport/ipc/messages.js";
import { joinAvc } from "../../src/transport/webrtc/h264.js";
import { ChannelClient, type Running, type Scope, until } from "../gateway/support.js";
import { BROWSER_OFFER } from "./offer.js";
import { type PublisherTracks, WhepClient, WhipClient } from "./support.js";

export const PLAY_OFFER = BROWSER_OFFER.replaceAll("a=sendonly", "a=recvonly");
export const FRAGMENT = { "Content-Type": "application/trickle-ice-sdpfrag" };
export const SPS = Buffer.from("6742c01ed9008022", "hex");
export const PPS = Buffer.from("68ce3880", "hex");

export const base = (running: Running): string => `http://127.0.0.1:${running.mediaPort}`;
export const problem = async (response: Response): Promise<unknown[]> => {
  assert.is(response.headers.get("content-type"), "application/problem+json");
  const body = (await response.json()) as { status: number; code: string };
  assert.is(body.status, response.status);
  return [response.status, body.code];
};
export const send = (
  url: string,
  method: string,
  body: string | null,
  headers: Record<string, string>,
): Promise<Response> => fetch(url, { method, headers, ...(body === null ? {} : { body }) });

export async function publisher(
  scope: Scope,
  running: Running,
  path = "/whip/KEY",
  headers = {},
  tracks: PublisherTracks = {},
): Promise<WhipClient> {
  const client = scope.add(new WhipClient(tracks), (c) => c.close());
  await client.publish(base(running) + path, headers);
  await until("the publisher's connection", () => client.connected);
  return client;
}

export async function viewer(scope: Scope, running: Running, path = "/whep/one", data = false): Promise<WhepClient> {
  const client = scope.add(new WhepClient({ data }), (c) => c.close());
  await client.view(base(running) + path);
  await until("the viewer's connection", () => client.connected);
  return client;
}

export async function attach(scope: Scope, running: Running): Promise<ChannelClient> {
  const link = new ChannelClient(scope, running.socket);
  link.send({ t: "attach", channel: "one" });
  await until("the state of the publisher", () => link.messages.length > 0);
  return link;
}

export const key = (n: number): Buffer => joinAvc([Buffer.concat([Buffer.of(0x65, n), Buffer.alloc(3000, n)])]);
export const other = (n: number): Buffer => joinAvc([Buffer.concat([Buffer.of(0x41, n), Buffer.alloc(100, n)])]);
export const wanted = (link: ChannelClient): string[] =>
  link.messages.flatMap((m: GatewayToChannel) => (m.t === "wanted" ? [m.stems.join("+")] : []));
