import { suite } from "uvu";
import * as assert from "uvu/assert";
import { stopAllPipelines } from "../../src/transport/gst/pipeline.js";
import { resolvedSrt } from "../../src/transport/srt-address.js";
import { clipFolder, flashAndBeep } from "../gst/clip.js";
import { withThreads } from "../gst/threads.js";
import { start } from "./started.js";
import { freeUdpPort, run, until } from "./support.js";

withThreads();
const test = suite("SRT");
const folder = clipFolder();
test.after(() => {
  stopAllPipelines();
  folder.remove();
});

test("an SRT output says when nobody receives it, as caller and as listener, and is live again by itself", async () => {
  const clip = flashAndBeep(folder.path, "round.flv", { seconds: 4 });
  for (const mode of ["caller", "listener"]) {
    const port = await freeUdpPort();
    // By name and by address.
    const host = mode === "caller" ? "localhost" : "127.0.0.1";
    const started = await start(`file://${clip}?loop=1`, [`srt://${host}:${port}?mode=${mode}`]);
    const shown = (): string => {
      const { state, reason } = started.channel.status().outputs[1]!;
      return `${state} ${reason}`;
    };
    const receiver = () =>
      run(
        "ffmpeg",
        [
          "-v",
          "quiet",
          "-nostdin",
          "-i",
          `srt://127.0.0.1:${port}?mode=${mode === "caller" ? "listener" : "caller"}`,
        ].concat(["-c", "copy", "-f", "null", "-"]),
        60_000,
      );
    await until(() => shown() === "connecting SL_OUTPUT_NO_RECEIVER", 8000, `${mode}: nobody there`);
    for (let n = 0; n < 2; n++) {
      const { child, exited } = receiver();
      await until(() => shown() === "live null", 10_000, `${mode}: live`);
      child.kill("SIGKILL");
      await exited;
      // A listener is not told by the bus: it looks twice a minute.
      if (mode === "listener") break;
      await until(() => shown() === "connecting SL_OUTPUT_NO_RECEIVER", 15_000, `${mode}: gone`);
    }
    await started.close();
  }
});

test("names in SRT addresses: asked for without holding anything up; one that there is not is a failure that says so", async () => {
  for (const same of ["srt://127.0.0.1:9?mode=caller", "srt://[::1]:9", "srt://:9?mode=listener", "srt://10.0.0.1:9"])
    assert.is(await resolvedSrt(same), same);
  assert.match(await resolvedSrt("srt://localhost:9?mode=caller"), /^srt:\/\/(127\.0\.0\.1|\[::1\]):9\?mode=caller$/);
  const clip = flashAndBeep(folder.path, "named.flv", { seconds: 4 });
  const details: string[] = [];
  const started = await start(`file://${clip}?loop=1`, ["srt://no-such-host.invalid:9?mode=caller"], details);
  await until(() => started.states()[0] === "back-off", 8000, "the failure");
  assert.ok(
    details.some((d) => d.includes("no-such-host.invalid")),
    details.join("\n"),
  );
  await started.close();
});

test("an SRT listener waits for its caller as long as it takes", async () => {
  const port = await freeUdpPort();
  const started = await start(`srt://127.0.0.1:${port}?mode=listener`, []);
  // Any other source is given up after 8 s.
  await new Promise((resolve) => setTimeout(resolve, 9000));
  const { source, counters } = started.channel.status();
  await started.close();
  assert.equal([source, counters.source_failures], ["connecting", 0]);
});

test.run();
