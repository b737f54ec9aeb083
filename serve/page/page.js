'use strict';
const $ = id => document.getElementById(id);
let leaving = null; // of the completion under way
let ends = []; // the ids that end a text

function headers() {
  const h = {'Content-Type': 'application/json'};
  if ($('key').value) h.Authorization = 'Bearer ' + $('key').value;
  return h;
}

function say(text, wrong) {
  $('said').textContent = text;
  $('said').classList.toggle('wrong', !!wrong);
}

// events reads server-sent events; each of ours is one line of data.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    rest += value;
    for (let end; (end = rest.indexOf('\n\n')) >= 0; rest = rest.slice(end + 2)) {
      const line = rest.slice(0, end);
      if (line === 'data: [DONE]') return;
      if (line.startsWith('data: ')) yield JSON.parse(line.slice(6));
    }
  }
}

// shade is how unlikely a token was: 0 above a half, 3 below one in a hundred.
const shade = p => p > 0.5 ? 0 : p > 0.1 ? 1 : p > 0.01 ? 2 : 3;

function bytesOf(token) {
  return token.startsWith('bytes:') ? new Uint8Array((token.match(/\\x../g) || []).map(x => parseInt(x.slice(2), 16))) : new TextEncoder().encode(token);
}

function showTops(token, logprob, tops) {
  const table = $('tops'), rows = Object.entries(tops || {}).sort((a, b) => b[1] - a[1]);
  table.caption.textContent = `${JSON.stringify(token)} came with ${(100 * Math.exp(logprob)).toPrecision(3)} %`;
  table.tBodies[0].replaceChildren(...rows.map(([t, p]) => {
    const row = document.createElement('tr'), bar = document.createElement('i');
    bar.style.width = 100 * Math.exp(p) + '%';
    row.insertCell().textContent = JSON.stringify(t);
    row.insertCell().textContent = (100 * Math.exp(p)).toFixed(2) + ' %';
    row.insertCell().append(bar);
    return row;
  }));
  table.hidden = false;
}

async function generate() {
  const number = id => Number($(id).value);
  leaving = new AbortController();
  $('go').disabled = true; $('stop').disabled = false;
  const prompt = document.createElement('span');
  prompt.className = 'prompt';
  prompt.textContent = $('prompt').value;
  $('text').replaceChildren(prompt);
  $('tops').hidden = true;
  say('…');
  const began = performance.now();
  let first = 0, tokens = 0, decoder = new TextDecoder();
  try {
    const answer = await fetch('/v1/completions', {
      method: 'POST', headers: headers(), signal: leaving.signal, body: JSON.stringify({
        prompt: $('prompt').value, max_tokens: number('max_tokens'), temperature: number('temperature'), top_p: number('top_p'),
        seed: number('seed'), logprobs: 8, stream: true,
      })});
    if (answer.status === 401) $('keyed').hidden = false;
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    for await (const event of events(answer.body)) {
      if (event.error) throw new Error(event.error.message);
      for (const choice of event.choices) {
        const l = choice.logprobs;
        l.tokens.forEach((token, i) => {
          first ||= performance.now();
          tokens++;
          const b = document.createElement('button'), p = l.token_logprobs[i];
          b.type = 'button';
          b.className = 'p' + shade(Math.exp(p));
          b.textContent = ends.includes(l.token_ids[i]) ? '⏹' : decoder.decode(bytesOf(token), {stream: true});
          b.onmouseenter = b.onfocus = () => showTops(token, p, l.top_logprobs[i]);
          $('text').append(b);
        });
        if (choice.finish_reason) {
          const rate = performance.now() > first ? `, then ${(1000 * (tokens - 1) / (performance.now() - first)).toFixed(1)} tokens/s` : '';
          say(`${tokens} tokens, ended by ${choice.finish_reason}; the first came after ${(first - began).toFixed(0)} ms${rate}`);
        }
      }
    }
  } catch (wrong) {
    if (wrong.name === 'AbortError') say(`stopped after ${tokens} tokens`);
    else say(wrong.message, true);
  }
  leaving = null;
  $('go').disabled = false; $('stop').disabled = true;
}

let locked = false; // the server answers nothing without another key
let learned = false;

async function watch() {
  try {
    if (locked) return;
    const answer = await fetch('/status', {headers: headers()});
    if (answer.status === 401) {
      $('keyed').hidden = false;
      locked = true;
      $('cache').textContent = 'the server needs an API key';
    }
    if (answer.ok) {
      if (!learned) learn();
      const s = await answer.json();
      $('model').textContent = `${s.model}, context ${s.context}`;
      $('max_tokens').max = s.context - 1;
      $('used').style.width = 100 * s.pages_used / s.pages + '%';
      $('kept').style.width = 100 * s.pages_kept / s.pages + '%';
      $('pages').setAttribute('aria-valuemax', s.pages);
      $('pages').setAttribute('aria-valuenow', s.pages_used);
      const mib = (s.pages * s.page_tokens * s.cache_bytes_per_token / 2 ** 20).toPrecision(3);
      $('cache').textContent = `${s.pages_used} of ${s.pages} pages of ${s.page_tokens} tokens in use, ${s.pages_kept} kept for prompts that begin alike; ` +
        `${s.cache_bytes_per_token} bytes a token, ${mib} MiB in all; ${s.running} running, ${s.queued + s.waiting} waiting`;
    }
  } catch {
    $('cache').textContent = 'the server does not answer';
  } finally {
    setTimeout(watch, leaving ? 150 : 1000);
  }
}

// learn asks which tokens end a text.
async function learn() {
  learned = true;
  try {
    const answer = await fetch('/tokenizer_info', {headers: headers()});
    if (answer.ok) ends = (await answer.json()).eos_token_ids || [];
  } catch {} // it is shown as it stands
}

$('form').onsubmit = e => { e.preventDefault(); if (!leaving) generate(); };
$('stop').onclick = () => leaving && leaving.abort();
$('key').onchange = () => { locked = false; };
watch();
const linked = new URLSearchParams(location.hash.slice(1)); // #prompt=…&max_tokens=…: a link that is ready to run
for (const id of ['prompt', 'max_tokens', 'temperature', 'top_p', 'seed']) if (linked.has(id)) $(id).value = linked.get(id);
if (linked.has('go')) generate();
