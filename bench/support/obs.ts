import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEMO_CLIP } from "./clip.js";
import { until } from "./numbers.js";
import { type Publisher, startProgram } from "./publisher.js";

/** Sections of an OBS .ini file. */
function ini(sections: Record<string, Record<string, string | number | boolean>>): string {
  return Object.entries(sections)
    .map(
      ([name, keys]) =>
        `[${name}]\n${Object.entries(keys)
          .map(([k, v]) => `${k}=${v}\n`)
          .join("")}`,
    )
    .join("\n");
}

/**
 * Debian's obs-studio under Xvfb as a publisher: x264 at 1280x720, AAC, one scene with the sound of the demonstration clip and its picture in motion. Its
 * settings live in a home folder of their own.
 */
export async function startObs(server: string, key: string): Promise<Publisher> {
  const home = mkdtempSync(join(tmpdir(), "sightline-obs-"));
  const config = join(home, ".config", "obs-studio");
  const profile = join(config, "basic", "profiles", "Bench");
  const scenes = join(config, "basic", "scenes");
  for (const folder of [profile, scenes, join(home, "run")]) mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(
    join(config, "global.ini"),
    ini({
      General: { FirstRun: true, EnableAutoUpdates: false, LastVersion: 486_539_266, MaxLogs: 1 },
      Basic: { Profile: "Bench", ProfileDir: "Bench", SceneCollection: "Bench", SceneCollectionFile: "Bench" },
      BasicWindow: { SysTrayEnabled: false, WarnBeforeStartingStream: false, WarnBeforeStoppingStream: false },
      OBSWebSocket: { ServerEnabled: false, FirstLoad: false },
    }),
  );
  writeFileSync(
    join(profile, "basic.ini"),
    ini({
      General: { Name: "Bench" },
      Output: { Mode: "Simple" },
      SimpleOutput: { VBitrate: 2000, ABitrate: 128, StreamEncoder: "x264", UseAdvanced: true, Preset: "ultrafast" },
      Video: { BaseCX: 1280, BaseCY: 720, OutputCX: 1280, OutputCY: 720, FPSType: 0, FPSCommon: 30 },
      Audio: { SampleRate: 48_000, ChannelSetup: "Stereo" },
    }),
  );
  const service = { type: "rtmp_custom", settings: { server, key, use_auth: false } };
  writeFileSync(join(profile, "service.json"), JSON.stringify(service));
  const clip = { local_file: DEMO_CLIP, is_local_file: true, looping: true };
  // Without a graphics card OBS shows one picture of a media source and stays there: scrolling makes it move.
  const scroll = { id: "scroll_filter", name: "Scroll", enabled: true, settings: { speed_x: 60, loop: true } };
  const item = {
    name: "Talk",
    id: 1,
    visible: true,
    pos: { x: 0, y: 0 },
    scale: { x: 1, y: 1 },
    align: 5,
    bounds_type: 0,
    crop_left: 0,
  };
  writeFileSync(
    join(scenes, "Bench.json"),
    JSON.stringify({
      name: "Bench",
      current_scene: "Scene",
      current_program_scene: "Scene",
      scene_order: [{ name: "Scene" }],
      sources: [
        { id: "scene", name: "Scene", settings: { id_counter: 1, custom_size: false, items: [item] } },
        { id: "ffmpeg_source", name: "Talk", settings: clip, mixers: 255, volume: 1, enabled: true, filters: [scroll] },
      ],
      groups: [],
      transitions: [],
      current_transition: "Fade",
      transition_duration: 300,
    }),
  );
  const display = startProgram("Xvfb", ["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"]);
  const number = await until("Xvfb", () => /^(\d+)\n/m.exec(display.said())?.[1], 10_000);
  const obs = startProgram(
    "obs",
    ["--startstreaming", "--multi", "--profile", "Bench", "--collection", "Bench", "--scene", "Scene"],
    {
      env: {
        HOME: home,
        XDG_CONFIG_HOME: join(home, ".config"),
        XDG_RUNTIME_DIR: join(home, "run"),
        DISPLAY: `:${number}`,
        QT_QPA_PLATFORM: "xcb",
        LIBGL_ALWAYS_SOFTWARE: "1",
        PULSE_SERVER: "none",
      },
    },
  );
  return {
    ...obs,
    async stop() {
      await obs.stop();
      await display.stop();
      rmSync(home, { recursive: true, force: true });
    },
  };
}
