// A card for each member, in an order that never changes, and the streams between them.
import { byId, el, keep, say } from './dom.js';
import { bytes, hostOf, span } from './words.js';

const words = {
  running: 'Running', starting: 'Starting', stopping: 'Stopping', stopped: 'Not running', restarting: 'Restarting', initialising: 'Being founded',
  cloning: 'Being cloned', rewinding: 'Being rewound', failed: 'Failed', stalled: 'Stalled', unreachable: 'Not heard', watching: 'Watching',
};
const tones = { running: 'good', watching: 'good', stopped: 'bad', failed: 'bad', stalled: 'bad', unreachable: 'bad' };

function tone(m, status) {
  if (m.state === 'running' && m.role === 'standby' && status.primary && !m.attached) return 'warn';
  return tones[m.state] || 'warn';
}

// sentence says what the member does, in a few words.
function sentence(m, status) {
  if (m.note) return m.note;
  if (m.state === 'unreachable') return m.last_heard_ms == null ? 'never heard' : `last heard ${span(m.last_heard_ms)} ago`;
  if (m.role === 'primary') return m.writable ? 'takes writes' : 'not open to clients';
  if (m.role === 'witness') return 'votes, holds no data';
  if (!status.primary) return m.state === 'running' ? 'waits for a primary' : '';
  return m.attached ? `follows ${status.primary}` : m.state === 'running' ? 'does not follow' : '';
}

function commits(m) {
  if (m.role === 'primary') return 'takes them';
  if (m.role === 'witness') return 'none';
  return m.in_rule ? 'counts' : 'does not count';
}

function rows(m) {
  const out = [];
  if (m.role === 'standby') out.push(['Behind', m.lag_bytes == null ? '–' : bytes(m.lag_bytes) + (m.lag_seconds ? `, ${m.lag_seconds.toFixed(1)} s` : '')]);
  if (m.role !== 'witness') {
    out.push(['Position', m.lsn ? `${m.lsn}` : '–'], ['Timeline', m.timeline ? `${m.timeline}` : '–'], ['Commits', commits(m)]);
  }
  out.push(['Sessions', `${m.sessions}`]);
  return out;
}

function flags(m, status) {
  const out = [];
  for (const a of status.address || []) if (a.holder === m.name) out.push(a.address.replace(/\/\d+$/, ''));
  if (m.pending_restart) out.push('restart pending');
  if (m.draining) out.push('draining');
  if (m.leaving) out.push('being removed');
  if (m.role === 'standby' && m.priority === 0) out.push('never primary');
  return out;
}

function makeCard(m) {
  return el('li', { class: 'card', id: `member-${m.name}` },
    el('div', { class: 'head' }, el('h3', {}, m.name), el('span', { class: 'role' })),
    el('p', { class: 'host' }),
    el('p', { class: 'state' }, el('span', { class: 'lamp', 'aria-hidden': 'true' }), el('b', {}), el('span', { class: 'what' })),
    el('dl', { class: 'numbers' }),
    el('ul', { class: 'flags', 'aria-label': 'Remarks' }),
    el('div', { class: 'acts' }));
}

export function showMembers(status, buttons) {
  keep(byId('cards'), status.members, (m) => m.name, makeCard, (card, m) => {
    const quiet = m.state === 'unreachable';
    card.dataset.role = m.role;
    card.dataset.tone = tone(m, status);
    say(card.querySelector('.role'), m.role);
    say(card.querySelector('.host'), [hostOf(m.postgres || m.api || m.beat), m.location].filter(Boolean).join(' · ') + (m.name === status.self ? ' · shows this page' : ''));
    say(card.querySelector('.state b'), words[m.state] || m.state);
    const what = sentence(m, status);
    say(card.querySelector('.what'), what && `, ${what}`);
    keep(card.querySelector('.numbers'), rows(m), (r) => r[0], (r) => el('div', {}, el('dt', {}, r[0]), el('dd', {})), (row, r) => say(row.lastChild, quiet && r[0] !== 'Commits' ? '–' : r[1]));
    const f = flags(m, status);
    keep(card.querySelector('.flags'), f, (x) => x, (x) => el('li', {}, x), () => {});
    card.querySelector('.flags').hidden = f.length === 0;
    keep(card.querySelector('.acts'), buttons(m), (b) => b.name, (b) => el('button', { type: 'button', onclick: () => b.act() }, b.name), (node, b) => {
      node.setAttribute('aria-label', b.label);
      node.disabled = !!b.no;
      node.title = b.no || '';
    });
  });
}

