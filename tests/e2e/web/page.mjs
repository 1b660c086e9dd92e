// The web page in a real Chromium: node page.mjs URL CASE JSON
// Every case runs at the width of a desktop and of a phone. What it sees wrong it throws.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [url, name, text = "{}"] = process.argv.slice(2);
const given = JSON.parse(text);
const kWidths = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const kFirstPaintBytesMax = 200_000;
const kPatience = 120_000; // ms; the machine may be busy
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const composer = (page) => page.getByRole("textbox", { name: "Message", exact: true });
const answers = (page) => page.locator(".message.assistant");
const stopped = (page) => page.getByRole("button", { name: "Send", exact: true }).waitFor();

async function say(page, words) {
  await composer(page).fill(words);
  await composer(page).press("Enter");
}

// Nothing of a serious kind that a reader with other eyes or hands would stumble over.
async function accessible(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document));
  const bad = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(bad.map(({ id, nodes }) => [id, nodes[0].html.slice(0, 200), nodes[0].failureSummary]), []);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `the page is ${wide} pixels wider than its window`);
}

const picture = async (page) => {
  if (given.pictures && page.viewportSize().width === kWidths.desktop.width) {
    await page.screenshot({ path: `${given.pictures}/web_${name}.png` });
  }
};

async function setUp(page, fill) {
  const panel = page.locator("details.panel").first();
  await panel.locator("summary").first().click();
  await fill(panel);
  await panel.locator("summary").first().click();
}

