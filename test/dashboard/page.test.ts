import { join } from "node:path";
import * as assert from "uvu/assert";
import { PICTURE, SOUND } from "../../src/transport/flv/tag.js";
import { state, status } from "./fake-server.js";
import { becomesTrue, fallSilent, LIMIT_MS, picture, say, see, stageOf } from "./stage.js";

const { test, shown, run } = stageOf("dashboard page");
/** Run in the page; as text, since the tests are compiled without the browser's types. */
const MUTED = `[...document.querySelectorAll("video")].map((video) => video.muted)`;

test("each mode is shown with its code and the sentence that belongs to it", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".mode-word", "Separated");
    say(server, status("studio", { mode: "late", reason: "SL_MODEL_LATE" }));
    await see(page, ".mode-word", "Late");
    await see(page, ".mode code", "SL_MODEL_LATE");
    await see(page, ".sentence", "did not arrive in time");
    say(server, status("studio", { mode: "bypass", reason: "SL_NO_FACE", faces: [] }));
    await see(page, ".mode-word", "Untouched");
    await see(page, ".sentence", "No face that counts as on-screen");
    await picture(page, "bypass");
  }));

test("a wish, a rule and a fault leave the sound alone alike, and are told apart; without input nothing is claimed", () =>
  shown(["studio"], async ({ page, server }) => {
    const cases = [
      [{ mode: "bypass", reason: "SL_BYPASS_OPERATOR", bypass: true }, "Bypass", "bypass"],
      [{ mode: "bypass", reason: "SL_PICTURE_FROZEN" }, "Untouched", "untouched"],
      [{ mode: "bypass", reason: "SL_INFERENCE_DOWN" }, "Untouched", "fault"],
      [{ mode: "muted", reason: "SL_NO_FACE" }, "Muted", "muted"],
      [{ mode: "bypass", reason: "SL_SOURCE_WAITING", source: "connecting" }, "No input", "waiting"],
    ] as const;
    for (const [change, word, colour] of cases) {
      say(server, status("studio", change));
      await see(page, ".mode-word", word);
      await page.locator(`.banner[data-mode="${colour}"]`).waitFor();
      await page.locator(`.channel-entry[data-mode="${colour}"]`, { hasText: word }).waitFor();
      await becomesTrue(page, `document.title === "studio: ${word} – Sightline"`);
    }
  }));

test("an output that is not served is said beside the mode and in the list, with its reason in words", () =>
  shown(["studio"], async ({ page, server }) => {
    const output = { uri: "rtmp://elsewhere/app", state: "live", reason: null } as const;
    const waiting = { uri: "srt://:7000", state: "connecting", reason: "SL_OUTPUT_NO_RECEIVER" } as const;
    say(server, status("studio", { outputs: [output, waiting] }));
    await see(page, ".table", "rtmp://elsewhere/app");
    assert.is(await page.locator(".outputs-down:visible").count(), 0);
    say(server, status("studio", { outputs: [{ ...output, state: "back-off", reason: "SL_OUTPUT_FAILED" }, waiting] }));
    await see(page, ".banner .outputs-down", "1 output down");
    await see(page, ".channel-entry .outputs-down", "1 output down");
    await see(
      page,
      ".table",
      "An output failed; it is opened again by itself, the others are not touched. (SL_OUTPUT_FAILED)",
    );
  }));

test("a publisher that was sent away is told of for a minute", () =>
  shown(["studio"], async ({ page, server }) => {
    const refused = {
      code: "SL_KEY_UNKNOWN",
      detail: "the stream key is not known",
      peer: "10.0.0.9:4000",
      ageMs: 5000,
    };
    server.state = { ...server.state, gateway: { refused } };
    server.send({ type: "state", state: server.state });
    await see(
      page,
      ".notice",
      "A publisher was sent away (10.0.0.9:4000): the stream key is not known (SL_KEY_UNKNOWN).",
    );
    server.state = { ...server.state, gateway: { refused: { ...refused, ageMs: 61_000 } } };
    server.send({ type: "state", state: server.state });
    await page.locator(".notice").waitFor({ state: "hidden" });
  }));

test("a page that was opened before an upgrade says so", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".link", "connected");
    server.state = { ...server.state, channels: [{ name: 5 }] } as never;
    await see(page, ".link", "this page does not fit the server any more: reload it");
  }));

