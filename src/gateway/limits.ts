/** Limits of the gateway. Everything that a stranger can make grow has one. */
export const LIMITS = {
  /** Publishers that are live at the same time. */
  maxPublishers: 256,
  /** Players (RTMP and HTTP together), waiting ones included. */
  maxPlayers: 256,
  /** Connections of each listener that have not yet said what they want. */
  maxPending: 64,
  /** A player gets nothing new while its connection holds this much. */
  maxPlayerBacklogBytes: 2 * 1024 * 1024,
  /** The same for a channel's socket. */
  maxChannelBacklogBytes: 2 * 1024 * 1024,
  /** Kept of the current group of pictures of each stream. */
  maxGopBytes: 8 * 1024 * 1024,
  /** A cleaned programme that has sent nothing for this long is over, or interrupted: joiners wait for its next key frame. */
  restMs: 1_000,
  /** From connecting to publish or play, and for an HTTP request's head. */
  handshakeMs: 10_000,
  /** A publisher that sends no byte for this long is dropped, so that its restart is let in. */
  publisherSilentMs: 5_000,
  /** A player that takes no byte for this long although some wait is dropped. */
  playerStalledMs: 30_000,
  /** WHIP and WHEP sessions together, those that are still connecting included: every publisher, and the most viewers that can be set. */
  maxSessions: 756,
  /** WHIP sessions, and as many WHEP sessions, whose media connection is not up yet. */
  maxConnecting: 16,
  /** A WHIP or WHEP peer from which nothing (a publisher: no media) comes for so long has vanished. */
  sessionSilentMs: 10_000,
  /** Addresses from which one WebRTC peer may speak. */
  maxPeerAddresses: 16,
  /** Datagrams of one WebRTC peer in a second: 190 Mbit/s of full packets. */
  maxDatagramsPerSecond: 20_000,
  /** Larger ones are dropped: peers send what fits into an Ethernet frame, and what comes is worked off in one go. */
  maxDatagramBytes: 2048,
  /** Unencrypted DTLS handshake of one WebRTC peer: some 3 KB are needed, and sent again when they are lost. */
  maxHandshakeBytes: 64 * 1024,
  /** SCTP packets of one WebRTC peer in a second that the stack cannot be given; some peers send a chunk that it does not know. */
  maxBadSctpPerSecond: 20,
  /** Pieces of data on data channels of one WebRTC peer in a second: those of twenty messages, and of channels that are opened. */
  maxDataChunksPerSecond: 200,
  /** Streams of one WebRTC peer's data channels. */
  maxDataStreams: 64,
  /** Chunks of data that wait in the stack: for others before them, or to be taken by the peer. */
  maxDataWaiting: 256,
  /** Packets sent again to one WHEP viewer in a second. */
  maxResentPerSecond: 1000,
  /** Messages on data channels of one WebRTC peer in a second; none is needed. */
  maxDataMessagesPerSecond: 20,
  /** Changes of one session by PATCH in ten seconds: trickled candidates, ICE restarts. */
  maxPatches: 100,
  /** A data channel gets nothing new while it holds this much. */
  maxDataBacklogBytes: 64 * 1024,
  /** At most one key frame is asked for in this time. */
  keyFrameRequestMs: 500,
  /** After an answer that ends a connection: time for the peer to read it. */
  lingerMs: 1_000,
  /** After the end of a programme: time for a player to take what its connection still holds. */
  drainMs: 5_000,
  /** Log lines a second; what goes over is counted. */
  maxLogLines: 50,
} as const;

export type Limits = { readonly [K in keyof typeof LIMITS]: number };
