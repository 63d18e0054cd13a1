/**
 * All pipeline strings of a channel. Rules (measured): sinks never wait for a preroll (`async=false`) nor for the clock (`sync=false`,
 * pacing is done by us), queues on media that must not be lost are bounded in bytes only, properties over 2^24 stand in the string
 * (the binding sets numbers through float32).
 */
const SINK = "sync=false async=false";
const QUEUE = "queue max-size-time=0 max-size-buffers=0 max-size-bytes=20000000";
const GDP_SOURCE = (name: string): string =>
  `appsrc name=${name} is-live=false format=bytes max-bytes=0 caps=application/x-gdp ! gdpdepay`;
// gdppay puts the buffers of its stream header into the caps, and the binding copies them out again at every single pull.
const GDP_SINK = (name: string, limit = ""): string =>
  `gdppay crc-header=false ! capssetter join=false replace=true caps=application/x-gdp ! appsink name=${name} ${limit}${SINK}`;

/** Quotes a property value for gst_parse_launch. */
export const quote = (value: string): string => `"${value.replace(/(["\\])/g, "\\$1")}"`;

export type SoundCodec = "AAC" | "Opus";
const SOUND_DECODER: Record<SoundCodec, string> = { AAC: "aacparse ! avdec_aac", Opus: "opusdec" };

/** Rates that are handed out as they are, Hz: audioresample would hide how their times run. It takes care of odd ones. */
export const SOUND_RATES: readonly number[] = [
  8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000,
];
const RATES: Record<SoundCodec, string> = { AAC: `{${SOUND_RATES.join(",")}}`, Opus: "48000" };

/** Encoded sound (GDP, source `in`) to F32LE, 1 or 2 channels as they come; more are mixed down to 2 (sink `out`). */
export const soundDecoder = (codec: SoundCodec): string =>
  `${GDP_SOURCE("in")} ! ${SOUND_DECODER[codec]} ! audioconvert ! audioresample ! ` +
  `audio/x-raw,format=F32LE,rate=${RATES[codec]},layout=interleaved,channels=[1,2] ! ${GDP_SINK("out")}`;

/**
 * H.264 access units (GDP, source `in`) to I420 within 1920x1080 (sink `out`). Nothing may be lost before the decoder; after it the
 * newest pictures win. videoscale and videoconvert pass through what fits already.
 */
export const pictureDecoder = (): string =>
  `${GDP_SOURCE("in")} ! h264parse ! avdec_h264 max-threads=1 ! videoscale method=bilinear ! videoconvert ! ` +
  "video/x-raw,format=I420,width=[1,1920],height=[1,1080] ! queue leaky=downstream max-size-buffers=3 max-size-bytes=0 max-size-time=0 ! " +
  // An appsink takes all there is, and the queue in front of it would never leak.
  GDP_SINK("out", "max-buffers=1 ");

/**
 * Without B-frames and look-ahead: each picture leaves before the next one comes. A key frame every 30 pictures, since the source's own come
 * only when somebody asks. In the profile that every WebRTC player has.
 */
export const H264_ENCODERS: readonly string[] = [
  "x264enc tune=zerolatency speed-preset=superfast pass=qual quantizer=23 bitrate=6000 bframes=0 key-int-max=30 threads=2 aud=false",
  "openh264enc usage-type=camera complexity=low rate-control=bitrate bitrate=2500000 gop-size=30",
];

/**
 * VP8 frames (GDP, source `in`) to H.264 access units (sink `out`). Decoded pictures leak when the encoder is slow, the oldest first. H.264
 * in 4:2:0 has even sizes only; videoscale and videoconvert pass through what fits already.
 */
export const pictureReencoder = (encoder: string): string =>
  `${GDP_SOURCE("in")} ! vp8dec ! queue leaky=downstream max-size-buffers=3 max-size-bytes=0 max-size-time=0 ! videoscale add-borders=false ! ` +
  `videoconvert ! video/x-raw,format=I420,width=[2,4096,2],height=[2,4096,2] ! ${encoder} ! h264parse ! ` +
  `video/x-h264,stream-format=avc,alignment=au,profile=constrained-baseline ! ${GDP_SINK("out")}`;

export type AacEncoder = { readonly element: string; readonly delaySamples: number };
/**
 * Decoders put the sound this many samples after the timestamp of its packet, so it is taken off again (measured:
 * the priming of the encoder, constant for each).
 */
