import type { Code } from "../codes.js";
import type { LineReport, SourceState } from "../transport/ipc/messages.js";
import { pictureSize, type SoundInfo, soundInfo } from "./format-info.js";
import type { GatewayLink } from "./gateway-link.js";
import type { Log } from "./log.js";
import { MediaClock } from "./media-clock.js";
import { withoutSecrets } from "./output/output.js";
import { PublishSource } from "./source/publish.js";
import { PullSource } from "./source/pull.js";
import type { Source, SourceEvents } from "./source/source.js";
import type { SoundUnit, SourceUnit, VideoUnit } from "./units.js";

export type IntakeOptions = {
  /** `publish`, or the address to fetch from. */
  readonly input: string;
  readonly gateway: GatewayLink;
  readonly declaredMs: number;
  readonly log: Log;
  /** Units on the channel's media timeline. */
  readonly onVideo: (unit: VideoUnit, arrivedMs: number) => void;
  readonly onSound: (unit: SoundUnit) => void;
};

type VideoInfo = {
  readonly codec: string;
  readonly width: number;
  readonly height: number;
  /** Pictures a second. */
  readonly fps: number;
  /** Code of what is done to the pictures here, null: nothing. */
  readonly notice: Code | null;
};

/** The rate is measured over so many pictures. */
const RATE_PICTURES = 64;

/** What comes in, still encoded: the source and its state, each unit's place on the media timeline, and what the feed consists of. */
export class Intake {
  readonly clock: MediaClock;
  readonly #o: IntakeOptions;
  readonly #source: Source;
  #state: { source: SourceState; code: string | null } = { source: "connecting", code: null };
  #sound: { readonly format: object; readonly info: SoundInfo } | null = null;
  #video: {
    readonly config: Buffer;
    readonly width: number;
    readonly height: number;
    readonly reencodedFrom: string | null;
  } | null = null;
  #lastPtsMs: number[] = [];
  readonly #counts = { video_units_in: 0, sound_units_in: 0 };

  /** @throws TypeError for an address that nothing can be fetched from */
  constructor(options: IntakeOptions) {
    this.#o = options;
    const { input, gateway, declaredMs } = options;
    const events = this.#sourceEvents();
    this.#source = input === "publish" ? new PublishSource(gateway, events) : new PullSource(input, events);
    this.clock = new MediaClock(this.#source.wraps32, declaredMs);
  }

  /** State of the source and its code, null while all is well. */
  get state(): { readonly source: SourceState; readonly code: string | null } {
    return this.#state;
  }

  /** Null while no pictures come. */
  videoInfo(nowMs: number): VideoInfo | null {
    if (this.#video === null || !this.clock.has("video", nowMs)) return null;
    const { width, height, reencodedFrom } = this.#video;
    const notice = reencodedFrom === null ? null : "SL_PICTURE_REENCODED";
    return { codec: reencodedFrom ?? "H.264", width, height, fps: this.#rate(), notice };
  }

  get line(): LineReport | null {
    return this.#source.line;
  }

  /** Null while no sound comes. */
  soundInfo(nowMs: number): SoundInfo | null {
    return this.#sound !== null && this.clock.has("sound", nowMs) ? this.#sound.info : null;
  }

  get counters(): Readonly<Record<string, number>> {
    const { discontinuities, restarts } = this.clock.epoch;
    return {
      ...this.#counts,
      ...this.#source.counters,
      source_discontinuities: discontinuities,
      source_restarts: restarts,
    };
  }

  start(): void {
    this.#source.start();
  }

  close(): void {
    this.#source.close();
  }

  #sourceEvents(): SourceEvents {
    const { input, log } = this.#o;
    return {
      onUnit: (unit) => this.#take(unit),
      onRestart: () => this.clock.restart(),
      onFault: (what, fault) => log("warn", `${what} failed and is started again`, { ...fault }),
      onState: (source, code, detail) => {
        this.#state = { source, code };
        log(code === null ? "info" : "warn", "source", {
          state: source,
          code,
          ...(detail === undefined ? {} : { detail: withoutSecrets(detail, input) }),
        });
      },
    };
  }

  #take(raw: SourceUnit): void {
    const nowMs = performance.now();
    const unit = this.clock.place(raw, nowMs);
    if (unit.kind === "sound") {
      this.#counts.sound_units_in += 1;
      if (this.#sound?.format !== unit.format) this.#newSoundFormat(unit.format, soundInfo(unit.format));
      this.#o.onSound(unit);
      return;
    }
    this.#counts.video_units_in += 1;
    if (this.#video?.config !== unit.config) this.#newVideoConfig(unit);
    this.#lastPtsMs.push(unit.ptsMs);
    if (this.#lastPtsMs.length > RATE_PICTURES) this.#lastPtsMs.shift();
    // It came when its VP8 came.
    this.#o.onVideo(unit, nowMs - (unit.reencoded?.tookMs ?? 0));
  }

  #newVideoConfig({ config, reencoded }: VideoUnit): void {
    const reencodedFrom = reencoded?.from ?? null;
    if (reencodedFrom !== null && this.#video?.reencodedFrom !== reencodedFrom)
      this.#o.log("warn", "the picture is re-encoded", { code: "SL_PICTURE_REENCODED", from: reencodedFrom });
    this.#video = { config, reencodedFrom, ...(pictureSize(config) ?? { width: 0, height: 0 }) };
  }

  #newSoundFormat(format: object, info: SoundInfo): void {
    this.#sound = { format, info };
    if (info.channels > 2)
      this.#o.log("warn", "the sound is mixed down to stereo", { code: "SL_SOUND_DOWNMIXED", channels: info.channels });
  }

  /** Pictures a second, of the newest ones (in any order). */
  #rate(): number {
    const n = this.#lastPtsMs.length;
    if (n < 2) return 0;
    const span = Math.max(...this.#lastPtsMs) - Math.min(...this.#lastPtsMs);
    return span > 0 ? Math.round(((n - 1) * 100_000) / span) / 100 : 0;
  }
}
