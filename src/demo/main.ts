import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startDemoPublisher } from "./publisher.js";

/**
 * The embedded publisher as a process: `node dist/src/demo/main.js --url rtmp://HOST:PORT/live/KEY [--clip FILE]`, or forked with the
 * address in SIGHTLINE_DEMO_URL. Ends on SIGTERM, SIGINT, and when the parent that forked it is gone.
 */
const { values } = parseArgs({ options: { url: { type: "string" }, clip: { type: "string" } } });
const rtmpUrl = values.url ?? process.env.SIGHTLINE_DEMO_URL;
if (rtmpUrl === undefined) {
  process.stderr.write("usage: main.js --url rtmp://HOST:PORT/live/KEY [--clip FILE]\n");
  process.exit(2);
}

/** demo/talk.flv of the package; from src/demo and from dist/src/demo. */
const shipped = fileURLToPath(
  new URL(
    import.meta.url.includes("/dist/src/demo/") ? "../../../demo/talk.flv" : "../../demo/talk.flv",
    import.meta.url,
  ),
);

const publisher = await startDemoPublisher({
  rtmpUrl,
  clip: values.clip ?? shipped,
  onState: (state, reason) => {
    if (process.connected) process.send?.({ type: "demo", state, reason });
  },
});
let ending = false;
const end = () => {
  if (ending) return;
  ending = true;
  void publisher.stop().then(() => process.exit(0));
};
process.once("SIGTERM", end);
process.once("SIGINT", end);
process.once("disconnect", end);
