import { parseHostPort } from "../config/schema.js";
import { VERSION } from "../paths.js";
import { DEMO_CHANNEL, type Service, serve } from "../supervisor/serve.js";
import { endOnSignals } from "../supervisor/signals.js";
import { command, UsageError } from "./command.js";
import { configFile } from "./config-file.js";

export const serveCommand = command({
  meta: { name: "serve", description: "Runs the service: RTMP server, channels, dashboard" },
  args: {
    config: {
      type: "string",
      description: "configuration file (default: SIGHTLINE_CONFIG, else ./sightline.yml, else none)",
      valueHint: "FILE",
    },
    demo: { type: "boolean", description: "adds a channel `demo`, fed with a short clip in a loop" },
    http: { type: "string", description: "address of the dashboard, before the file's", valueHint: "HOST:PORT" },
  },
  async run({ args }) {
    if (args.http !== undefined) {
      try {
        parseHostPort(args.http);
      } catch (error) {
        throw new UsageError(`--http: ${(error as Error).message}`);
      }
    }
    const file = configFile(args.config);
    const service = await serve({
      configFile: file,
      demo: args.demo === true,
      ...(args.http === undefined ? {} : { http: args.http }),
    });
    endOnSignals(service);
    // Nobody reads the addresses any more (`serve | head`): no reason to end.
    process.stdout.on("error", () => {});
    announce(service, file);
    return new Promise<never>(() => {
      // Until a signal comes.
    });
  },
});

/** What an operator needs next, on stdout; the log goes to stderr. */
function announce({ supervisor }: Service, file: string | null): void {
  console.log(`Sightline ${VERSION}`);
  console.log(`settings   ${file ?? "defaults (no file; see: sightline config example)"}`);
  console.log(`dashboard  ${supervisor.urls().dashboard}`);
  let done = false;
  supervisor.onGatewayReady(() => {
    if (done) return;
    done = true;
    const channels = Object.entries(supervisor.urls().channels);
    for (const [name, urls] of channels) {
      const key =
        name === DEMO_CHANNEL ? (supervisor.config.channels[name]?.key?.reveal() ?? "KEY") : `<key of ${name}>`;
      console.log(`channel ${name}`);
      if (urls.publish) console.log(`  publish  ${urls.publish.replace(/KEY$/, key)}`);
      console.log(`  play     ${urls.play}`);
      console.log(`           ${urls.playFlv}`);
    }
    if (channels.length === 0) console.log("no channels: give a file with --config, or try --demo");
  });
}
