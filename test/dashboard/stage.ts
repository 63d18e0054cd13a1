import { execFileSync } from "node:child_process";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { suite, type Test } from "uvu";
import * as assert from "uvu/assert";
import { hasChromium, launchChromium } from "../browser/chromium.js";
import { FakeServer, state, status } from "./fake-server.js";

/** Limit of each wait for something to appear. */
export const LIMIT_MS = 15_000;

export type Shown = { page: Page; server: FakeServer; faults: string[] };
export type Stage = {
  /** Skipped where there is no Chromium. */
  readonly test: Test | Test["skip"];
  /** Opens the page on a server of its own (`address` behind its root); any script error or CSP violation is a failure. */
  shown(names: readonly string[], work: (shown: Shown) => Promise<void>, address?: string): Promise<void>;
  run(): void;
};

/** A suite with a browser of its own. */
export function stageOf(name: string): Stage {
  const suiteOfPage = suite(name);
  let browser: Browser | null = null;
  let close = async (): Promise<void> => {};

  suiteOfPage.before(async () => {
    // Compiled tests come with a compiled page; sources run against what their page compiles to now.
    if (process.argv[1]!.endsWith(".ts"))
      execFileSync("npm", ["run", "--silent", "build:page"], { stdio: "ignore", timeout: 120_000 });
    ({ browser, close } = await launchChromium());
  });
  suiteOfPage.after(() => close());

  async function shown(names: readonly string[], work: (shown: Shown) => Promise<void>, address = ""): Promise<void> {
    const server = await FakeServer.start(state(names));
    const context = await browser!.newContext({ viewport: { width: 1280, height: 720 } });
    const page = await context.newPage();
    page.setDefaultTimeout(LIMIT_MS);
    const faults: string[] = [];
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error" && /Content Security Policy|Uncaught/.test(message.text()))
        faults.push(message.text());
    });
    const current = new Map<string, ReturnType<typeof status>>();
    const beat = setInterval(() => {
      for (const name of names) server.send({ type: "status", status: current.get(name) ?? status(name) });
    }, 250);
    news.set(server, { current, stop: () => clearInterval(beat) });
    try {
      await page.goto(`${server.url}${address}`);
      await page.locator(".channel").waitFor();
      await work({ page, server, faults });
      assert.equal(faults, []);
    } finally {
      clearInterval(beat);
      await context.close();
      await server.close();
    }
  }
  return { test: hasChromium() ? suiteOfPage : suiteOfPage.skip, shown, run: () => suiteOfPage.run() };
}

const news = new WeakMap<FakeServer, { current: Map<string, ReturnType<typeof status>>; stop(): void }>();
/** What a channel says from now on, four times a second. */
export const say = (server: FakeServer, next: ReturnType<typeof status>) =>
  news.get(server)!.current.set(next.name, next);
export const fallSilent = (server: FakeServer) => news.get(server)!.stop();
export const see = (page: Page, selector: string, text: string | RegExp) =>
  page.locator(selector, { hasText: text }).first().waitFor();
/** Not waitForFunction: its polling of a text is `eval`, which the page's policy forbids. */
export async function becomesTrue(page: Page, expression: string): Promise<void> {
  const end = Date.now() + LIMIT_MS;
  while (!(await page.evaluate(expression))) {
    if (Date.now() > end) throw new Error(`not true in time: ${expression}`);
    await page.waitForTimeout(50);
  }
}
export const picture = (page: Page, name: string) =>
  process.env.SCREENSHOTS ? page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) }) : Promise.resolve();