for (const [what, type, change] of [
  ["sound", SOUND, { video: null, faces: [] }],
  ["pictures", PICTURE, { audio: null }],
] as const)
  test(`a programme of ${what} alone plays: the header of its stream promises both`, () =>
    shown(["studio"], async ({ page, server }) => {
      server.only = type;
      await page.reload();
      await see(page, ".mode-word", "Separated");
      say(server, status("studio", change));
      await becomesTrue(page, `document.querySelectorAll("video")[1]?.currentTime > 1`);
    }));

test("faces that are decided about seconds later are framed on the output, in time, and not on the input", () =>
  shown(["studio"], async ({ page, server }) => {
    for (const side of [0, 1]) await becomesTrue(page, `document.querySelectorAll("video")[${side}]?.currentTime > 1`);
    const late = { declaredLatencyMs: 5238, facesAgeMs: 4200 };
    const framed = (side: number) => page.locator(".player").nth(side).locator(".face:visible");
    // As often as a channel does; the output's are due a second after they were told, not five.
    const begun = Date.now();
    while ((await framed(0).count()) > 0 || (await framed(1).count()) === 0) {
      assert.ok(Date.now() - begun < 4000, "no face on the output 4 s later, or still one on the input");
      say(server, status("studio", late));
      await page.waitForTimeout(200);
    }
  }));

test("a channel that fetches its input says that only its output can be played", () =>
  shown(["studio"], async ({ page, server }) => {
    server.state = { ...server.state, channels: server.state.channels.map((c) => ({ ...c, published: false })) };
    server.send({ type: "state", state: server.state });
    await see(page, ".player-message", "this channel fetches its input; only the output can be played");
  }));

test("input and output play, the visible face is framed with its share of the sound, figures and meters are there", () =>
  shown(["studio", "lobby"], async ({ page }) => {
    for (const side of [0, 1]) {
      await becomesTrue(page, `document.querySelectorAll("video")[${side}]?.currentTime > 1`);
      await page.locator(".player").nth(side).locator(".face.speaking", { hasText: "86 %" }).waitFor();
    }
    await see(page, ".figure.declared", "700");
    await see(page, ".figure.measured", "703");
    await see(page, ".meter", "−18.4 dBFS");
    await see(page, ".stages", "inference budget");
    await see(page, ".process", "1 restart");
    await page.locator(".graph canvas").waitFor();
    assert.equal(await page.evaluate(MUTED), [true, true]);
    await page.locator(".listen").nth(1).click();
    await page.locator(".listen").nth(0).click();
    assert.equal(await page.evaluate(MUTED), [false, true], "one player at most is heard");
    await picture(page, "playing");
    if (process.env.SCREENSHOTS)
      await page.screenshot({ path: join(process.env.SCREENSHOTS, "full.png"), fullPage: true });
  }));

test("bypass is asked for by button and by key, and shown as on only when the channel says so", () =>
  shown(["studio"], async ({ page, server }) => {
    const button = page.getByRole("switch");
    await see(page, ".mode-word", "Separated");
    await button.click();
    await page.locator(".bypass.pending").waitFor();
    assert.equal(server.patches, [{ name: "studio", body: { bypass: true } }]);
    assert.is(await button.getAttribute("aria-checked"), "false", "not confirmed yet");
    say(server, status("studio", { bypass: true, mode: "bypass", reason: "SL_BYPASS_OPERATOR" }));
    await see(page, ".bypass", "Bypass is on");
    await page.keyboard.press("b");
    await page.locator(".bypass.pending").waitFor();
    assert.equal(server.patches.at(-1), { name: "studio", body: { bypass: false } });
  }));

test("voice, strength and limit are sent as numbers and words of the interface", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".mode-word", "Separated");
    await page.getByRole("radio", { name: "Both" }).click();
    await page.locator(".slider input").nth(0).fill("60");
    await page.locator(".slider input").nth(1).fill("12");
    await becomesTrue(page, 'document.querySelectorAll(".slider.pending").length > 0');
    const end = Date.now() + LIMIT_MS;
    while (server.patches.length < 3 && Date.now() < end) await page.waitForTimeout(20);
    assert.equal(
      server.patches.map((patch) => patch.body),
      [{ keep: "mix" }, { strengthPercent: 60 }, { attenuationLimitDb: 12 }],
    );
  }));

test("a refused change says why", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".mode-word", "Separated");
    server.patchAnswer = { status: 404, body: JSON.stringify({ code: "SL_CHANNEL_UNKNOWN", message: "no" }) };
    await page.getByRole("switch").click();
    await see(page, ".fault", "There is no channel of this name. (SL_CHANNEL_UNKNOWN)");
  }));

