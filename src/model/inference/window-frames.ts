import type { WindowAnswer, WindowRequest } from "../inference.js";
import { bytesOf, type FromChild, floatsOf, ProtocolError, type WindowHeader } from "./protocol.js";

/** A window and its answer as frames between a channel and the inference child (protocol.ts). */
export function encodeWindow(
  { session, atSample, pictures, left, right }: WindowRequest,
  id: number,
  deadlineMs: number,
): { header: WindowHeader; payload: Buffer } {
  return {
    header: { t: "window", id, session, atSample, samples: left.length, pictures: pictures.length, deadlineMs },
    payload: Buffer.concat([bytesOf(left), bytesOf(right), pictures]),
  };
}

/** @throws ProtocolError when header and payload do not fit */
export function decodeWindow({ session, atSample, samples, pictures }: WindowHeader, payload: Buffer): WindowRequest {
  if (payload.length !== 8 * samples + pictures)
    throw new ProtocolError(
      `a window of 2 x ${samples} numbers and ${pictures} bytes came with ${payload.length} bytes`,
    );
  return {
    session,
    atSample,
    left: floatsOf(payload, 0, samples),
    right: floatsOf(payload, 4 * samples, samples),
    pictures: new Uint8Array(payload.subarray(8 * samples)),
  };
}

export function encodeAnswer(
  { gains, map, logit, engineMs }: WindowAnswer,
  id: number,
): { header: FromChild; payload: Buffer } {
  const { data, ...grid } = gains;
  const { height, width } = map;
  return {
    header: { t: "window", id, ...grid, logit, map: { height, width }, engineMs },
    payload: Buffer.concat([bytesOf(data), bytesOf(map.data)]),
  };
}

/** @throws ProtocolError when header and payload do not fit */
export function decodeAnswer(header: Extract<FromChild, { t: "window" }>, payload: Buffer): WindowAnswer {
  const { atSample, hopSamples, frames, bins, binHz, logit, map, engineMs } = header;
  const [cells, places] = [frames * bins, map.height * map.width];
  if (payload.length !== 4 * (cells + places))
    throw new ProtocolError(`${cells} gains and a map of ${places} came with ${payload.length} bytes`);
  return {
    gains: { atSample, hopSamples, frames, bins, binHz, data: floatsOf(payload, 0, cells) },
    logit,
    map: { ...map, data: floatsOf(payload, 4 * cells, places) },
    engineMs,
  };
}