const cases = {
  // How much comes before something is seen, and from where.
  async paint(page) {
    const client = await page.context().newCDPSession(page);
    await client.send("Network.enable");
    let bytes = 0;
    client.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
    const answer = await page.goto(url);
    await composer(page).waitFor();
    await page.waitForLoadState("networkidle");
    await page.waitForFunction(() => document.querySelector(".pick select").value !== ""); // the model it will ask
    assert.ok(bytes > 1000 && bytes < kFirstPaintBytesMax, `${bytes} bytes at first paint`);
    console.log(`first paint: ${bytes} bytes`);
    const headers = answer.headers();
    assert.equal(headers["content-encoding"], "gzip");
    assert.match(headers["content-security-policy"], /default-src 'none'.*script-src 'self'/);
    // The policy holds: nothing inline runs.
    await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
    });
    assert.equal(await page.evaluate(() => window.ran), undefined);
  },

  async chat(page) {
    await page.goto(url);
    await say(page, "What is 17 + 25?");
    await page.getByRole("status").filter({ hasText: "42" }).waitFor({ state: "attached" });
    await stopped(page);
    assert.match(await answers(page).innerText(), /42/);
    // It is kept.
    await page.reload();
    await answers(page).filter({ hasText: "42" }).waitFor();
    // Anew: the answer before gives way.
    await page.getByRole("button", { name: "Regenerate" }).click();
    await page.getByRole("button", { name: "Stop", exact: true }).waitFor({ state: "detached" });
    await stopped(page);
    assert.equal(await answers(page).count(), 1);
    assert.match(await answers(page).innerText(), /42/);
    // Edited: what came behind gives way, too.
    await page.locator(".message.user").getByRole("button", { name: "Edit" }).click();
    await page.getByRole("textbox", { name: "Edited message" }).fill("What is 20 + 31?");
    await page.getByRole("button", { name: "Send again" }).click();
    await answers(page).filter({ hasText: "51" }).waitFor();
    await stopped(page);
    assert.equal(await page.locator(".message").count(), 2);
    await answers(page).getByRole("button", { name: "Copy" }).click();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /51/);
    await accessible(page);
    await picture(page);
    await page.getByRole("button", { name: "New chat" }).click();
    await page.locator(".message").first().waitFor({ state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Message");
  },

  // An answer without end, of a server that makes such.
  async stop(page) {
    await page.goto(url);
    await say(page, given.endless);
    await answers(page).locator(".markdown").filter({ hasText: /\S/ }).waitFor();
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await stopped(page);
    assert.match(await answers(page).innerText(), /stopped/);
  },

  async markdown(page) {
    await page.goto(url);
    const evil = "# Head\n\n**strong** <img src=x onerror=window.ran=1> [no](javascript:window.ran=1) [yes](https://example.org)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- one\n- two\n\n```js\nlet x = `<b>`;\n```";
    await page.evaluate((text) => localStorage.setItem("pixii.chat", JSON.stringify([{ role: "user", text: "?" }, { role: "assistant", text, thinking: "so *so*" }])), evil);
    await page.reload();
    const answer = answers(page);
    assert.equal(await answer.locator("strong").filter({ hasText: "strong" }).count(), 1);
    assert.equal(await answer.locator("img, b").count(), 0);
    assert.deepEqual(await answer.locator(".markdown a").evaluateAll((links) => links.map((link) => link.href)), ["https://example.org/"]);
    assert.equal(await answer.locator("td").count(), 2);
    assert.equal(await answer.locator("li").count(), 2);
    assert.match(await answer.locator("pre").innerText(), /let x = `<b>`;/);
    assert.equal(await page.evaluate(() => window.ran), undefined);
    // What it thought is folded.
    assert.equal(await answer.getByText("so so").isVisible(), false);
    await answer.getByText("Thinking").click();
    await answer.getByText("so so").waitFor();
    await accessible(page);
  },

  async tools(page) {
    const { tool, question, result } = given;
    await page.goto(url);
    await setUp(page, async (panel) => {
      await panel.getByLabel("Temperature").fill("0");
      await panel.getByLabel("Thinking").selectOption("on");
      await panel.getByLabel("Function name").fill(tool.name);
      await panel.getByLabel("Description").fill(tool.description);
      await panel.getByLabel("Parameters").fill("{");
      await panel.getByRole("button", { name: "Add tool" }).click();
      await panel.getByRole("alert").waitFor();
      await panel.getByLabel("Parameters").fill(JSON.stringify(tool.parameters));
      await panel.getByRole("button", { name: "Add tool" }).click();
      await panel.getByRole("button", { name: `Remove tool ${tool.name}` }).waitFor();
    });
    await say(page, question);
    await page.locator("figure.call").waitFor();
    await page.getByLabel(`Result of ${tool.name}`).waitFor();
    assert.deepEqual(JSON.parse(await page.locator("figure.call pre").innerText()), given.arguments);
    await answers(page).getByText("Thinking").waitFor();
    await accessible(page);
    await page.getByLabel(`Result of ${tool.name}`).fill(result);
    await page.getByRole("button", { name: "Give results" }).click();
    await page.locator(".message.tool").waitFor();
    await stopped(page);
    assert.equal(await answers(page).count(), 2);
    await picture(page);
  },

  // With and without a key, and what a refusal looks like.
  async errors(page) {
    await page.goto(url);
    await page.getByRole("alert").filter({ hasText: "invalid_api_key" }).first().waitFor();
    await say(page, "What is 17 + 25?");
    await page.locator(".chat").getByRole("alert").filter({ hasText: "401" }).waitFor();
    await page.getByText("Settings").click();
    await page.getByLabel("API key").fill(given.key);
    await page.getByRole("button", { name: "Use key" }).click();
    await page.getByRole("combobox", { name: "Model" }).locator("option", { hasText: "tiny-chat" }).waitFor({ state: "attached" });
    await page.getByLabel("Theme").selectOption("dark");
    await page.waitForFunction(() => getComputedStyle(document.body).backgroundColor === "rgb(21, 22, 20)");
    await accessible(page);
    await page.getByText("Settings").click();
    await page.getByRole("button", { name: "Regenerate" }).click();
    await answers(page).filter({ hasText: "42" }).waitFor();
    await setUp(page, (panel) => panel.getByLabel("Temperature").fill("7"));
    await stopped(page);
    await say(page, "again");
    const alert = page.locator(".chat").getByRole("alert");
    await alert.filter({ hasText: "temperature" }).waitFor();
    assert.match(await alert.innerText(), /400 invalid_value/);
    // A key that is no administrator's sees no cluster.
    await page.getByRole("link", { name: "Cluster" }).click();
    await page.getByRole("alert").filter({ hasText: "403" }).waitFor();
  },

  async playground(page) {
    await page.goto(`${url}/#playground`);
    const run = page.getByRole("button", { name: "Run" });
    await page.getByLabel("temperature").fill("0");
    await run.click();
    await page.locator(".answer").filter({ hasText: "42" }).waitFor();
    const tokens = page.locator(".tokens button");
    assert.ok((await tokens.count()) > 1);
    await tokens.nth(1).click();
    assert.equal(await page.locator("table tbody tr").count(), 5);
    assert.equal(await tokens.nth(1).getAttribute("aria-pressed"), "true");
    await page.getByText("Response", { exact: true }).click();
    assert.match(await page.getByLabel("response body").innerText(), /"completion_tokens"/);
    await page.getByText("Request", { exact: true }).click();
    assert.match(await page.getByLabel("request body").innerText(), /"top_logprobs": 5/);
    await accessible(page);
    await picture(page);
    await page.getByLabel("max_tokens").fill("400"); // white space is part of it
    await page.getByLabel("Constraint").selectOption("json");
    await page.getByRole("textbox", { name: "Schema" }).fill("{");
    await page.locator("#fault.bad").waitFor();
    assert.ok(await run.isDisabled());
    await page.getByRole("textbox", { name: "Schema" }).fill('{"type":"object","properties":{"answer":{"type":"integer","minimum":0,"maximum":99}},"required":["answer"],"additionalProperties":false}');
    await run.click();
    await page.getByText("The answer follows the constraint.").waitFor();
    assert.equal(typeof JSON.parse(await page.locator(".answer").innerText()).answer, "number");
    await page.getByLabel("Constraint").selectOption("regex");
    await page.getByRole("textbox", { name: "Pattern" }).fill("[0-9]{2}");
    await run.click();
    await page.locator(".answer").filter({ hasText: /^\d\d$/ }).waitFor();
    await page.getByLabel("Constraint").selectOption("choice");
    await page.getByRole("textbox", { name: "Choices" }).fill("yes\nno");
    await run.click();
    await page.locator(".answer").filter({ hasText: /^(yes|no)$/ }).waitFor();
    await page.getByLabel("top_p").fill("9");
    await run.click();
    await page.getByRole("alert").filter({ hasText: "top_p" }).waitFor();
  },

  async cluster(page) {
    await page.goto(`${url}/#cluster`);
    await page.getByRole("rowheader", { name: given.model }).first().waitFor();
    await page.getByText("requests in flight").waitFor();
    for (let worker = 0; worker < (given.workers ?? 0); ++worker) {
      await page.getByRole("region", { name: "workers" }).getByRole("row").nth(worker + 1).getByText("available").waitFor();
    }
    await page.getByLabel("Prompt of a chat").fill("What is 17 + 25?");
    await page.getByRole("button", { name: "Look" }).click();
    if (given.workers) {
      await page.getByText("It would go to").waitFor();
      assert.equal(await page.getByRole("region", { name: "candidates" }).locator("tbody tr").count(), given.workers);
    } else {
      await page.getByRole("alert").filter({ hasText: "no router" }).waitFor();
    }
    await accessible(page);
    await picture(page);
  },

  async timeline(page) {
    await page.goto(`${url}/#timeline`);
    await page.getByLabel("Request id").fill("nobody");
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByRole("alert").filter({ hasText: "404 not_found" }).waitFor();
    const ms = 1_000_000;
    const spans = [
      { name: "request", span_id: "a", parent_span_id: null, start_ns: 5 * ms, end_ns: 25 * ms, attributes: { model: "tiny" } },
      { name: "decode", span_id: "c", parent_span_id: "a", start_ns: 15 * ms, end_ns: 25 * ms, attributes: {} },
      { name: "prefill", span_id: "b", parent_span_id: "a", start_ns: 7 * ms, end_ns: 15 * ms, attributes: {} },
    ];
    await page.route("**/v1/traces/one", (route) => route.fulfill({ json: { request_id: "one", trace_id: "0af7", spans } }));
    await page.getByLabel("Request id").fill("one");
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByText("0af7").waitFor();
    const rows = await page.locator(".spans tbody tr").evaluateAll((all) => all.map((row) => [...row.querySelectorAll("th summary, th, td")].map((cell) => cell.innerText.trim())));
    assert.deepEqual(rows.map((row) => row.filter(Boolean).slice(-2)), [["0.00 ms", "20.00 ms"], ["2.00 ms", "8.00 ms"], ["10.00 ms", "10.00 ms"]]);
    assert.match(rows[1].join(), /prefill/);
    await accessible(page);
  },

  /** Of a request that the server answered, by its own account. */
  async traced(page) {
    const trace = await (await fetch(`${url}/v1/traces/${given.id}`)).json();
    await page.goto(`${url}/#timeline/${given.id}`);
    await page.getByText(trace.trace_id).waitFor();
    const names = await page.locator(".spans tbody tr th").evaluateAll((all) => all.map((cell) => (cell.querySelector("summary") ?? cell).innerText.trim()));
    assert.deepEqual([...names].sort(), trace.spans.map((span) => span.name).sort());
    assert.ok(names.length >= given.spans, `${names}`);
    const inset = await page.locator(".spans tbody tr th").evaluateAll((all) => all.map((cell) => parseFloat(cell.style.paddingLeft)));
    assert.ok(inset[0] === Math.min(...inset) && Math.max(...inset) > inset[0], `the parts of a request stand below it: ${inset}`);
    await accessible(page);
    await picture(page);
  },

  async pictures(page) {
    await page.goto(url);
    const bytes = Buffer.from(given.picture, "base64");
    await page.getByLabel("Add picture").setInputFiles({ name: "a.png", mimeType: "image/png", buffer: bytes });
    await page.getByRole("list", { name: "Pictures to send" }).getByRole("img").waitFor();
    await page.getByRole("button", { name: "Remove picture 1" }).click();
    for (const kind of ["drop", "paste"]) {
      await page.evaluate(([how, data]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(data), (one) => one.charCodeAt(0))], "b.png", { type: "image/png" }));
        const target = document.querySelector(how === "drop" ? ".chat" : ".composer textarea");
        target.dispatchEvent(how === "drop" ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
          : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
      }, [kind, given.picture]);
      await page.getByRole("list", { name: "Pictures to send" }).getByRole("img").waitFor();
      if (kind === "drop") await page.getByRole("button", { name: "Remove picture 1" }).click();
    }
    await setUp(page, (panel) => panel.getByLabel("Temperature").fill("0"));
    await say(page, given.question);
    await answers(page).filter({ hasText: given.answer }).waitFor();
    await stopped(page);
    await page.locator(".message.user img").waitFor();
    await accessible(page);
    await picture(page);
  },

  async gallery(page) {
    await page.goto(`${url}/#gallery`);
    await page.getByLabel("Size").fill("64x64");
    await page.getByLabel("Steps").fill("3");
    await page.getByRole("button", { name: "Make", exact: true }).click();
    const made = page.getByRole("list", { name: "Pictures" }).getByRole("img");
    await made.waitFor();
    assert.equal(await made.evaluate((image) => image.decode().then(() => image.naturalWidth)), 64);
    await page.getByLabel("Make").selectOption("video");
    await page.getByLabel("Frames").fill("5");
    await page.getByRole("button", { name: "Make", exact: true }).click();
    const films = page.getByRole("list", { name: "Videos" });
    await films.locator("video").waitFor();
    await films.locator("video").evaluate((video) => new Promise((done, failed) => {
      if (video.readyState > 0) done();
      video.addEventListener("loadedmetadata", done);
      video.addEventListener("error", () => failed(new Error(`the video is refused: ${video.error?.message}`)));
    }));
    await accessible(page);
    await picture(page);
    await films.getByRole("button", { name: "Delete" }).click();
    await films.locator("li").first().waitFor({ state: "detached" });
    await page.getByLabel("Steps").fill("1000");
    await page.getByRole("button", { name: "Make", exact: true }).click();
    await films.getByRole("progressbar").waitFor();
    await films.getByRole("button", { name: "Cancel" }).click();
    await films.locator("li").first().waitFor({ state: "detached" });
    await page.getByLabel("Size").fill("63x64");
    await page.getByRole("button", { name: "Make", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "size" }).waitFor();
  },

  // Everything can be reached by keys alone, in the order of what is seen.
  async keyboard(page) {
    await page.goto(url);
    await composer(page).waitFor();
    const seen = [];
    for (let press = 0; press < 14; ++press) {
      await page.keyboard.press("Tab");
      seen.push(await page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.innerText.trim().split("\n")[0]));
    }
    for (const wanted of ["Skip to content", "Chat", "Playground", "Cluster", "Timeline", "Gallery", "Settings", "Message"]) assert.ok(seen.includes(wanted), `${wanted} is not among ${seen}`);
    assert.equal(seen[0], "Skip to content");
    await page.getByRole("link", { name: "Skip to content" }).focus();
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  },
};

const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  for (const [width, viewport] of Object.entries(kWidths)) {
    for (const colorScheme of name === "paint" ? ["light", "dark"] : [width === "phone" ? "dark" : "light"]) {
      const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce", permissions: ["clipboard-read", "clipboard-write"] });
      context.setDefaultTimeout(kPatience);
      const page = await context.newPage();
      const faults = [];
      page.on("pageerror", (error) => faults.push(String(error)));
      page.on("request", (request) => {
        if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(url)) faults.push(`asked ${request.url()}`);
      });
      try {
        await cases[name](page);
        assert.deepEqual(faults, []);
      } catch (error) {
        console.error(`${name}, ${width}: ${await page.locator("body").innerText().catch(() => "")}`.slice(0, 4000));
        throw error;
      }
      await context.close();
    }
  }
} finally {
  await browser.close();
}
