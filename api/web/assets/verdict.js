// What the page says first: one line that is understood at three in the morning, then why, then what is unusual.
import { byId, el, keep, say } from './dom.js';
import { clock, list, plural, sentence, span } from './words.js';

// judge puts a status into a level ("good", "warn", "bad") and words.
export function judge(status) {
  const warnings = [...status.warnings, ...loose(status)];
  const electing = status.phase && status.phase !== 'reigning';
  const stopped = warnings.find((w) => w.startsWith('no writes'));
  const reigns = status.primary ? `${status.primary} is the primary` : 'There is no primary';
  if (electing && !status.primary) return { level: 'bad', title: 'A primary is being chosen', warnings };
  if (electing) return { level: 'warn', title: `${status.primary} takes over`, warnings };
  if (stopped) return { level: 'bad', title: 'No writes', warnings };
  if (status.commit.spare < 0 && status.commit.durability !== 'async') return { level: 'bad', title: 'Writing waits', warnings };
  return { level: warnings.length ? 'warn' : 'good', title: reigns, warnings };
}

// loose tells of standbys that run and do not follow, or whose PostgreSQL does not run. The members themselves don't warn of a
// moment of that, which is normal after a change of primary.
function loose(status) {
  const out = [];
  for (const m of status.members) {
    if (status.primary && m.role === 'standby' && m.state === 'running' && !m.attached) out.push(`${m.name} runs but does not follow ${status.primary}; if that lasts, look at its log`);
    if (m.state === 'stopped' && !m.note) out.push(`PostgreSQL of ${m.name} does not run; if that lasts, look at its log`);
  }
  return out;
}

// showVerdict: what is no longer to be believed is told as what it was.
export function showVerdict(status, now, stale) {
  const v = judge(status), capital = (text) => sentence(text, status.members.map((m) => m.name));
  byId('verdict').dataset.level = v.level;
  say(byId('verdict-title'), stale ? `Not known now; last: ${v.title}` : v.title);
  say(byId('verdict-text'), capital(status.commit.text || '') + (status.commit.text ? '.' : ''));
  keep(byId('warnings'), v.warnings, (w) => w, (w) => el('li', {}, capital(w)), () => {});
  byId('warnings').hidden = v.warnings.length === 0;
  showFacts(facts(status, now, capital));
  return v;
}

function facts(status, now, capital) {
  const rows = [];
  const since = Date.parse(status.since || '');
  if (status.term) rows.push(['Term', `${status.term}`, since ? `for ${span(now - since)}, since ${clock(since, now)}` : '']);
  for (const a of status.address || []) rows.push([`Address of the ${a.follows || 'primary'}`, a.address.replace(/\/\d+$/, ''), a.holder ? `held by ${a.holder}` : 'held by nobody']);
  rows.push(['Failover', status.paused ? 'Paused' : 'Automatic', pause(status, now)]);
  rows.push(['Store (etcd)', status.store.ok ? 'In order' : 'Not reached', status.store.leader ? `led by ${status.store.leader}` : '']);
  if (status.reason) rows.push(['Why this term', '', capital(status.reason) + (status.by ? ` (begun by ${status.by})` : '')]);
  const clients = status.replication_clients || [];
  if (clients.length) rows.push(['Receivers', plural(clients.filter((c) => c.receiving).length, 'connected', 'connected'), list(clients.map((c) => c.name))]);
  return rows;
}

function pause(status, now) {
  if (status.request) return `${status.request.kind} asked for by ${status.request.by}`;
  if (!status.paused) return '';
  return status.paused_until ? `until ${clock(Date.parse(status.paused_until), now)}` : 'until resumed';
}

function showFacts(rows) {
  keep(byId('facts'), rows, (r) => r[0], (r) => el('div', {}, el('dt', {}, r[0]), el('dd', {}, el('b', {}), el('span', {}))), (node, r) => {
    say(node.querySelector('b'), r[1]);
    say(node.querySelector('span'), r[2]);
  });
}