export const AAC_ENCODERS: readonly AacEncoder[] = [
  { element: "voaacenc bitrate=128000", delaySamples: 1600 },
  { element: "avenc_aac bitrate=128000", delaySamples: 1024 },
];

/** F32LE sound (GDP, source `in`) to raw AAC frames (sink `out`). */
export const aacEncoder = (encoder: AacEncoder): string =>
  `${GDP_SOURCE("in")} ! audioconvert ! ${encoder.element} ! aacparse ! audio/mpeg,stream-format=raw ! ${GDP_SINK("out")}`;

/** F32LE sound (GDP, source `in`) to Opus packets of 20 ms, as WebRTC players expect them (sink `out`).
 * opusenc takes its delay off the timestamps itself, so the second packet comes 13.5 ms after the first. */
export const opusEncoder = (): string =>
  `${GDP_SOURCE("in")} ! audioconvert ! opusenc bitrate=96000 frame-size=20 audio-type=generic ! ${GDP_SINK("out")}`;

/** Demultiplexed but still encoded: sinks `video` (avc access units), `aac`, `opus`. A branch whose stream is absent stays silent. */
const branches = (pace: string): string =>
  `d. ! video/x-h264 ! ${QUEUE} ! h264parse ! video/x-h264,stream-format=avc,alignment=au ! ${pace}${GDP_SINK("video")} ` +
  `d. ! audio/mpeg ! ${QUEUE} ! aacparse ! audio/mpeg,stream-format=raw ! ${pace}${GDP_SINK("aac")} ` +
  `d. ! audio/x-opus ! ${QUEUE} ! opusparse ! ${pace}${GDP_SINK("opus")}`;

/** RTMP pull. flvdemux hands out avc access units with avcC, PTS and DTS as they were sent: no parser touches them. */
export const rtmpSource = (uri: string): string =>
  `rtmp2src location=${quote(uri)} ! flvdemux name=d d.video ! ${QUEUE} ! ${GDP_SINK("video")} d.audio ! ${QUEUE} ! ${GDP_SINK("aac")}`;

/** Times are those of the stream: corrections by its clock reference (on by default) move with the network's jitter, 10 ms and more. */
export const srtSource = (uri: string): string =>
  `srtsrc name=net uri=${quote(uri)} ! tsdemux name=d ignore-pcr=true ${branches("")}`;

/** A file at the pace of its own timestamps. */
export const fileSource = (path: string): string =>
  `filesrc location=${quote(path)} ! parsebin name=d ${branches("identity sync=true ! ")}`;

/** FLV tags (source `in`, one a buffer) to an RTMP server. */
export const rtmpSink = (uri: string): string =>
  `appsrc name=in is-live=false format=bytes max-bytes=0 caps=video/x-flv ! rtmp2sink location=${quote(uri)} ${SINK}`;

const MUXERS: Record<string, string> = {
  ts: "mpegtsmux name=mux alignment=7",
  mkv: "matroskamux name=mux streamable=true",
  // In fragments, so that a file which is cut off (kill, power) still plays to its last second.
  mp4: "mp4mux name=mux fragment-duration=1000 fragment-mode=first-moov-then-finalise",
};

export type MuxTracks = { readonly video: boolean; readonly audio: boolean };

const muxed = (format: string, tracks: MuxTracks, end: string): string => {
  const parse = format === "ts" ? "h264parse config-interval=-1" : "h264parse";
  const video = tracks.video ? `${GDP_SOURCE("video")} ! ${parse} ! ${QUEUE} ! mux. ` : "";
  const audio = tracks.audio ? `${GDP_SOURCE("audio")} ! aacparse ! ${QUEUE} ! mux. ` : "";
  return `${MUXERS[format]} ! ${end} ${video}${audio}`;
};

/** Access units (GDP, source `video`) and AAC (GDP, source `audio`) in a transport stream to an SRT peer (element `net`). */
export const srtSink = (uri: string, tracks: MuxTracks): string =>
  muxed("ts", tracks, `srtsink name=net uri=${quote(uri)} wait-for-connection=false ${SINK}`);

/** The same into a file (element `file`); `format` is a key of the muxers: ts, mkv, mp4. */
export const fileSink = (path: string, format: string, tracks: MuxTracks): string =>
  muxed(format, tracks, `filesink name=file location=${quote(path)} ${SINK}`);

export const isMuxedFormat = (format: string): boolean => format in MUXERS;
