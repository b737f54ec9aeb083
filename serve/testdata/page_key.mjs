// Runs the page's script where there is no browser: of the document only what the script touches. It prints what the
// script asks the server for in four turns of its timer without a key, and in three with one.
// Usage: node page_key.mjs page.js URL KEY
import {readFileSync} from 'node:fs';
import vm from 'node:vm';

const [script, url, key] = process.argv.slice(2);
const elements = {}, turns = [];
let asked = [];
const element = () => ({value: '', style: {}, classList: {toggle() {}}, setAttribute() {}});
const page = {
  document: {getElementById: id => elements[id] ??= element()},
  location: {hash: ''}, URLSearchParams, TextDecoder, TextEncoder, performance, console,
  setTimeout: f => turns.push(f),
  fetch: (path, how) => { asked.push(path); return fetch(url + path, how); },
};
vm.runInNewContext(readFileSync(script, 'utf8'), page);

async function turn() {
  while (!turns.length) await new Promise(resolve => setTimeout(resolve, 5));
  await turns.shift()();
}
for (let i = 0; i < 4; i++) await turn();
console.log('without a key:', asked.join(' '));
asked = [];
elements.key.value = key;
elements.key.onchange();
for (let i = 0; i < 3; i++) await turn();
console.log('with a key:', asked.join(' '));