test("values that stop coming are greyed with their age, their mode is no longer claimed, and nothing can be switched", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".mode-word", "Separated");
    fallSilent(server);
    await see(page, ".channel.stale .old", /These values are \d+ s old/);
    await see(page, ".mode-word", "Unknown");
    await see(page, ".channel-entry .badge", "Unknown");
    await see(page, ".feed", "last known: live");
    assert.ok(await page.getByRole("switch").isDisabled());
    assert.is(await page.locator(".face:visible").count(), 0);
    await picture(page, "stale");
  }));

test("a lost server is said plainly", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".link", "connected");
    await server.close();
    await see(page, ".unlinked .link", "connection to the server lost");
    await see(page, ".sentence", "The server cannot be asked.");
    await picture(page, "lost");
  }));

test("a page that the server refuses says why, in the server's words; a gateway that fails in between is no refusal", () =>
  shown(["studio"], async ({ page, server }) => {
    await see(page, ".link", "connected");
    server.refusal = { status: 403, detail: "studio-pc is not an allowed host; add its name to httpHosts" };
    await page.reload();
    await see(page, ".link", "refused: studio-pc is not an allowed host; add its name to httpHosts");
    server.refusal = { status: 502, detail: "bad gateway" };
    await see(page, ".link", "connecting to the server");
    server.refusal = null;
    await see(page, ".link", "connected");
  }));

test("a picture that is re-encoded says so, and why; one that passes says nothing", () =>
  shown(["studio"], async ({ page, server }) => {
    const video = { codec: "VP8", width: 640, height: 360, fps: 30, notice: "SL_PICTURE_REENCODED" };
    say(server, status("studio", { video }));
    await see(page, ".feed", "VP8 640");
    await see(page, ".picture-notice", "encoded anew as H.264");
    await see(page, ".picture-notice", "SL_PICTURE_REENCODED");
    await picture(page, "reencoded");
    say(server, status("studio", {}));
    await see(page, ".feed", "H.264");
    assert.is(await page.locator(".picture-notice").isVisible(), false);
  }));

test("a WHIP publisher's line is shown by track; other sources have none", () =>
  shown(["studio"], async ({ page, server }) => {
    say(
      server,
      status("studio", { line: { sound: { jitterMs: 3.2, waitMs: 35 }, picture: { jitterMs: 8, waitMs: 121 } } }),
    );
    await see(page, ".line", "picture");
    await see(page, ".line", "121");
    say(server, status("studio", {}));
    await page.locator(".line").waitFor({ state: "hidden" });
  }));

test("whatever the server sends is text, never HTML, and malformed news change nothing", () => {
  const hostile = `<img src=x onerror="window.hit=1"><script>window.hit=1</script>`;
  return shown([hostile], async ({ page, server }) => {
    say(
      server,
      status(hostile, {
        mode: "bypass",
        reason: hostile,
        counters: { [hostile]: 1 },
        stageMs: { [hostile]: { p50: 1, p95: 1 } },
        latencyParts: { [hostile]: 1 },
        video: { codec: hostile, width: 1, height: 1, fps: 1, notice: hostile },
        outputs: [{ uri: hostile, state: "refused", reason: hostile }],
      }),
    );
    await see(page, ".counters", "<img src=x");
    for (const text of [
      "null",
      "[]",
      "{",
      `{"type":"status","status":{}}`,
      `{"type":"state","state":{"channels":5}}`,
      `{"type":"new"}`,
    ]) {
      server.sendText(text);
    }
    server.state = { ...server.state, configError: hostile };
    server.send({ type: "state", state: server.state });
    await see(page, ".notice", "<img src=x");
    assert.is(await page.locator("img, main script, nav script").count(), 0);
    assert.is(await page.evaluate("'hit' in window"), false);
    await see(page, ".mode code", "<img src=x");
  });
});

test("channels that come and go are followed, and a service without channels says so", () =>
  shown(["studio"], async ({ page, server }) => {
    fallSilent(server);
    server.state = { ...state(["lobby"]), mediaPort: server.state.mediaPort };
    server.send({ type: "state", state: server.state });
    await see(page, ".channel-entry", "lobby");
    assert.is(await page.locator(".channel-entry").count(), 1);
    server.state = { ...server.state, channels: [] };
    server.send({ type: "state", state: server.state });
    await see(page, "#channels", "No channels are configured");
    assert.is(await page.locator(".channel").count(), 0);
  }));

run();
