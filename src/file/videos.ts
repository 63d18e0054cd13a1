import { type Heat, withHeat, writeCam } from "./cam.js";
import { WHOLE_FRAMES } from "./cam-pass.js";
import { CropPictures } from "./crop-video.js";
import { FileError } from "./errors.js";
import type { JobLog } from "./job-log.js";
import { type MuxSound, remux } from "./mux.js";
import type { Results } from "./part-file.js";

export type VideoOptions = {
  readonly input: string;
  readonly cam?: boolean;
  readonly camCrop?: boolean;
  readonly mp4?: boolean;
  readonly signal?: AbortSignal;
};
export type VideoSources = {
  readonly sound: MuxSound;
  /** Of cam.mp4 and crop.mp4. */
  readonly encoder: string | null;
  readonly heat: () => Heat;
  /** What `--cam-model` wrote: where to crop. */
  readonly camLines?: string;
};

/**
 * onscreen.mp4, cam.mp4 and crop.mp4, those that were asked for. The sound files stand without a video that cannot be made (a codec that MP4 does
 * not take): that is a warning.
 */
export async function writeVideos(
  { input, cam, camCrop, mp4 = true, signal }: VideoOptions,
  log: JobLog,
  results: Results,
  { sound, encoder, heat, camLines }: VideoSources,
): Promise<void> {
  const optional = async (
    name: "onscreen.mp4" | "cam.mp4" | "crop.mp4",
    write: (path: string) => Promise<void>,
  ): Promise<void> => {
    log.progress(name, 0, null);
    try {
      await write(results.part(name));
    } catch (error) {
      if (!(error instanceof FileError) || error.code !== "SL_FILE_MUX" || signal?.aborted) throw error;
      await results.drop(name);
      log.warn("SL_FILE_MUX", `${name} was not written: ${error.message}`);
    }
  };
  if (mp4) await optional("onscreen.mp4", (path) => remux(input, { path, sound, signal }));
  if (cam && encoder !== null)
    await optional("cam.mp4", (path) => writeCam({ input, path, remake: withHeat(heat()), sound, encoder, signal }));
  if (camCrop && encoder !== null && camLines !== undefined)
    await optional("crop.mp4", (path) =>
      writeCam({ input, path, remake: new CropPictures(camLines), reading: WHOLE_FRAMES, sound, encoder, signal }),
    );
}
