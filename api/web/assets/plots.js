// What was replicated in the last minutes: how far each standby is behind, and how much WAL the primary writes.
import { byId, el, keep, say } from './dom.js';
import { bytes, clock, list, lsn } from './words.js';

const window = 300000; // milliseconds shown
const samples = []; // {at, term, rate, lag: {name: bytes}}, the oldest first

// note keeps one status; at is in milliseconds. It returns the WAL written since the one before it, in bytes per second.
export function note(status, at) {
  const p = status.members.find((m) => m.role === 'primary' && m.state === 'running');
  const lag = {};
  for (const m of status.members) if (m.role === 'standby' && m.lag_bytes != null && m.state !== 'unreachable') lag[m.name] = m.lag_bytes;
  const last = samples[samples.length - 1], head = p && p.lsn ? lsn(p.lsn) : 0;
  if (last && at <= last.at) return last.rate || 0;
  if (last && at - last.at < 400 && last.term === status.term) return last.rate || 0; // sent at once for something else
  const known = last && last.head && head && last.term === status.term && at - last.at < 5000;
  const rate = known ? Math.max(0, (head - last.head) * 1000 / (at - last.at)) : null;
  samples.push({ at, term: status.term, head, rate, lag });
  while (samples[0].at < at - window) samples.shift();
  return rate || 0;
}

export function showPlots(status, now) {
  const names = status.members.filter((m) => m.kind === 'data').map((m) => m.name);
  const behind = names.filter((n) => samples.some((s) => n in s.lag)).map((n) => ({ name: n, tone: names.indexOf(n) % 4, value: (s) => s.lag[n] }));
  const wal = [{ name: 'WAL', tone: 4, value: (s) => s.rate }];
  keep(byId('plots'), [
    { key: 'lag', title: 'Behind the primary', unit: bytes, lines: behind },
    { key: 'wal', title: 'WAL written', unit: (n) => `${bytes(n)}/s`, lines: wal },
  ], (p) => p.key, make, (node, p) => draw(node, p, now));
}

function make(p) {
  return el('figure', { class: 'plot' }, el('figcaption', {}, el('span', { class: 'title' }, p.title), el('span', { class: 'legend' })), el('svg', { role: 'img' }));
}

// ceiling is a round number of bytes above n: the plot's upper edge.
function ceiling(n) {
  let top = 16384;
  while (top < n) top *= 4;
  return n < top / 2 && top > 16384 ? top / 2 : top;
}

function draw(node, p, now) {
  const svg = node.querySelector('svg'), w = svg.clientWidth || 400, h = 132, foot = 18;
  const x = (at) => w * (1 - (now - at) / window);
  const most = Math.max(0, ...samples.flatMap((s) => p.lines.map((l) => l.value(s) || 0)));
  const top = ceiling(most), y = (v) => (h - foot) - (h - foot - 14) * (v / top);
  const latest = p.lines.map((l) => ({ name: l.name, tone: l.tone, v: lastOf(l) }));
  keep(node.querySelector('.legend'), latest, (l) => l.name, (l) => el('span', { class: `tone${l.tone}` }), (s, l) => say(s, `${p.key === 'wal' ? '' : `${l.name} `}${l.v == null ? '–' : p.unit(l.v)}`));
  svg.setAttribute('viewBox', `0 0 ${w} ${h}`);
  svg.setAttribute('aria-label', `${p.title}: now ${list(latest.map((l) => `${l.name} ${l.v == null ? 'not known' : p.unit(l.v)}`)) || 'nobody'}; at most ${p.unit(most)}`);
  const parts = [el('line', { class: 'axis', x1: 0, x2: w, y1: h - foot, y2: h - foot }), el('line', { class: 'grid', x1: 0, x2: w, y1: y(top), y2: y(top) }),
    el('text', { class: 'tick', x: 0, y: y(top) - 4 }, p.unit(top)),
    el('text', { class: 'tick', x: 0, y: h - 4 }, clock(Date.now() - window)), el('text', { class: 'tick end', x: w, y: h - 4 }, 'now')];
  for (let i = 1; i < samples.length; i++) {
    if (samples[i].term === samples[i - 1].term) continue;
    const at = x(samples[i].at);
    parts.push(el('line', { class: 'term', x1: at, x2: at, y1: y(top), y2: h - foot }), el('text', { class: `tick${at > w - 60 ? ' end' : ''}`, x: at + (at > w - 60 ? -4 : 4), y: y(top) + 12 }, `term ${samples[i].term}`));
  }
  for (const l of p.lines) for (const run of runs(l)) {
    const points = run.map((s) => `${x(s.at).toFixed(1)},${y(l.value(s)).toFixed(1)}`).join(' ');
    parts.push(el('polyline', { class: `line tone${l.tone}`, points }));
  }
  svg.replaceChildren(...parts);
}

function lastOf(line) {
  const s = samples[samples.length - 1];
  return s ? line.value(s) : null;
}

// runs splits a line where nothing was known, so that a gap is seen as one.
function runs(line) {
  const out = [];
  let run = [];
  let before = null;
  for (const s of samples) {
    const there = line.value(s) != null;
    if (!there || (before && s.at - before.at > 5000)) {
      if (run.length) out.push(run);
      run = [];
    }
    if (there) run.push(s);
    before = s;
  }
  if (run.length) out.push(run);
  return out;
}