// drawWires draws each standby's stream from the primary: in lanes above the cards where they stand side by side, in a gutter beside
// them where they stand below each other. rate is bytes of WAL per second.
export function drawWires(status, rate) {
  const svg = byId('wires'), box = byId('topology').getBoundingClientRect();
  const spots = new Map([...byId('cards').children].map((c) => [c.dataset.key, c.getBoundingClientRect()]));
  const from = spots.get(status.primary);
  const tops = [...spots.values()].map((r) => r.top);
  const beside = tops.every((t) => Math.abs(t - tops[0]) < 2) && tops.length > 1;
  byId('topology').dataset.layout = beside ? 'beside' : 'below';
  svg.setAttribute('viewBox', `0 0 ${box.width} ${box.height}`);
  const streams = from ? status.members.filter((m) => m.role === 'standby') : [];
  const order = [...spots.keys()];
  keep(svg, streams, (m) => m.name, () => el('g', {}, el('path', { class: 'bed' }), el('path', { class: 'run' }), el('path', { class: 'tip' }), el('text')), (g, m) => {
    const to = spots.get(m.name);
    if (!to) return;
    const far = Math.abs(order.indexOf(m.name) - order.indexOf(status.primary));
    const path = beside ? above(from, to, box, far) : gutter(from, to, box, far);
    const on = m.attached && m.state !== 'unreachable';
    g.setAttribute('class', on ? (rate > 0 ? 'on' : 'on idle') : 'off');
    g.children[0].setAttribute('d', path.d);
    g.children[1].setAttribute('d', path.d);
    g.children[1].style.setProperty('animation-duration', `${pace(rate)}s`);
    g.children[2].setAttribute('d', path.tip);
    g.children[3].setAttribute('x', path.x);
    g.children[3].setAttribute('y', path.y);
    say(g.children[3], beside ? (on ? `${bytes(rate)}/s` : 'no stream') : '');
  });
}

// pace: ten times the WAL is twice as fast, so that both a trickle and a flood can be seen.
const pace = (rate) => Math.max(0.25, 2.4 / 2 ** Math.max(0, Math.log10(Math.max(rate, 1)) - 2));

function above(from, to, box, far) {
  const right = to.left > from.left;
  const x1 = from.left - box.left + from.width / 2 + (right ? 14 * far : -14 * far), x2 = to.left - box.left + to.width / 2;
  const low = Math.min(from.top, to.top) - box.top, y = low - 4 - 18 * far, r = right ? 10 : -10;
  return {
    d: `M${x1} ${low}V${y + 10}Q${x1} ${y} ${x1 + r} ${y}H${x2 - r}Q${x2} ${y} ${x2} ${y + 10}V${low - 5}`,
    tip: `M${x2 - 5} ${low - 8}L${x2} ${low - 1}L${x2 + 5} ${low - 8}z`, x: x2 - (right ? 16 : -16), y: y - 6,
  };
}

function gutter(from, to, box, far) {
  const edge = Math.min(from.left, to.left) - box.left, x = edge - 6 - 6 * far;
  const y1 = from.top - box.top + 30 + 5 * far, y2 = to.top - box.top + 30, r = y2 > y1 ? 8 : -8;
  return {
    d: `M${edge} ${y1}H${x + 8}Q${x} ${y1} ${x} ${y1 + r}V${y2 - r}Q${x} ${y2} ${x + 8} ${y2}H${edge - 5}`,
    tip: `M${edge - 8} ${y2 - 5}L${edge - 1} ${y2}L${edge - 8} ${y2 + 5}z`, x: 0, y: 0,
  };
}
