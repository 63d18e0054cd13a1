/** `sightline/webrtc`: separation of the tracks of a node-webrtc API peer, for bots and SFU side-cars. docs/library.md has the guide. */
export { LibraryError } from "./library/errors.js";
export { type OpenModelOptions, openModel } from "./library/model.js";
export type { StatsPeer } from "./library/sound-behind.js";
export {
  type SeparatedTracks,
  type SeparateTracksOptions,
  separateTracks,
  type TrackControls,
  type TracksState,
} from "./library/tracks.js";
export type { AudioData, AudioSink, AudioSource, VideoFrame, VideoSink, Wrtc } from "./library/wrtc.js";
export { MissingPackageError } from "./optional.js";
