import * as assert from "uvu/assert";
import { state, status } from "./fake-server.js";
import { becomesTrue, LIMIT_MS, say, see, stageOf } from "./stage.js";

const { test, shown, run } = stageOf("dashboard page, an operator's hands");

test("the channel of the address is the one shown and switched, also when it was away for a while", () =>
  shown(
    ["studio", "lobby"],
    async ({ page, server }) => {
      await page.locator('.channel-entry[aria-current="true"]', { hasText: "lobby" }).waitFor();
      await page.keyboard.press("b");
      await page.locator(".bypass.pending").waitFor();
      assert.is(server.patches[0]!.name, "lobby");
      const whole = server.state;
      server.state = { ...whole, channels: whole.channels.filter(({ name }) => name !== "lobby") };
      server.send({ type: "state", state: server.state });
      // No other one takes its place: what is pressed now is for nobody.
      await see(page, "main", "lobby is not among the channels now");
      assert.is(await page.locator(".channel").count(), 0);
      await page.keyboard.press("b");
      server.state = whole;
      server.send({ type: "state", state: server.state });
      await page.locator('.channel-entry[aria-current="true"]', { hasText: "lobby" }).waitFor();
      await see(page, ".channel-name", "lobby");
      assert.is(server.patches.length, 1);
      await page.evaluate(`location.hash = "#studio"`);
      await page.locator('.channel-entry[aria-current="true"]', { hasText: "studio" }).waitFor();
      await page.evaluate(`location.hash = "#lobby"`);
      await page.locator('.channel-entry[aria-current="true"]', { hasText: "lobby" }).waitFor();
      await page.evaluate(`location.hash = "#studio"`);
      await page.locator('.channel-entry[aria-current="true"]', { hasText: "studio" }).waitFor();
    },
    "#lobby",
  ));

test("an address that is none of ours is no harm", () =>
  shown(["studio"], ({ page }) => see(page, ".mode-word", "Separated"), "#%"));

test("a page in the background asks for one frame at most", () =>
  shown(["studio"], async ({ page }) => {
    await page.evaluate(`window.asked = 0; window.requestAnimationFrame = () => ++window.asked;`);
    await page.waitForTimeout(1500);
    assert.ok((await page.evaluate<number>("window.asked")) <= 1);
  }));

test("a channel whose process is down is unknown at once, whatever it said last", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".mode-word", "Separated");
    // Its words go on coming, so that their age cannot be the reason.
    server.state = {
      ...server.state,
      channels: server.state.channels.map((c) => ({ ...c, process: "back-off", status: null, ageMs: null })),
    };
    server.send({ type: "state", state: server.state });
    await see(page, ".mode-word", "Unknown");
    await see(page, ".channel-entry .badge", "Unknown");
    await see(page, ".sentence", "(back-off)");
  }));

test("pressed twice at once, the second press takes the first one back", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".mode-word", "Separated");
    await page.keyboard.press("b");
    await page.keyboard.press("b");
    const end = Date.now() + LIMIT_MS;
    while (server.patches.length < 2 && Date.now() < end) await page.waitForTimeout(20);
    assert.equal(
      server.patches.map((patch) => patch.body),
      [{ bypass: true }, { bypass: false }],
    );
  }));

test("sliders have names and say their unit; one that is let go where it began follows the channel again", () =>
  shown(["studio"], async ({ page, server }) => {
    const slider = page.getByRole("slider", { name: "Strength" });
    await becomesTrue(page, `document.querySelector(".slider input")?.getAttribute("aria-valuetext") === "100 %"`);
    await slider.dispatchEvent("input");
    await slider.dispatchEvent("pointerup");
    say(server, status("studio", { strengthPercent: 40 }));
    await see(page, ".slider .value", "40 %");
    await page.getByRole("slider", { name: "At most turned down by" }).waitFor();
  }));

test("the voice to keep is chosen with the arrow keys, and the tab key stops there once", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".mode-word", "Separated");
    await becomesTrue(
      page,
      `[...document.querySelectorAll("[role=radio]")].map((b) => b.tabIndex).join() === "0,-1,-1"`,
    );
    await page.getByRole("radio", { name: "On-screen" }).focus();
    await page.keyboard.press("ArrowRight");
    await becomesTrue(page, `document.activeElement?.textContent === "Both"`);
    assert.equal(server.patches.at(-1)!.body, { keep: "mix" });
  }));

test("at strength 0 nothing is claimed to be turned down", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".sentence", "Off-screen voices are turned down");
    say(server, status("studio", { strengthPercent: 0 }));
    await see(page, ".sentence", "Nothing is turned down");
  }));

test("settings that wait for the service to be started anew are named", () =>
  shown(["studio"], async ({ page, server }) => {
    server.state = { ...state(["studio"]), mediaPort: server.state.mediaPort, restartNeeded: ["engine", "media"] };
    server.send({ type: "state", state: server.state });
    await see(page, ".notice", "Not in force before the service is started anew: engine, media");
  }));

run();
