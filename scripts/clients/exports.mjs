// llama.cpp reads GGUF files that headroom writes: for each tokenizer it must make the same tokens of a text, end it at the
// same tokens, and go on greedily by the same tokens as `headroom generate`, with the same probabilities. The tokenizers library of transformers.js reads
// the exported directory of the same model, and must make the same tokens too. Usage: node exports.mjs HEADROOM
import assert from "node:assert";
import {execFileSync, spawn} from "node:child_process";
import {once} from "node:events";
import {mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {Tokenizer} from "@huggingface/tokenizers";
import {getLlama} from "node-llama-cpp";

const headroom = process.argv[2];
const dir = mkdtempSync(join(tmpdir(), "headroom-gguf-"));
const run = (...args) => execFileSync(headroom, args, {cwd: dir, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"]});

// Texts with what patterns differ in: letters of other scripts, numbers, contractions, spaces and line ends.
const texts = [
  "Once upon a time", " there's 1234567 déjà-vus,\n\n\tWE'LL SEE!!  ", "日本語 ½ 🙂 x=y+1;\r\n", "a", "<|endoftext|> is text here",
];
const words = " the quick brown fox jumps over 12 lazy dogs; it's Été in Zürich and the 日本 ½ is here\n".split(" ");

// A model is trained until it knows its few documents, so that its greedy tokens differ from each other, and end.
function make(name, tokenizer, vocab, attention, steps, more) {
  run("prepare", "--tokenizer", tokenizer, "--out", `${name}-shards`, "text.jsonl");
  const sets = {
    "data.train": `${name}-shards`, "data.tokenizer": tokenizer, "model.vocab": vocab, "model.width": 64, "model.layers": 2, "model.mlp": 96,
    "model.context": 256, "attention.heads": 4, "attention.head_dim": 16, "attention.rope_theta": 500, "train.steps": steps, "train.warmup": 2, "train.lr": 0.01,
    "train.batch": 4, ...more,
  };
  const flags = Object.entries(sets).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
  run("train", "--attention", attention, ...flags, "--out", name);
  run("export", name, "--format", "gguf", "--out", `${name}.gguf`);
  run("export", name, "--out", `${name}-hf`);
}

// What llama.cpp makes of a file.
async function read(llama, name) {
  const model = await llama.loadModel({modelPath: join(dir, `${name}.gguf`), gpuLayers: 0});
  const context = await model.createContext({contextSize: 256, threads: 1});
  const sequence = context.getSequence();
  const tokenize = text => [...(model.tokens.shouldPrependBosToken ? [model.tokens.bos] : []), ...model.tokenize(text, true)];
  const greedy = async (prompt, n) => {
    const out = [];
    await sequence.clearHistory();
    for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
      out.push(token);
      if (out.length === n || model.isEogToken(token)) break;
    }
    return out;
  };
  // The logarithms of the probabilities that tokens have, each after those before it.
  const logProbabilities = async tokens => {
    await sequence.clearHistory();
    const next = tokens.slice(0, -1).map(token => [token, {generateNext: {probabilities: true, options: {temperature: 1, topK: 0, topP: 1, minP: 0}}}]);
    const out = await sequence.controlledEvaluate(next);
    return out.map((at, i) => Math.log(at.next.probabilities.get(tokens[i + 1])));
  };
  return {tokenize, greedy, logProbabilities, model, done: () => model.dispose()};
}

// What `headroom serve` makes of a text: special tokens written in it are tokens, as in llama.cpp where it is asked to.
async function served(name, ask) {
  const server = spawn(headroom, ["serve", name, "--addr", "127.0.0.1:0"], {cwd: dir, stdio: ["ignore", "pipe", "ignore"]});
  const gone = once(server, "exit");
  try {
    const [url] = await Promise.race([once(server.stdout, "data"), gone.then(() => { throw new Error(`${name}: serve ended`); })]);
    const post = async (path, body) => (await fetch(String(url).trim() + path, {method: "POST", body: JSON.stringify(body)})).json();
    return await ask({
      tokenize: async text => (await post("/tokenize", {prompt: text})).tokens,
      logProbabilities: async tokens => {
        const answer = await post("/v1/completions", {prompt: tokens, max_tokens: 0, echo: true, logprobs: 0, add_special_tokens: false});
        return answer.choices[0].logprobs.token_logprobs.slice(1);
      },
    });
  } finally {
    server.kill();
    await gone;
  }
}

async function check(llama, name, tokenizer, vocab, attention, steps = 60, more = {}) {
  make(name, tokenizer, vocab, attention, steps, more);
  const theirs = await read(llama, name);
  const [file, config] = ["tokenizer.json", "tokenizer_config.json"].map(f => JSON.parse(readFileSync(join(dir, `${name}-hf`, f))));
  const library = new Tokenizer(file, config);
  let worst = 0;
  await served(name, async server => {
    for (const text of texts) {
      const ours = await server.tokenize(text);
      assert.deepStrictEqual(theirs.tokenize(text), ours, `${name}: ${JSON.stringify(text)} has other tokens`);
      assert.deepStrictEqual(library.encode(text).ids, ours, `${name}: ${JSON.stringify(text)} has other tokens in the library`);
    }
    const long = theirs.tokenize(texts.join(" ") + words.join(" ")).slice(0, 250);
    const [got, want] = [await theirs.logProbabilities(long), await server.logProbabilities(long)];
    assert.strictEqual(got.length, want.length, `${name}: other numbers of probabilities`);
    got.forEach((p, i) => {
      assert(Math.abs(p - want[i]) < 0.02, `${name}: token ${i + 1} of ${long.length} has a log probability of ${p} in llama.cpp, here ${want[i]}`);
      worst = Math.max(worst, Math.abs(p - want[i]));
    });
  });
  let tokens = 0;
  let ended = 0;
  const seen = new Set();
  for (const text of texts) {
    const ours = JSON.parse(run("generate", name, "--prompt", text, "--temperature", "0", "--max-tokens", "64", "--json"));
    const prompt = theirs.tokenize(text);
    assert.strictEqual(prompt.length, ours.prompt_tokens, `${name}: ${JSON.stringify(text)} has other tokens: ${prompt}`);
    const got = await theirs.greedy(prompt, 64);
    assert.deepStrictEqual(got, ours.tokens, `${name}: ${JSON.stringify(text)} goes on otherwise`);
    for (const token of got) seen.add(token);
    ended += theirs.model.isEogToken(got.at(-1)) ? 1 : 0;
    tokens += got.length;
  }
  assert(steps < 60 || seen.size > 10, `${name}: ${seen.size} tokens that differ are too few to tell models apart`);
  assert(steps < 60 || vocab < 300 || ended > 0, `${name}: no text ended`);
  await theirs.done();
  console.log(`clients: llama.cpp and the tokenizers library read ${name} (${attention}, ${tokenizer}): ${texts.length} texts, ${tokens} greedy tokens equal, ${seen.size} of them different, ${ended} ends, log probabilities within ${worst.toExponential(1)}`);
}

// A tokenizer whose texts begin and end with tokens of their own, and end with others too.
function chat() {
  const tokenizer = JSON.parse(readFileSync(join(dir, "trained.json")));
  ["<|begin|>", "<|end|>", "<|turn|>"].forEach((content, i) => tokenizer.added_tokens.push({id: 400 + i, content, special: true}));
  tokenizer.added_tokens.push({id: 403, content: "<tool>", special: false, normalized: false});
  tokenizer.post_processor = null;
  mkdirSync(join(dir, "chat"));
  const write = (name, value) => writeFileSync(join(dir, "chat", name), JSON.stringify(value));
  write("tokenizer.json", tokenizer);
  write("tokenizer_config.json", {bos_token: "<|begin|>", eos_token: "<|turn|>"});
  write("generation_config.json", {eos_token_id: [401, 0]});
  texts.push("<|begin|>a <tool> here<|turn|>");
}

let failed = false;
try {
  const documents = texts.map((text, i) => JSON.stringify({text: text + words.slice(i).join(" ")}) + "\n").join("");
  writeFileSync(join(dir, "text.jsonl"), documents.repeat(200));
  run("tokenizer", "train", "--vocab", "400", "--pattern", "cl100k", "--out", "trained.json", "text.jsonl");
  run("tokenizer", "train", "--vocab", "400", "--pattern", "gpt2", "--out", "plain.json", "text.jsonl");
  const llama = await getLlama({gpu: false, build: "never", logLevel: "error", skipDownload: true});
  await check(llama, "bytes", "bytes", 257, "mha");
  await check(llama, "trained", "trained.json", 400, "gqa-2");
  await check(llama, "plain", "plain.json", 400, "mqa");
  await check(llama, "gpt2", "gpt2", 50257, "gqa-2", 4);
  await check(llama, "scaled", "trained.json", 400, "gqa-2", 60, {
    "attention.rope_scaling.factor": 8, "attention.rope_scaling.low_freq_factor": 1, "attention.rope_scaling.high_freq_factor": 4,
    "attention.rope_scaling.original_context": 64,
  });
  await check(llama, "qwen3", "trained.json", 400, "gqa-2", 60, {"attention.qk_norm": "head"});
  await check(llama, "qwen3-untied", "plain.json", 400, "mqa", 60, {"attention.qk_norm": "head", "attention.head_dim": 32, "model.tie": false});
  const olmo2 = {"model.norm": "post", "attention.qk_norm": "all", "train.lr": 0.003};
  await check(llama, "olmo2", "trained.json", 400, "gqa-2", 150, olmo2);
  await check(llama, "olmo2-untied", "plain.json", 400, "mha", 150, {...olmo2, "model.tie": false});
  await check(llama, "gemma3", "trained.json", 400, "gqa-2", 100, {
    "model.norm": "both", "model.activation": "gelu_tanh", "model.embed_scale": true, "model.norm_eps": 1e-6, "model.layers": 7,
    "attention.qk_norm": "head", "attention.window": 12, "attention.pattern": "[window, window, window, window, window, full]",
    "attention.rope_theta": 1e6, "attention.window_rope_theta": 1e4, "train.lr": 0.003,
  });
  chat();
  await check(llama, "chat", "chat/tokenizer.json", 404, "gqa-2");
} catch (wrong) {
  failed = true;
  console.error(`clients: exports: ${wrong.message}${wrong.stderr ?? ""}`);
} finally {
  rmSync(dir, {recursive: true});
}
process.exit(failed ? 1 : 0); // llama.cpp's threads would keep node alive
