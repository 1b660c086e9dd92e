// The official client, unmodified, shows pictures: node vision.mjs URL < JSON {model, media_type, data, question}.
// Prints what it was answered, or the error, by place of the picture.
import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0, timeout: 110_000 });
const { model, media_type, data, question } = JSON.parse(readFileSync(0, "utf8"));
const image = { type: "image", source: { type: "base64", media_type, data } };

async function told(messages) {
  try {
    const answer = await client.messages.create({ model, max_tokens: 30, temperature: 0, messages });
    return { text: answer.content[0].text };
  } catch (error) {
    return { status: error.status, message: error.message };
  }
}

console.log(JSON.stringify({
  message: await told([{ role: "user", content: [image, { type: "text", text: question }] }]),
  tool_result: await told([
    { role: "user", content: "Look." },
    { role: "assistant", content: [{ type: "tool_use", id: "t", name: "camera", input: {} }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: [image] }, { type: "text", text: question }] },
  ]),
}));
