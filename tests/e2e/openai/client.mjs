// The official client, unmodified, against a running server: node client.mjs URL CASE. Exit 0 if the case holds.
import assert from "node:assert/strict";
import OpenAI from "openai";

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
