import { createServer } from "node:net";
import { parseHostPort } from "../config/schema.js";
import { reachable } from "./urls.js";

/** A port is taken. The message says which and what to do. */
export class PortInUseError extends Error {
  readonly code = "SL_PORT_IN_USE";
  override readonly name = "PortInUseError";
}

/** The addresses that a service listens on, by their names in the configuration. */
export type Listener = "http" | "rtmp" | "media";
const PURPOSE: Record<Listener, string> = {
  http: "dashboard and API",
  rtmp: "RTMP",
  media: "HTTP-FLV, WHIP and WHEP",
};

/**
 * @param dashboard HOST:PORT at which another Sightline's dashboard would answer: if it does, the message says that it is one of ours
 * @throws PortInUseError
 */
export async function assertFree(key: Listener, address: string, dashboard: string): Promise<void> {
  const { host, port } = parseHostPort(address);
  if (port === 0) return;
  const error = await portFault(host, port);
  if (error) throw await portError(key, address, error, dashboard);
}

/** null when the port can be listened on, else what the system says. */
export function portFault(host: string, port: number): Promise<NodeJS.ErrnoException | null> {
  return new Promise((resolveFault) => {
    const probe = createServer();
    probe.once("error", (error) => resolveFault(error));
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolveFault(null)));
  });
}

/** Whether a Sightline answers at this address (HOST:PORT of `http`). */
export async function isSightline(http: string): Promise<boolean> {
  const { host, port } = parseHostPort(http);
  try {
    const answer = await fetch(`http://${reachable(host)}:${port}/metrics`, { signal: AbortSignal.timeout(2000) });
    return (await answer.text()).includes("sightline_info");
  } catch {
    return false;
  }
}

/** What the system said of a port, in words that help. @param dashboard as in `assertFree` */
export async function portError(
  key: Listener,
  address: string,
  error: NodeJS.ErrnoException,
  dashboard: string,
): Promise<PortInUseError> {
  const { port } = parseHostPort(address);
  const option = key === "http" ? "start with --http HOST:PORT, or " : "";
  const fix = `${option}set \`${key}: HOST:PORT\` in the configuration (or SIGHTLINE_${key.toUpperCase()}=HOST:PORT)`;
  const what = `${address} (${PURPOSE[key]})`;
  if (error.code === "EADDRINUSE" && (await isSightline(dashboard)))
    return new PortInUseError(
      `${what} is in use: another Sightline is running here, perhaps the demonstration of \`make run\`. Stop it first (Ctrl-C), or ${fix}.`,
    );
  if (error.code === "EADDRINUSE") {
    return new PortInUseError(
      `${what} is in use by another program. See which one: ss -ltnp 'sport = :${port}'. Or ${fix}.`,
    );
  }
  if (error.code === "EACCES")
    return new PortInUseError(`${what} may not be opened: ports below 1024 need root. Or ${fix}.`);
  return new PortInUseError(`${what} cannot be opened: ${error.message}. Or ${fix}.`);
}
