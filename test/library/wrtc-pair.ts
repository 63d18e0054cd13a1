import type { VideoFrame, Wrtc } from "../../src/library/wrtc.js";
import { loadOptional } from "../../src/optional.js";

export type Track = { kind: string; stop(): void };

/** The few things of @roamhq/wrtc that only tests need. */
export type Pc = {
  addTrack(track: Track, ...streams: object[]): unknown;
  createOffer(): Promise<unknown>;
  createAnswer(): Promise<unknown>;
  setLocalDescription(d: unknown): Promise<void>;
  setRemoteDescription(d: unknown): Promise<void>;
  addIceCandidate(c: unknown): Promise<void>;
  close(): void;
  getStats(): Promise<Map<string, unknown>>;
  onicecandidate: ((event: { candidate: unknown }) => void) | null;
  ontrack: ((event: { track: Track }) => void) | null;
};
export type Stack = Wrtc<Track> & {
  RTCPeerConnection: new () => Pc;
  MediaStream: new () => object;
  nonstandard: { RTCVideoSource: new () => { createTrack(): Track; onFrame(frame: VideoFrame): void } };
};

export const loadStack = (): Stack => loadOptional<Stack>("@roamhq/wrtc", "this test");

/** Two peers whose candidates reach each other. */
export function pairOf(stack: Stack): readonly [Pc, Pc] {
  const [a, b] = [new stack.RTCPeerConnection(), new stack.RTCPeerConnection()];
  a.onicecandidate = ({ candidate }) => candidate && void b.addIceCandidate(candidate);
  b.onicecandidate = ({ candidate }) => candidate && void a.addIceCandidate(candidate);
  return [a, b];
}

/** `a` offers what it has, `b` answers. */
export async function negotiate(a: Pc, b: Pc): Promise<void> {
  const offer = await a.createOffer();
  await a.setLocalDescription(offer);
  await b.setRemoteDescription(offer);
  const answer = await b.createAnswer();
  await b.setLocalDescription(answer);
  await a.setRemoteDescription(answer);
}
