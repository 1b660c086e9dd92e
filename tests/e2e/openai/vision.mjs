// The official client, unmodified, shows pictures: node vision.mjs URL < JSON {model, url, question, next}.
// Prints what it was answered, or the error, by surface.
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0, timeout: 110_000 });
const { model, url, question, next } = JSON.parse(readFileSync(0, "utf8"));

async function told(ask) {
  try {
    return { text: await ask() };
  } catch (error) {
    return { status: error.status, param: error.param, message: error.message };
  }
}

const input = [{ role: "user", content: [{ type: "input_image", image_url: url, detail: "auto" }, { type: "input_text", text: question }] }];
let first;

const answers = {
  chat: await told(async () => {
    const content = [{ type: "image_url", image_url: { url } }, { type: "text", text: question }];
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }], max_tokens: 30, temperature: 0 });
    return answer.choices[0].message.content;
  }),
  responses: await told(async () => {
    first = await client.responses.create({ model, input, temperature: 0, instructions: "You look at pictures." });
    return first.output_text;
  }),
  streamed: await told(async () => {
    const stream = await client.responses.create({ model, input, temperature: 0, stream: true });
    let text = "";
    for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
    return text;
  }),
};
if (first) {
  answers.continued = await told(async () => {
    const answer = await client.responses.create({ model, input: next, previous_response_id: first.id, temperature: 0 });
    return answer.output_text;
  });
}
console.log(JSON.stringify(answers));
