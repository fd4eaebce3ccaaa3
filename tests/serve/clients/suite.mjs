// The official Node client of OpenAI against a server: node suite.mjs JUNTO MODEL, with the
// package `openai` in node_modules beside the current folder's package.json.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const OpenAI = require("openai");

const TEMPLATE = "{# <tool_call> name #}{% for m in messages %}{{ m.content }}\n{% endfor %}";
const messages = [{ role: "user", content: "Who is the king?" }];
const schema = {
  type: "object", required: ["age"],
  properties: { age: { type: "integer", minimum: 0, maximum: 9 } },
};
const tool = {
  type: "function",
  function: { name: "weather", parameters: {
    type: "object", required: ["place"], properties: { place: { enum: ["Bree"] } } } },
};
const usual = { model: "any", messages, max_tokens: 12, temperature: 0 };
const format = { type: "json_schema", json_schema: { name: "x", schema } };
const chat = (client, more) => client.chat.completions.create({ ...usual, ...more });

async function refused(promise, type, status) {
  const error = await promise.then(() => null, (e) => e);
  assert.ok(error instanceof type, `${error}`);
  assert.equal(error.status, status);
  assert.ok(error.error.message);
}

const calls = {
  models: async (c) => assert.equal((await c.models.list()).data.length, 1),
  chat: async (c) => assert.ok((await chat(c)).choices[0].message.content),
  two: async (c) => assert.equal((await chat(c, { n: 2 })).choices.length, 2),
  stream: async (c) => {
    let text = "";
    for await (const chunk of await chat(c, { stream: true }))
      text += chunk.choices[0]?.delta?.content ?? "";
    assert.equal(text, (await chat(c)).choices[0].message.content);
  },
  usage: async (c) => {
    let usage;
    for await (const chunk of await chat(c, { stream: true, stream_options: { include_usage: true } }))
      usage = chunk.usage ?? usage;
    assert.equal(usage.completion_tokens, 12);
  },
  text: async (c) => assert.ok((await c.completions.create(
    { model: "any", prompt: "The king", max_tokens: 5 })).choices[0].text),
  probabilities: async (c) => assert.equal((await chat(
    c, { logprobs: true, top_logprobs: 2 })).choices[0].logprobs.content[0].top_logprobs.length, 2),
  form: async (c) => assert.ok(JSON.parse((await chat(
    c, { response_format: format, max_tokens: 60 })).choices[0].message.content).age <= 9),
  object: async (c) => assert.equal((await chat(
    c, { response_format: { type: "json_object" } })).choices[0].message.content[0], "{"),
  tool: async (c) => {
    const reply = await chat(c, { tools: [tool], tool_choice: "required", max_tokens: 80,
                                  parallel_tool_calls: false });
    assert.equal(JSON.parse(reply.choices[0].message.tool_calls[0].function.arguments).place, "Bree");
    assert.equal(reply.choices[0].finish_reason, "tool_calls");
  },
  toolStream: async (c) => {
    const stream = c.chat.completions.stream({ ...usual, tools: [tool], tool_choice: "required",
                                               max_tokens: 80, parallel_tool_calls: false });
    const made = (await stream.finalChatCompletion()).choices[0].message.tool_calls[0];
    assert.equal(made.function.name, "weather");
  },
  response: async (c) => assert.ok((await c.responses.create(
    { model: "any", input: "Hello", max_output_tokens: 8 })).output_text),
  responseStream: async (c) => {
    let text = "", last;
    for await (const event of await c.responses.create(
      { model: "any", input: "Hello", max_output_tokens: 8, temperature: 0, stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(last.response.output[0].content[0].text, text);
  },
  embedding: async (c) => {
    const vector = (await c.embeddings.create({ model: "any", input: "a" })).data[0].embedding;
    assert.ok(Math.abs(vector.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3);
  },
  badValue: (c) => refused(chat(c, { temperature: -1 }), OpenAI.BadRequestError, 400),
  badMessages: (c) => refused(chat(c, { messages: [] }), OpenAI.BadRequestError, 400),
  badKey: (c) => refused(chat(c.withOptions({ apiKey: "wrong" })), OpenAI.AuthenticationError, 401),
  badPath: (c) => refused(c.post("/nope", { body: {} }), OpenAI.NotFoundError, 404),
  abort: async (c) => {
    const stream = await chat(c, { stream: true, max_tokens: 900, ignore_eos: true });
    for await (const _ of stream) break;
    assert.ok((await chat(c)).choices[0].message.content);
  },
  together: async (c) => {
    const alone = (await chat(c)).choices[0].message.content;
    for (const reply of await Promise.all(Array.from({ length: 8 }, () => chat(c))))
      assert.equal(reply.choices[0].message.content, alone);
  },
};

function start(junto, model) {
  const server = spawn(junto, ["serve", model, "--port", "0", "-c", "1024",
                               "--chat-template", TEMPLATE],
                       { env: { JUNTO_API_KEY: "key" }, stdio: ["ignore", "ignore", "pipe"] });
  return new Promise((ready) => {
    let log = "";
    server.stderr.on("data", (data) => {
      log += data;
      const port = log.match(/url=http:\/\/[^ \n]*:(\d+)/);
      if (port && log.includes(" ready ")) ready([server, port[1]]);
    });
  });
}

const [server, port] = await start(...process.argv.slice(2));
const client = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: "key", maxRetries: 0 });
let failed = 0;
for (const [name, call] of Object.entries(calls))
  await call(client).catch((error) => {
    failed++;
    console.log(`${name}: ${error}`);
  });
server.kill();
console.log(`${Object.keys(calls).length} calls, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
