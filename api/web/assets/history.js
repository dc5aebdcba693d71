// Every change of primary: why, how long nobody could write, and where the time went.
import { byId, el, keep, say } from './dom.js';
import { clock, outage } from './words.js';

export function showHistory(entries) {
  const newest = entries.slice(-20).reverse();
  keep(byId('history'), newest, (e) => e.term, make, (node, e) => refresh(node, e, e === newest[0]));
  say(byId('history-more'), entries.length > newest.length ? 'Earlier ones: standfast history --last 0' : entries.length ? '' : 'No primary was ever chosen yet.');
}

function make(e) {
  return el('li', {}, el('details', {}, el('summary', {}, el('time', {}), el('span', { class: 'move' }), el('span', { class: 'kind' }), el('span', { class: 'out' }), el('span', { class: 'why' })), el('div', { class: 'steps' })));
}

const title = (e) => (e.old && e.old !== e.primary ? `${e.old} → ${e.primary || '…'}` : e.primary || '…');

function refresh(node, e, first) {
  const mark = JSON.stringify(e);
  if (node.dataset.mark === mark) return;
  if (node.dataset.mark === undefined && first) node.querySelector('details').open = true;
  node.dataset.mark = mark;
  const at = node.querySelector('time');
  at.dateTime = new Date(e.at).toISOString();
  say(at, clock(e.at));
  say(node.querySelector('.move'), title(e));
  say(node.querySelector('.kind'), e.kind || '');
  node.querySelector('.kind').dataset.kind = e.kind || '';
  say(node.querySelector('.out'), e.outage_ms && e.kind !== 'bootstrap' ? `${outage(e.outage_ms)} without writes` : '');
  say(node.querySelector('.why'), e.reason || '');
  node.querySelector('.steps').replaceChildren(...detail(e));
}

function detail(e) {
  const steps = [...(e.steps || [])].sort((a, b) => a.at - b.at);
  const parts = [];
  if (e.lost) parts.push(el('p', { class: 'lost' }, `Possibly lost: ${e.lost}`));
  if (e.discarded) parts.push(el('p', {}, `Set aside: ${e.discarded}`));
  if (steps.length > 1) parts.push(bar(steps));
  parts.push(el('ol', { class: 'steplist' }, ...steps.map((s, i) => el('li', {},
    el('span', { class: `no part${i % 6}`, 'aria-hidden': 'true' }, `${i + 1}`), el('span', { class: 'ms' }, i ? `+${outage(s.at - steps[0].at)}` : clock(s.at)), el('span', {}, el('b', {}, s.by), ` ${s.name}`)))));
  parts.push(el('p', { class: 'quiet' }, [`term ${e.term}`, `timeline ${e.timeline}`, e.fork ? `fork at ${e.fork}` : '', e.by ? `begun by ${e.by}` : ''].filter(Boolean).join(' · ')));
  return parts;
}

// bar shows what each step took, in proportion. The list below it says the same in words.
function bar(steps) {
  const total = Math.max(1, steps[steps.length - 1].at - steps[0].at);
  const node = el('div', { class: 'bar', 'aria-hidden': 'true' });
  for (let i = 1; i < steps.length; i++) {
    const took = steps[i].at - steps[i - 1].at;
    if (took <= 0) continue;
    const part = el('span', { class: `part${i % 6}`, title: `${steps[i].by}: ${steps[i].name}, ${outage(took)}` });
    part.style.flexGrow = String(took);
    if (took / total > 0.16) part.append(outage(took));
    node.append(part);
  }
  return node;
}
