/** The part of the node-webrtc API (`nonstandard`) that is used: @roamhq/wrtc has it, and so may others. Tracks are whatever it makes. */
export type AudioData = {
  /** Interleaved, 16 bits. */
  readonly samples: Int16Array;
  /** Hz. */
  readonly sampleRate: number;
  /** Default 16; nothing else is taken. */
  readonly bitsPerSample?: number;
  /** Default 1, at most 8. */
  readonly channelCount?: number;
  /** Samples of one channel. */
  readonly numberOfFrames?: number;
};

export type VideoFrame = {
  readonly width: number;
  readonly height: number;
  /** I420 without padding. */
  readonly data: Uint8Array;
  /** Degrees clockwise that make it upright. */
  readonly rotation?: number;
};

export type AudioSink = { ondata: ((data: AudioData) => void) | null; stop(): void };
export type VideoSink = { onframe: ((event: { readonly frame: VideoFrame }) => void) | null; stop(): void };
export type AudioSource<Track> = { createTrack(): Track; onData(data: AudioData): void };

export type Wrtc<Track> = {
  readonly nonstandard: {
    readonly RTCAudioSink: new (track: Track) => AudioSink;
    readonly RTCVideoSink: new (track: Track) => VideoSink;
    readonly RTCAudioSource: new () => AudioSource<Track>;
  };
};
