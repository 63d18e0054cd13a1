import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";

/** Where Debian and Ubuntu put it. */
export const CHROMIUM = "/usr/bin/chromium";
/** A headless run in a container: no sandbox, no GPU, nothing that talks to the network by itself. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--autoplay-policy=no-user-gesture-required",
];
/** WebRTC without mDNS. */
export const WEBRTC_FLAGS = ["--disable-features=WebRtcHideLocalIpsWithMdns"];
/**
 * A camera and a microphone that need no permission. A page that may use them gets a socket for each network and, like in a user's browser,
 * none for the loopback; a peer that is on 127.0.0.1 only is then out of reach unless it is allowed.
 */
export const DEVICE_FLAGS = [
  "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream",
  "--allow-loopback-in-peer-connection",
];

/** False, with a line that says so: tests that need a browser are skipped. */
export function hasChromium(): boolean {
  if (existsSync(CHROMIUM)) return true;
  console.log(`${CHROMIUM} is not there: skipped`);
  return false;
}

/** A headless browser with a profile of its own; `close` removes both. */
export async function launchChromium(
  flags: readonly string[] = [],
): Promise<{ browser: Browser; close(): Promise<void> }> {
  const profile = mkdtempSync(join(tmpdir(), "sightline-browser-"));
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [...FLAGS, ...flags],
    headless: true,
    timeout: 60_000,
    env: { ...process.env, HOME: profile },
  });
  return {
    browser,
    close: async () => {
      await browser.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}
