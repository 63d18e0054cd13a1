/** What an element is for: a missing one that is not needed is told, but is no fault. */
export type Need = {
  readonly package: string;
  readonly elements: readonly string[];
  readonly needed: boolean;
  readonly why: string;
};

/** GStreamer elements by the Debian 12 / Ubuntu 24.04 package that brings them. */
export const ELEMENTS: readonly Need[] = [
  {
    package: "libgstreamer1.0-0",
    elements: ["queue", "tee", "identity", "filesrc", "filesink", "fakesink", "fdsrc", "fdsink"],
    needed: true,
    why: "core",
  },
  {
    package: "gstreamer1.0-plugins-base",
    elements: [
      "appsrc",
      "appsink",
      "audioconvert",
      "audioresample",
      "videoconvert",
      "videoscale",
      "videorate",
      "opusdec",
      "opusenc",
      "parsebin",
      "uridecodebin",
    ],
    needed: true,
    why: "conversion, Opus, access from the program",
  },
  {
    package: "gstreamer1.0-plugins-good",
    elements: [
      "flvdemux",
      "flvmux",
      "qtdemux",
      "mp4mux",
      "matroskademux",
      "matroskamux",
      "aacparse",
      "mpegaudioparse",
      "videoflip",
      "vp8dec",
      "capssetter",
      "progressreport",
    ],
    needed: true,
    why: "containers, VP8 of WHIP publishers, pictures with a rotation tag",
  },
  {
    package: "gstreamer1.0-plugins-bad",
    elements: [
      "gdppay",
      "gdpdepay",
      "h264parse",
      "h264timestamper",
      "rtmp2src",
      "rtmp2sink",
      "srtsrc",
      "srtsink",
      "tsdemux",
      "tsparse",
      "mpegtsmux",
      "voaacenc",
      "opusparse",
      "openh264enc",
    ],
    needed: true,
    why: "time stamps in band, H.264, RTMP, SRT, MPEG-TS, AAC out, H.264 in place of VP8",
  },
  { package: "gstreamer1.0-libav", elements: ["avdec_h264", "avdec_aac", "avenc_aac"], needed: true, why: "decoders" },
  {
    package: "gstreamer1.0-plugins-ugly",
    elements: ["x264enc"],
    needed: false,
    why: "tests; a better encoder than openh264enc for VP8 publishers",
  },
];
