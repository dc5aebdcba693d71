// What an operator may change: each behind the token, each told by the member itself before it is done, each shown while it goes on.
import { el, say } from './dom.js';
import { bytes, outage, sentence } from './words.js';

// The token stays in this tab, and ends with it. It goes out in a header that only this script sets, so that no other site's
// page can have a browser send it.
const store = 'standfast-token';
let operator = null;
let changed = () => {};

export const signedIn = () => operator !== null;
export const who = () => operator;

export async function begin(onChange) {
  changed = onChange;
  const token = sessionStorage.getItem(store);
  if (location.protocol !== 'https:' || !token) return;
  try {
    operator = await ask(token);
  } catch (e) {
    if (e.refused) sessionStorage.removeItem(store);
  }
  changed();
}

async function ask(token) {
  const r = await fetch('/ui/operator', { headers: { Authorization: `Bearer ${token}` }, cache: 'no-store', signal: AbortSignal.timeout(5000) });
  if (!r.ok) throw Object.assign(new Error((await r.text()).trim()), { refused: r.status === 401 });
  return (await r.json()).operator;
}

export function signOut() {
  sessionStorage.removeItem(store);
  operator = null;
  changed();
}

// show opens a dialog with a title and parts, and calls onclose when it goes away in whatever manner. Each is an element of its own: the
// event that tells of one's end comes late, and is not to be taken for the next one's.
function show(title, parts, onclose = () => {}) {
  const dialog = el('dialog', { class: 'dialog', 'aria-labelledby': 'dialog-title', onclose: () => { dialog.remove(); onclose(); } },
    el('h2', { id: 'dialog-title' }, title), ...parts);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function signIn() {
  const wrong = el('p', { class: 'wrong', role: 'alert' });
  const input = el('input', { id: 'token', type: 'password', autocomplete: 'current-password', required: true, 'aria-describedby': 'token-hint', spellcheck: 'false' });
  const go = el('button', { class: 'main', type: 'submit' }, 'Sign in');
  const form = el('form', { novalidate: true, onsubmit: async (e) => {
    e.preventDefault();
    go.disabled = true;
    say(wrong, '');
    try {
      const token = input.value.trim();
      if (!token) throw new Error('Type the token, or paste it.');
      operator = await ask(token);
      sessionStorage.setItem(store, token);
      dialog.close();
      changed();
    } catch (error) {
      say(wrong, error.refused ? 'That is not this cluster’s token.' : error.message || 'This member does not answer.');
      input.focus();
    }
    go.disabled = false;
  } },
  el('label', { for: 'token' }, 'Operators’ token'), input,
  el('p', { id: 'token-hint', class: 'quiet' }, 'It is in the file that token_file names on each member. This tab forgets it when it is closed.'), wrong,
  el('div', { class: 'row' }, el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), go));
  const dialog = show('Sign in', [form]);
  input.focus();
}

// run sends one change and calls step with each line, as package api's Line has them. It throws the outcome if that is a refusal.
async function run(path, body, step, signal) {
  const r = await fetch(path, {
    method: 'POST', signal, body: JSON.stringify(body),
    headers: { Authorization: `Bearer ${sessionStorage.getItem(store)}`, Accept: 'application/x-ndjson', 'Content-Type': 'application/json' },
  });
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value || '')).split('\n');
    rest = done ? '' : lines.pop();
    for (const text of lines.filter(Boolean)) {
      const line = JSON.parse(text);
      if (line.done && line.error) throw Object.assign(new Error(line.error.text), { refused: true });
      if (line.done) return;
      if (line.progress) step(line.progress);
    }
    if (done) throw new Error('The connection ended before the outcome was told. What was begun goes on: watch the members.');
  }
}

// confirm asks the member what would happen, shows it, and does it when told to.
// a: {names of the members, title, button(), path, body(), options: elements}
export function confirm(a) {
  const foretold = el('p', { class: 'foretold', role: 'status' }, 'Asking the member what would happen…');
  const steps = el('ol', { class: 'progress', 'aria-live': 'polite', 'aria-label': 'Progress', hidden: true });
  const outcome = el('p', { class: 'outcome', role: 'alert' });
  const go = el('button', { class: 'main', type: 'button', disabled: true, onclick: perform }, a.button());
  const leave = el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel');
  const ending = new AbortController();
  let asked = 0;

  async function foretell() {
    const mine = ++asked;
    go.disabled = true;
    go.textContent = a.button();
    const said = [];
    try {
      await run(a.path, { ...a.body(), dry_run: true }, (p) => said.push(p.text), ending.signal);
      if (mine !== asked) return;
      const text = said.join('. ');
      say(foretold, `${sentence(text, a.names)}.`);
      foretold.dataset.tone = 'good';
      go.disabled = false;
      go.focus();
    } catch (e) {
      if (mine !== asked || ending.signal.aborted) return;
      say(foretold, `It can’t be done now: ${e.message}`);
      foretold.dataset.tone = 'bad';
    }
  }

  async function perform() {
    go.hidden = true;
    steps.hidden = false;
    if (options) options.disabled = true;
    say(leave, 'Close');
    leave.focus();
    const began = performance.now();
    try {
      await run(a.path, a.body(), (p) => add(p, began), ending.signal);
      outcome.dataset.tone = 'good';
      say(outcome, `Done in ${outage(performance.now() - began)}.`);
    } catch (e) {
      if (ending.signal.aborted) return;
      outcome.dataset.tone = 'bad';
      say(outcome, e.message);
    }
  }

  function add(p, began) {
    const last = steps.lastElementChild;
    const text = p.text + (p.bytes ? `: ${bytes(p.bytes)}${p.total ? ` of ${bytes(p.total)}` : ''}` : '');
    if (p.bytes && last && last.dataset.text === p.text) { say(last.lastChild, text); return; }
    steps.append(el('li', { 'data-text': p.text }, el('span', { class: 'ms' }, outage(performance.now() - began)), el('span', {}, text)));
  }

  const options = a.options ? el('fieldset', { onchange: foretell }, ...a.options) : null;
  const dialog = show(a.title, [options, foretold, steps, outcome, el('div', { class: 'row' }, leave, go)].filter(Boolean), () => ending.abort());
  foretell();
}

const names = (status) => status.members.map((m) => m.name);

export function switchover(status, to) {
  confirm({
    names: names(status), title: `Make ${to} the primary`, button: () => `Hand over to ${to}`, path: '/switchover',
    body: () => ({ leader: status.primary, candidate: to }),
  });
}

export function restart(status, name) {
  confirm({ names: names(status), title: `Restart PostgreSQL on ${name}`, button: () => `Restart ${name}`, path: '/restart?forward=true', body: () => ({ member: name }) });
}

export function pause(status) {
  const select = el('select', { id: 'pause-for' }, el('option', { value: '30m' }, '30 minutes'), el('option', { value: '2h', selected: true }, '2 hours'), el('option', { value: '8h' }, '8 hours'), el('option', { value: '24h' }, 'a day'));
  confirm({ names: names(status), title: 'Pause automatic failover', button: () => 'Pause failover', path: '/pause', body: () => ({ for: select.value }), options: [el('label', { for: 'pause-for' }, 'For how long'), select] });
}

export function resume(status) {
  confirm({ names: names(status), title: 'Resume automatic failover', button: () => 'Resume failover', path: '/resume', body: () => ({}) });
}
