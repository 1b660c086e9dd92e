// The official client, unmodified, against a running server: node client.mjs URL CASE. Exit 0 if the case holds.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const [url, name] = process.argv.slice(2);
const client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const model = "tiny-chat";
const messages = [{ role: "user", content: "What is 17 + 25?" }];

const cases = {
  async message() {
    const answer = await client.messages.create({ model, messages, max_tokens: 100, temperature: 0 });
    assert.equal(answer.type, "message");
    assert.match(answer.content[0].text, /42/);
    assert.equal(answer.stop_reason, "end_turn");
    const count = await client.messages.countTokens({ model, messages });
    assert.equal(answer.usage.input_tokens, count.input_tokens);
  },

  async streaming() {
    const whole = await client.messages.create({ model, messages, max_tokens: 100, temperature: 0 });
    const stream = client.messages.stream({ model, messages, max_tokens: 100, temperature: 0 });
    let text = "";
    stream.on("text", (piece) => { text += piece; });
    const last = await stream.finalMessage();
    assert.equal(text, whole.content[0].text);
    assert.deepEqual(last.content, whole.content);
    assert.equal(last.stop_reason, whole.stop_reason);
    assert.equal(last.usage.output_tokens, whole.usage.output_tokens);
  },

  async abort() {
    const stream = client.messages.stream({ model, messages, max_tokens: 1000, temperature: 0 });
    await assert.rejects(async () => {
      for await (const event of stream) {
        if (event.type === "content_block_delta") stream.abort();
      }
      throw new Error("not aborted");
    }, Anthropic.APIUserAbortError);
  },

  async errors() {
    await assert.rejects(client.messages.create({ model: "nobody", messages, max_tokens: 5 }), Anthropic.NotFoundError);
    await assert.rejects(client.messages.create({ model, messages, max_tokens: 5, temperature: 7 }), (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError);
      assert.equal(error.error.error.type, "invalid_request_error");
      assert.match(error.message, /temperature/);
      return true;
    });
  },
};

if (!cases[name]) throw new Error(`no case ${name}`);
await cases[name]();
