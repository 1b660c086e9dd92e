// The Vercel `ai` package with its OpenAI providers, unmodified: node client.mjs URL CASE. Exit 0 if the case holds.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embed, generateObject, generateText, jsonSchema, isStepCount, streamObject, streamText, tool } from "ai";
import { z } from "zod";

const [url, name] = process.argv.slice(2);
const compatible = createOpenAICompatible({ name: "pixii", baseURL: `${url}/v1`, includeUsage: true, supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const model = compatible("tiny-chat");
const prompt = "What is 17 + 25?";
const common = { maxRetries: 0, temperature: 0 };
const person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(120) });
const weather = (called) => tool({
  description: "Get the current weather of a city",
  inputSchema: jsonSchema({
    type: "object", properties: { city: { type: "string", description: "Name of the city" } }, required: ["city"],
    additionalProperties: false,
  }),
  execute: async ({ city }) => {
    called.push(city);
    return { city, temperature: 21 };
  },
});

const cases = {
  async generateText() {
    const answer = await generateText({ ...common, model, prompt });
    assert.match(answer.text, /42/);
    assert.equal(answer.finishReason, "stop");
    assert.ok(answer.usage.inputTokens > 0 && answer.usage.outputTokens > 0);
    const other = await generateText({ ...common, model: openai.chat("tiny-chat"), prompt });
    assert.equal(other.text, answer.text);
    const cut = await generateText({ ...common, model, prompt, maxOutputTokens: 1 });
    assert.equal(cut.finishReason, "length");
  },

  async streamText() {
    const whole = await generateText({ ...common, model, prompt });
    const stream = streamText({ ...common, model, prompt });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    assert.equal(text, whole.text);
    assert.equal(await stream.finishReason, "stop");
    assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
  },

  async responses() {
    const whole = await generateText({ ...common, model: openai.responses("tiny-chat"), prompt });
    assert.match(whole.text, /42/);
    const stream = streamText({ ...common, model: openai.responses("tiny-chat"), prompt });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    assert.equal(text, whole.text);
  },

  async tools() {
    const called = [];
    const tools = { get_weather: weather(called) };
    const answer = await generateText({ ...common, model, tools, stopWhen: isStepCount(3), prompt: "What is the weather in Paris?" });
    assert.deepEqual(called, ["Paris"]);
    assert.equal(answer.steps[0].finishReason, "tool-calls");
    assert.deepEqual(answer.steps[0].toolCalls[0].input, { city: "Paris" });
    assert.ok(answer.text.length > 0);
    const stream = streamText({ ...common, model, tools, prompt: "What is the weather in Paris?" });
    await stream.consumeStream();
    assert.deepEqual((await stream.toolCalls).map((call) => call.input), [{ city: "Paris" }]);
    assert.equal(called.length, 2);
  },

  async generateObject() {
    const answer = await generateObject({ ...common, model, schema: person, prompt: "A person as JSON: Ann, 31 years old." });
    assert.equal(typeof answer.object.name, "string");
    assert.ok(Number.isInteger(answer.object.age) && answer.object.age >= 0 && answer.object.age <= 120);
    const stream = streamObject({ ...common, model, schema: person, prompt: "A person as JSON: Ann, 31 years old." });
    for await (const _ of stream.partialObjectStream) { /* grows */ }
    assert.deepEqual(await stream.object, answer.object);
    const choice = await generateObject({ ...common, model, output: "enum", enum: ["red", "blue"], prompt: "red or blue?" });
    assert.ok(["red", "blue"].includes(choice.object));
  },

  async abort() {
    const controller = new AbortController();
    const long = { ...common, model, prompt, maxOutputTokens: 4000, abortSignal: controller.signal,
      providerOptions: { pixii: { ignore_eos: true } } };
    let pieces = 0;
    const stream = streamText({ ...long, onError: () => {} });
    for await (const part of stream.fullStream) {
      if (part.type === "text-delta" && ++pieces === 5) controller.abort();
      if (part.type === "abort") break;
    }
    assert.ok(pieces >= 5 && pieces < 4000);
    await assert.rejects(generateText({ ...long, abortSignal: AbortSignal.timeout(50) }));
  },

  async errors() {
    const refused = (status) => (error) => {
      assert.ok(APICallError.isInstance(error), `${error}`);
      assert.equal(error.statusCode, status);
      return true;
    };
    await assert.rejects(generateText({ ...common, model: compatible("nobody"), prompt }), refused(404));
    await assert.rejects(generateText({ ...common, temperature: 7, model, prompt }), (error) => {
      assert.match(error.message, /temperature/);
      return refused(400)(error);
    });
    const streamed = [];
    const stream = streamText({ ...common, temperature: 7, model, prompt, onError: ({ error }) => streamed.push(error) });
    await stream.consumeStream();
    assert.equal(streamed[0].statusCode, 400);
    await assert.rejects(embed({ model: compatible.embeddingModel("tiny-chat"), value: "x", maxRetries: 0 }), refused(404));
  },
};

if (!cases[name]) throw new Error(`no case ${name}`);
await cases[name]();
