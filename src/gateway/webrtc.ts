import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { VIEWER_STEMS, type ViewerStem, type WebRtcSettings } from "../transport/ipc/messages.js";
import { MAX_SDP_BYTES, type Offer, readOffer, SdpError } from "../transport/webrtc/sdp.js";
import { MAX_FRAGMENT_BYTES, readFragment, writeFragment } from "../transport/webrtc/sdp-fragment.js";
import { isRefusal, type Refusal } from "./roles.js";
import type { PeerContext } from "./rtmp-peer.js";
import { answer, answerProblem, bearer, FRAGMENT, HttpProblem, iceServerLinks, readBody, SDP } from "./webrtc-http.js";
import { WebRtcPeer } from "./webrtc-peer.js";
import { WhepViewer } from "./whep.js";
import { WhipPublisher } from "./whip.js";

export const DEFAULT_WEBRTC: WebRtcSettings = { hosts: [], ports: null, viewers: 50, iceServers: [] };

const PATH = /^\/(whip|whep|webrtc)(?:\/([^/?]{1,200}))?\/?$/;
const SESSION_ID = /^[A-Za-z0-9_-]{22}$/;
const CHANNEL = /^[a-z0-9][a-z0-9_-]{0,63}$/;

/** Status of a refusal by the hub. */
const STATUS: Readonly<Record<string, number>> = {
  SL_KEY_UNKNOWN: 401,
  SL_KEY_IN_USE: 409,
  SL_STREAM_UNKNOWN: 404,
  SL_WEBRTC_REORDERED: 422,
};

type End = WhipPublisher | WhepViewer;
type Session = {
  readonly id: string;
  readonly label: string;
  readonly peer: WebRtcPeer;
  readonly openedMs: number;
  /** Null until it is known what the session is. */
  end: End | null;
  etag: string;
  ufrag: string;
  patches: number;
  patchesSinceMs: number;
  /** Changes wait for each other. */
  busy: Promise<void>;
};

/** WHIP (RFC 9725) and WHEP endpoints on the gateway's HTTP server, and the sessions behind them. */
export class WebRtcEndpoints {
  readonly #sessions = new Map<string, Session>();
  #closed = false;

  constructor(
    private readonly context: PeerContext,
    private readonly settings: WebRtcSettings,
    private readonly listenHost: string,
  ) {}

  get sessions(): number {
    return this.#sessions.size;
  }

