// Who is connected where: this member's router in detail, the others' in sum.
import { byId, el, say } from './dom.js';
import { bytes } from './words.js';

let shown = '';

export function showRouting(status) {
  say(byId('routing-note'), `through the router of ${status.self}`);
  const r = status.router, table = [];
  for (const [name, side] of [['Writing', r.write], ['Reading', r.read]]) {
    if (!side.listen) continue;
    table.push([name, side.listen, target(side), `${side.sessions}`, `${side.waiting}`, `${side.accepted}`, `${side.cut}`, `${side.refused}`, `${bytes(side.received_bytes)} / ${bytes(side.sent_bytes)}`]);
  }
  const others = status.members.filter((m) => m.name !== status.self && m.state !== 'unreachable').map((m) => `${m.name} ${m.sessions}`);
  const text = JSON.stringify([table, others]);
  if (text === shown) return;
  shown = text;
  byId('routing').replaceChildren(
    el('table', {}, el('thead', {}, el('tr', {}, ...['', 'Port', 'Leads to', 'Open', 'Waiting', 'Accepted', 'Cut', 'Refused', 'In / out'].map((h) => (h ? el('th', { scope: 'col' }, h) : el('td', {})))),
    ), el('tbody', {}, ...table.map(([head, ...cells]) => el('tr', {}, el('th', { scope: 'row' }, head), ...cells.map((c) => el('td', {}, c)))))),
    el('p', { class: 'quiet' }, others.length ? `Sessions in the other routers: ${others.join(', ')}` : ''));
}

function target(side) {
  if (side.hold) return 'waits for a primary';
  return side.target || side.why || 'nobody';
}
