// OpenAI's own client asks `headroom serve` for what users ask it: models, completions, chats, streams, usage, log
// probabilities and errors. Usage: node openai.mjs HEADROOM
import assert from "node:assert";
import {spawn} from "node:child_process";
import {once} from "node:events";
import {mkdtempSync, rmSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import OpenAI from "openai";

const headroom = process.argv[2];
const dir = mkdtempSync(join(tmpdir(), "headroom-openai-"));
const key = "a-key-of-this-test";
const model = "tiny";

// A model of random weights over bytes: its texts have characters, parts of them and bytes that are part of none.
async function serve() {
  writeFileSync(join(dir, "keys.txt"), key + "\n");
  writeFileSync(join(dir, "template.txt"), "{{range .Messages}}{{.Role}}: {{.Content}}\n{{end}}assistant:");
  const sets = {
    "model.vocab": 320, "model.width": 32, "model.layers": 2, "model.mlp": 48, "model.context": 256, "attention.heads": 4, "attention.head_dim": 8,
  };
  const server = spawn(headroom, [
    "serve", "--random", "--name", model, "--tokenizer", "bytes", "--addr", "127.0.0.1:0", "--keys", "keys.txt", "--chat-template", "template.txt",
    "--attention", "gla-2", ...Object.entries(sets).flatMap(([k, v]) => ["--set", `${k}=${v}`]),
  ], {cwd: dir, stdio: ["ignore", "pipe", "pipe"]});
  let log = "";
  server.stderr.on("data", text => { log += text; });
  const gone = once(server, "exit");
  const [url] = await Promise.race([once(server.stdout, "data"), gone.then(() => { throw new Error(`serve ended: ${log}`); })]);
  return {url: String(url).trim(), stop: async () => { server.kill(); await gone; }};
}

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const refused = (promise, kind, want) => assert.rejects(promise, error => {
  assert.ok(error instanceof kind, `${error.constructor.name} in place of ${kind.name}: ${error.message}`);
  for (const [name, value] of Object.entries(want)) assert.strictEqual(error[name], value, `${name} of ${error.message}`);
  return true;
});

async function models(client) {
  assert.deepStrictEqual((await collect(await client.models.list())).map(m => m.id), [model]);
  assert.strictEqual((await client.models.retrieve(model)).owned_by, "headroom");
}

async function completions(client) {
  const ask = {model, prompt: "Once upon a time", max_tokens: 24, seed: 5, temperature: 1, logprobs: 2};
  const one = await client.completions.create(ask);
  assert.deepStrictEqual(one, {...await client.completions.create(ask), id: one.id, created: one.created});
  assert.strictEqual(one.usage.prompt_tokens, 17); // its bytes, behind the begin token
  const logprobs = one.choices[0].logprobs;
  assert.strictEqual(logprobs.tokens.length, one.usage.completion_tokens);
  assert.ok(logprobs.text_offset.every((at, i) => i === 0 ? at === 0 : at >= logprobs.text_offset[i - 1]));

  const many = await client.completions.create({...ask, n: 3, prompt: ["Once upon a time", "a"]});
  assert.deepStrictEqual(many.choices.map(c => c.index), [0, 1, 2, 3, 4, 5]);
  assert.strictEqual(new Set(many.choices.map(c => c.text)).size, 6);
  for (const [i, c] of many.choices.slice(0, 3).entries()) {
    assert.strictEqual((await client.completions.create({...ask, seed: 5 + i})).choices[0].text, c.text);
  }

  const parts = await collect(await client.completions.create({...ask, stream: true, stream_options: {include_usage: true}}));
  const chosen = parts.flatMap(p => p.choices);
  assert.ok(chosen.length > 0); // how many depends on how fast this client reads: what has come meanwhile is one part
  assert.strictEqual(chosen.map(c => c.text).join(""), one.choices[0].text);
  assert.deepStrictEqual(chosen.flatMap(c => c.logprobs.token_logprobs), logprobs.token_logprobs);
  assert.deepStrictEqual(chosen.flatMap(c => c.logprobs.text_offset), logprobs.text_offset);
  assert.strictEqual(chosen.at(-1).finish_reason, one.choices[0].finish_reason);
  assert.deepStrictEqual({...parts.at(-1).usage, prompt_tokens_details: null}, {...one.usage, prompt_tokens_details: null});

  const echo = await client.completions.create({...ask, prompt: [72, 105], echo: true, max_tokens: 0, logprobs: 0});
  assert.strictEqual(echo.choices[0].text, "Hi");
  assert.strictEqual(echo.choices[0].logprobs.token_logprobs[0], null);

  const text = one.choices[0].text, stop = [...text].find(c => /[ -~]/.test(c) && c !== text[0]);
  const stopped = await client.completions.create({...ask, stop});
  assert.strictEqual(stopped.choices[0].text, text.slice(0, text.indexOf(stop)));
  assert.strictEqual(stopped.choices[0].finish_reason, "stop");
  assert.strictEqual(stopped.usage.completion_tokens, stopped.choices[0].logprobs.tokens.length);
}

async function chats(client) {
  const ask = {model, max_completion_tokens: 20, seed: 7, logprobs: true, top_logprobs: 2};
  const plain = await client.chat.completions.create({
    ...ask, messages: [{role: "system", content: "Be brief."}, {role: "user", content: "Hello\nthere"}],
  });
  const message = plain.choices[0].message;
  assert.strictEqual(message.role, "assistant");
  assert.strictEqual(plain.choices[0].logprobs.content.length, plain.usage.completion_tokens);
  assert.ok(plain.choices[0].logprobs.content.every(t => t.top_logprobs.length === 2 && Array.isArray(t.bytes)));

  // The client's own helper puts the stream together, and holds it to the form of chats.
  const parts = {
    ...ask, messages: [{role: "developer", content: "Be brief."}, {role: "user", content: [{type: "text", text: "Hello"}, {type: "text", text: "there"}]}],
    response_format: {type: "text"}, stream_options: {include_usage: true},
  };
  const stream = client.chat.completions.stream(parts);
  let pieces = 0;
  stream.on("content", () => pieces++);
  const whole = await stream.finalChatCompletion();
  assert.ok(pieces > 0);
  assert.strictEqual(whole.choices[0].message.content, message.content);
  assert.deepStrictEqual(whole.choices[0].logprobs.content, plain.choices[0].logprobs.content);
  assert.strictEqual(whole.choices[0].finish_reason, plain.choices[0].finish_reason);
  assert.strictEqual(whole.usage.total_tokens, plain.usage.total_tokens);
}

async function errors(client, url) {
  const messages = [{role: "user", content: "hello"}];
  const bad = (more, want) => refused(client.chat.completions.create({model, messages, ...more}), OpenAI.BadRequestError, {status: 400, ...want});
  await bad({response_format: {type: "json_object"}}, {param: "response_format", code: null});
  await bad({tools: [{type: "function", function: {name: "f", parameters: {}}}]}, {param: "tools", code: "unsupported_parameter"});
  await bad({temperature: -1}, {param: "temperature", code: null});
  await bad({max_completion_tokens: 1000}, {param: "max_completion_tokens", code: "context_length_exceeded"});
  await bad({messages: [{role: "user", content: "a".repeat(300)}]}, {param: "messages", code: "context_length_exceeded"});
  await bad({messages: [{role: "user", content: [{type: "image_url", image_url: {url: "data:,"}}]}]}, {param: "messages"});
  await refused(client.completions.create({model, prompt: "a", logit_bias: {5: 1}}), OpenAI.BadRequestError, {param: "logit_bias", type: "invalid_request_error"});
  await refused(client.chat.completions.create({model: "another", messages}), OpenAI.NotFoundError, {param: "model", code: "model_not_found"});
  await refused(client.models.retrieve("another"), OpenAI.NotFoundError, {code: "model_not_found"});
  await refused(client.embeddings.create({model, input: "a"}), OpenAI.NotFoundError, {status: 404});
  const stranger = new OpenAI({baseURL: url + "/v1", apiKey: "another-key", maxRetries: 0});
  await refused(stranger.models.list(), OpenAI.AuthenticationError, {status: 401, code: "invalid_api_key"});
}

// Who breaks a stream off gets no more, and the engine is idle soon after.
async function leaving(client, url) {
  const stream = await client.completions.create({model, prompt: "a", max_tokens: 200, stream: true, n: 8});
  for await (const _ of stream) break;
  assert.ok(stream.controller.signal.aborted);
  for (let i = 0; ; i++) {
    assert.ok(i < 6000, "the engine is not idle two minutes later");
    const state = await (await fetch(url + "/status", {headers: {authorization: `Bearer ${key}`}})).json();
    if (state.running + state.waiting + state.queued + state.pages_used === 0) return;
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

const server = await serve();
try {
  const client = new OpenAI({baseURL: server.url + "/v1", apiKey: key, maxRetries: 0});
  for (const part of [models, completions, chats, errors, leaving]) {
    await part(client, server.url);
    console.log(`openai: ${part.name}: as they must be`);
  }
} finally {
  await server.stop();
  rmSync(dir, {recursive: true, force: true});
}