  /** Answers a request if it is for these endpoints; false: it is not. */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const [place = "", query = ""] = (request.url ?? "").split("?", 2);
    const path = PATH.exec(place);
    if (path === null) return false;
    this.context.counters.add("http_requests_total");
    response.on("error", () => response.destroy());
    this.#route(
      request,
      response,
      path[1]!,
      path[2] === undefined ? null : decoded(path[2]),
      new URLSearchParams(query),
    ).catch((error: unknown) => answerProblem(request, response, this.#problem(error)));
    return true;
  }

  /** Looks at the time limits; called a few times a second. */
  check(): void {
    const time = this.context.now();
    for (const session of [...this.#sessions.values()]) {
      if (!session.peer.connected && time - session.openedMs > this.context.limits.handshakeMs) {
        this.context.counters.add("webrtc_sessions_not_connected_total");
        this.#end(session, { code: "SL_WEBRTC_NOT_CONNECTED", detail: "no media connection in time" });
      } else this.#check(session);
    }
  }

  /** A fault of ours in one session ends that one: the others are still to be looked at. */
  #check(session: Session): void {
    try {
      session.end?.check();
    } catch (error) {
      this.#failed(session, error);
    }
  }

  close(): void {
    this.#closed = true;
    for (const session of [...this.#sessions.values()]) this.#end(session, null);
  }

  async #route(
    request: IncomingMessage,
    response: ServerResponse,
    place: string,
    name: string | null,
    query: URLSearchParams,
  ): Promise<void> {
    const { method } = request;
    if (method === "OPTIONS") {
      const accept: Record<string, string> = place === "webrtc" ? { "Accept-Patch": FRAGMENT } : { "Accept-Post": SDP };
      answer(response, 204, accept);
    } else if (place === "webrtc") {
      const session = name !== null && SESSION_ID.test(name) ? this.#sessions.get(name) : undefined;
      if (session === undefined) throw new HttpProblem(404, "SL_SESSION_UNKNOWN", "no such session");
      if (method === "DELETE") {
        this.#end(session, null);
        answer(response, 200);
      } else if (method === "PATCH") await this.#patch(session, request, response);
      else throw notAllowed("PATCH, DELETE, OPTIONS");
    } else if (method !== "POST") throw notAllowed("POST, OPTIONS");
    else if (place === "whip") await this.#publish(request, response, name);
    else await this.#view(request, response, name, query.get("stem") ?? "clean");
  }

  async #publish(request: IncomingMessage, response: ServerResponse, name: string | null): Promise<void> {
    const label = labelOf(request);
    const key = bearer(request) ?? name;
    const publisher = new WhipPublisher(label, this.context, (reason) => this.#end(session(), reason));
    let made: Session | null = null;
    const session = (): Session | null => made;
    if (key === null)
      throw new HttpProblem(
        401,
        "SL_KEY_UNKNOWN",
        "the stream key is missing: /whip/KEY or Authorization: Bearer KEY",
        {
          "WWW-Authenticate": "Bearer",
        },
      );
    throwRefusal(this.context.hub.publishRefusal(key, publisher));
    this.#assertRoom(WhipPublisher);
    const offer = readOffer(await readBody(request, SDP, MAX_SDP_BYTES), "publish");
    this.#assertRoom(WhipPublisher);
    const publication = this.context.hub.publish(key, publisher);
    if (isRefusal(publication)) throw refused(publication);
    try {
      made = this.#open(label, offer, () => {});
    } catch (error) {
      publication.end();
      throw error;
    }
    made.end = publisher;
    publisher.start(made.peer, publication, offer);
    await this.#accept(made, offer, response);
  }

  async #view(request: IncomingMessage, response: ServerResponse, name: string | null, stem: string): Promise<void> {
    if (name === null || !CHANNEL.test(name))
      throw new HttpProblem(
        404,
        "SL_STREAM_UNKNOWN",
        "ask for /whep/CHANNEL, with ?stem=clean, ?stem=input or ?stem=removed",
      );
    if (!VIEWER_STEMS.includes(stem as ViewerStem))
      throw new HttpProblem(400, "SL_HTTP_INVALID", `stem is ${VIEWER_STEMS.join(", ")}`);
    const viewable = this.context.hub.viewable(name);
    if (isRefusal(viewable)) throw refused(viewable);
    this.#assertRoomForViewer();
    const offer = readOffer(await readBody(request, SDP, MAX_SDP_BYTES), "play", viewable.avcC?.[1] ?? null);
    this.#assertRoomForViewer();
    const session = this.#open(labelOf(request), offer, () => viewer.connected());
    const finish = (reason: Refusal): void => this.#end(session, reason);
    const viewer = new WhepViewer(session.peer, offer, name, stem as ViewerStem, this.context, finish);
    session.end = viewer;
    this.context.counters.add("viewers_total");
    await this.#accept(session, offer, response);
  }

  /** Viewers, who need no key, must not take the places of publishers, who have shown theirs: each kind waits for its own. */
  #assertRoom(kind: typeof WhipPublisher | typeof WhepViewer): void {
    let connecting = 0;
    for (const { peer, end } of this.#sessions.values()) if (!peer.connected && end instanceof kind) connecting += 1;
    const { maxSessions, maxConnecting } = this.context.limits;
    if (!this.#closed && this.#sessions.size < maxSessions && connecting < maxConnecting) return;
    this.context.counters.add("webrtc_sessions_refused_total");
    throw new HttpProblem(503, "SL_GATEWAY_FULL", "too many WebRTC sessions", { "Retry-After": "5" });
  }

  #assertRoomForViewer(): void {
    this.#assertRoom(WhepViewer);
    let viewers = 0;
    for (const { end } of this.#sessions.values()) if (end instanceof WhepViewer) viewers += 1;
    if (viewers < this.settings.viewers) return;
    this.context.counters.add("viewers_refused_total");
    throw new HttpProblem(503, "SL_VIEWERS_FULL", `${viewers} viewers are allowed`, { "Retry-After": "30" });
  }

  #open(label: string, offer: Offer, onConnected: () => void): Session {
    this.context.counters.add("webrtc_sessions_total");
    this.context.counters.add("webrtc_candidates_total", offer.candidates);
    const session: Session = {
      id: randomBytes(16).toString("base64url"),
      label,
      peer: new WebRtcPeer(this.context, this.settings, this.listenHost, {
        onConnected,
        onEnded: () => this.#end(session, { code: "SL_WEBRTC_GONE", detail: "the media connection has ended" }),
      }),
      openedMs: this.context.now(),
      end: null,
      etag: newEtag(),
      ufrag: offer.iceUfrag,
      patches: 0,
      patchesSinceMs: this.context.now(),
      busy: Promise.resolve(),
    };
    this.#sessions.set(session.id, session);
    return session;
  }

  async #accept(session: Session, offer: Offer, response: ServerResponse): Promise<void> {
    let sdp: string;
    try {
      sdp = await session.peer.accept(offer);
    } catch (error) {
      this.#failed(session, error);
      throw new HttpProblem(422, "SL_WEBRTC_FAILED", "the WebRTC stack does not take this offer");
    }
    if (response.destroyed) {
      // Nobody will ever know its address.
      this.#end(session, null);
      return;
    }
    const links = iceServerLinks(this.settings.iceServers);
    answer(
      response,
      201,
      {
        "Content-Type": SDP,
        Location: `/webrtc/${session.id}`,
        ETag: session.etag,
        "Accept-Patch": FRAGMENT,
        ...(links.length > 0 ? { Link: links } : {}),
      },
      sdp,
    );
  }

  async #patch(session: Session, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const condition = request.headers["if-match"];
    if (condition === undefined)
      throw new HttpProblem(428, "SL_SESSION_STALE", "If-Match with the ETag of the session, or *, is needed");
    const { now, limits } = this.context;
    if (now() - session.patchesSinceMs > 10_000) [session.patchesSinceMs, session.patches] = [now(), 0];
    if (++session.patches > limits.maxPatches) throw new HttpProblem(429, "SL_WEBRTC_FLOOD", "too many changes");
    const fragment = readFragment(await readBody(request, FRAGMENT, MAX_FRAGMENT_BYTES));
    const before = session.busy;
    const change = (async () => {
      await before;
      if (!this.#sessions.has(session.id)) throw new HttpProblem(404, "SL_SESSION_UNKNOWN", "no such session");
      if (condition.trim() !== "*" && condition.trim() !== session.etag)
        throw new HttpProblem(412, "SL_SESSION_STALE", "the ICE session has been replaced");
      this.context.counters.add("webrtc_candidates_total", fragment.candidates);
      if (fragment.ufrag === null || fragment.ufrag === session.ufrag) {
        // A trickled candidate: as an ICE lite agent we learn the address from its check.
        answer(response, 204);
        return;
      }
      if (fragment.pwd === null) throw new HttpProblem(400, "SL_WEBRTC_SDP_MALFORMED", "a=ice-pwd is missing");
      await this.#restart(session, fragment.ufrag, fragment.pwd, response);
    })();
    session.busy = change.catch(() => {});
    await change;
  }

  async #restart(session: Session, ufrag: string, pwd: string, response: ServerResponse): Promise<void> {
    this.context.counters.add("webrtc_ice_restarts_total");
    try {
      const ours = await session.peer.restart(ufrag, pwd);
      session.ufrag = ufrag;
      session.etag = newEtag();
      const body = writeFragment(ours.ufrag, ours.pwd, ours.mid, ours.candidates);
      answer(response, 200, { "Content-Type": FRAGMENT, ETag: session.etag }, body);
    } catch (error) {
      this.#failed(session, error);
      throw new HttpProblem(422, "SL_WEBRTC_FAILED", "the ICE session could not be restarted");
    }
  }

  #failed(session: Session, error: unknown): void {
    this.context.counters.add("webrtc_sessions_failed_total");
    this.#end(session, { code: "SL_WEBRTC_FAILED", detail: error instanceof Error ? error.message : String(error) });
  }

  /** Frees a session. Idempotent. @param reason null: as the peer wished, or the gateway ends */
  #end(session: Session | null, reason: Refusal | null): void {
    if (session === null || !this.#sessions.delete(session.id)) return;
    if (reason !== null) {
      if (reason.code === "SL_WEBRTC_GONE") this.context.counters.add("webrtc_sessions_gone_total");
      this.context.log("warn", "session ended", { peer: session.label, ...reason });
    }
    session.end?.leave();
    session.peer.close().catch((error: unknown) => {
      this.context.counters.add("gateway_faults_total");
      this.context.log("error", "a session could not be closed", { code: "SL_GATEWAY_FAULT", detail: String(error) });
    });
  }

  #problem(error: unknown): HttpProblem {
    if (error instanceof HttpProblem) return error;
    if (error instanceof SdpError) {
      return new HttpProblem(error.code === "SL_WEBRTC_SDP_MALFORMED" ? 400 : 422, error.code, error.message);
    }
    this.context.counters.add("gateway_faults_total");
    this.context.log("error", "a request could not be answered", {
      code: "SL_HTTP_INTERNAL",
      detail: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    return new HttpProblem(500, "SL_HTTP_INTERNAL", "a fault of ours; the log has more");
  }
}

const notAllowed = (methods: string): HttpProblem =>
  new HttpProblem(405, "SL_HTTP_METHOD", `only ${methods}`, { Allow: methods });

const newEtag = (): string => `"${randomBytes(8).toString("hex")}"`;

const labelOf = (request: IncomingMessage): string =>
  `${request.socket.remoteAddress ?? "?"}:${request.socket.remotePort ?? 0}`;

function refused({ code, detail }: Refusal): HttpProblem {
  const status = STATUS[code] ?? 503;
  return new HttpProblem(status, code, detail, status === 401 ? { "WWW-Authenticate": "Bearer" } : {});
}

function throwRefusal(refusal: Refusal | null): void {
  if (refusal !== null) throw refused(refusal);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
