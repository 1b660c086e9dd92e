// The official client, unmodified, against a running server: node client.mjs URL CASE. Exit 0 if the case holds.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const [url, name] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const model = "tiny-chat";
const messages = [{ role: "user", content: "What is 17 + 25?" }];

const cases = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages, temperature: 0, logprobs: true, top_logprobs: 3 });
    assert.equal(answer.object, "chat.completion");
    assert.match(answer.choices[0].message.content, /42/);
    assert.equal(answer.choices[0].finish_reason, "stop");
    const { content } = answer.choices[0].logprobs;
    assert.equal(content.map((t) => t.token).join(""), answer.choices[0].message.content);
    assert.equal(content[0].top_logprobs.length, 3);
    assert.ok(content.every((t) => t.logprob <= 0));
  },

  async streaming() {
    const whole = await client.chat.completions.create({ model, messages, seed: 5, n: 2 });
    const stream = await client.chat.completions.create({
      model, messages, seed: 5, n: 2, stream: true, stream_options: { include_usage: true },
    });
    const texts = ["", ""];
    const reasons = [null, null];
    let usage = null;
    for await (const chunk of stream) {
      for (const choice of chunk.choices) {
        texts[choice.index] += choice.delta.content ?? "";
        reasons[choice.index] = choice.finish_reason ?? reasons[choice.index];
      }
      usage = chunk.usage ?? usage;
    }
    assert.deepEqual(texts, whole.choices.map((c) => c.message.content));
    assert.deepEqual(reasons, whole.choices.map((c) => c.finish_reason));
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },

  async completions() {
    const answer = await client.completions.create({ model, prompt: ["One two", "three"], max_tokens: 4, temperature: 0 });
    assert.equal(answer.choices.length, 2);
    assert.equal(answer.usage.completion_tokens <= 8, true);
    const echoed = await client.completions.create({ model, prompt: "One two", max_tokens: 1, echo: true, logprobs: 2 });
    assert.ok(echoed.choices[0].text.startsWith("One two"));
    assert.equal(echoed.choices[0].logprobs.token_logprobs[0], null);
    let text = "";
    const stream = await client.completions.create({ model, prompt: "One two", max_tokens: 4, temperature: 0, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
    assert.equal(text, answer.choices[0].text);
  },

  async responses() {
    const answer = await client.responses.create({ model, input: "What is 17 + 25?", temperature: 0 });
    assert.match(answer.output_text, /42/);
    assert.equal(answer.status, "completed");
    let text = "";
    let last = null;
    const stream = await client.responses.create({ model, input: "What is 17 + 25?", temperature: 0, stream: true });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(text, answer.output_text);
    assert.equal(last.type, "response.completed");
    const more = await client.responses.create({ model, input: "And 1 + 1?", previous_response_id: answer.id, temperature: 0 });
    assert.equal((await client.responses.retrieve(more.id)).output_text, more.output_text);
    await client.responses.delete(more.id);
    await assert.rejects(client.responses.retrieve(more.id), OpenAI.NotFoundError);
  },

  async models() {
    const list = await client.models.list();
    assert.deepEqual(list.data.map((m) => m.id), [model]);
    assert.equal((await client.models.retrieve(model)).id, model);
  },

  async batches() {
    const body = (content) => ({ model, messages: [{ role: "user", content }], temperature: 0 });
    const lines = ["What is 17 + 25?", "What is 1 + 1?", "Say hello."].map((content, i) => JSON.stringify(
      { custom_id: `ask-${i}`, method: "POST", url: "/v1/chat/completions", body: body(content) }));
    const nobody = { ...body("x"), model: "nobody" };
    lines.push(JSON.stringify({ custom_id: "wrong", method: "POST", url: "/v1/chat/completions", body: nobody }));
    const file = await client.files.create({ file: await toFile(Buffer.from(lines.join("\n")), "in.jsonl"), purpose: "batch" });
    assert.equal(file.object, "file");
    assert.equal(file.bytes, lines.join("\n").length);
    assert.equal(await (await client.files.content(file.id)).text(), lines.join("\n"));
    let batch = await client.batches.create({
      input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h", metadata: { purpose: "test" } });
    assert.equal(batch.metadata.purpose, "test");
    while (["validating", "in_progress", "finalizing"].includes(batch.status)) batch = await client.batches.retrieve(batch.id);
    assert.equal(batch.status, "completed");
    assert.deepEqual(batch.request_counts, { total: 4, completed: 3, failed: 1 });
    const read = async (id) => (await (await client.files.content(id)).text()).trim().split("\n").map((line) => JSON.parse(line));
    const answers = Object.fromEntries((await read(batch.output_file_id)).map((line) => [line.custom_id, line]));
    assert.deepEqual(Object.keys(answers).sort(), ["ask-0", "ask-1", "ask-2"]);
    const direct = await client.chat.completions.create(body("What is 17 + 25?"));
    assert.equal(answers["ask-0"].response.body.choices[0].message.content, direct.choices[0].message.content);
    const [problem] = await read(batch.error_file_id);
    assert.equal(problem.custom_id, "wrong");
    assert.equal(problem.response.status_code, 404);
    const listed = [];
    for await (const one of client.batches.list({ limit: 1 })) listed.push(one.id);
    assert.ok(listed.includes(batch.id));
    const files = [];
    for await (const one of client.files.list({ purpose: "batch", limit: 1 })) files.push(one.id);
    assert.ok(files.includes(file.id));
    assert.equal((await client.batches.cancel(batch.id)).status, "completed");
    assert.equal((await client.files.delete(file.id)).deleted, true);
    await assert.rejects(client.files.retrieve(file.id), OpenAI.NotFoundError);
    await assert.rejects(client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" }),
      (error) => error instanceof OpenAI.NotFoundError && error.param === "input_file_id");
  },

  async abort() {
    const controller = new AbortController();
    const stream = await client.chat.completions.create(
      { model, messages, stream: true, max_tokens: 4000, ignore_eos: true }, { signal: controller.signal });
    let chunks = 0;
    await assert.rejects(async () => {
      for await (const _ of stream) {
        if (++chunks === 5) controller.abort();
      }
      if (controller.signal.aborted) throw new Error("aborted");
    });
    assert.ok(chunks >= 5 && chunks < 4000);
  },

  async videos() {
    const prompt = "a red circle moving left";
    const job = await client.videos.create({ model: "videos", prompt, size: "64x64", seconds: "1" });
    assert.equal(job.object, "video");
    assert.equal(job.prompt, prompt);
    let now = job;
    let progress = 0;
    while (now.status === "queued" || now.status === "in_progress") {
      now = await client.videos.retrieve(job.id);
      assert.ok(now.progress >= progress);
      progress = now.progress;
    }
    assert.equal(now.status, "completed");
    const file = Buffer.from(await (await client.videos.downloadContent(job.id)).arrayBuffer());
    assert.equal(file.toString("latin1", 4, 8), "ftyp");
    const ids = [];
    for await (const one of client.videos.list()) ids.push(one.id);
    assert.deepEqual(ids, [job.id]);
    assert.equal((await client.videos.delete(job.id)).deleted, true);
    await assert.rejects(client.videos.retrieve(job.id), OpenAI.NotFoundError);
    await assert.rejects(client.videos.remix(job.id, { prompt }), OpenAI.BadRequestError);
    await assert.rejects(client.videos.create({ model: "videos", prompt, size: "1x1" }), (error) => error.param === "size");
    const images = await client.images.generate({ model: "videos", prompt, size: "64x64", n: 2, response_format: "b64_json" });
    assert.equal(images.data.length, 2);
    assert.equal(Buffer.from(images.data[0].b64_json, "base64").toString("latin1", 1, 4), "PNG");
    const named = await client.images.generate({ model: "videos", prompt, size: "64x64", output_format: "webp", output_compression: 60 });
    assert.equal(named.output_format, "webp");
    const picture = Buffer.from(await (await fetch(new URL(named.data[0].url, client.baseURL))).arrayBuffer());
    assert.equal(picture.toString("latin1", 8, 12), "WEBP");
    await assert.rejects(client.images.generate({ model: "videos", prompt, n: 11 }), (error) => error.param === "n");
    await assert.rejects(client.images.generate({ model: "videos", prompt, size: "1024x1024", style: "vivid" }), (error) => error.param === "style");
    await assert.rejects(client.images.edit({ model: "videos", prompt, image: new File(["x"], "x.png", { type: "image/png" }) }), OpenAI.BadRequestError);
    // A second page, and a form as the client sends it with a picture.
    const pages = [await client.videos.create({ model: "videos", prompt, size: "64x64", seconds: "1" }),
                   await client.videos.create({ model: "videos", prompt, size: "64x64", seconds: "1" })];
    const listed = [];
    for await (const one of client.videos.list({ limit: 1, order: "asc" })) listed.push(one.id);
    assert.deepEqual(listed, pages.map((one) => one.id));
    await assert.rejects(client.videos.downloadContent("video_none"), OpenAI.NotFoundError);
    await assert.rejects(client.videos.create({ model: "videos", prompt, input_reference: new File(["x"], "x.png") }),
                         (error) => error.param === "input_reference");
    for (const one of pages) assert.equal((await client.videos.delete(one.id)).id, one.id);
  },

  async errors() {
    await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), OpenAI.NotFoundError);
    await assert.rejects(client.chat.completions.create({ model, messages, temperature: 7 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "temperature");
      assert.match(error.message, /7/);
      return true;
    });
    await assert.rejects(client.chat.completions.create({ model, messages, modalities: ["audio"] }), OpenAI.BadRequestError);
  },
};

if (!cases[name]) throw new Error(`no case ${name}`);
await cases[name]();
