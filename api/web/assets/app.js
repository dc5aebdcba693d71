// The page: what the stream brings is shown, and beside it whether it is still true.
import * as actions from './actions.js';
import { byId, el, keep, say } from './dom.js';
import { showHistory } from './history.js';
import { drawWires, showMembers } from './members.js';
import { note, showPlots } from './plots.js';
import { showRouting } from './routing.js';
import { listen } from './stream.js';
import { showVerdict } from './verdict.js';
import { span } from './words.js';

let status = null; // the newest
let why = ''; // the member's own reason not to be believed
let got = 0; // when it came, by performance.now
let skew = 0; // the member's clock minus this browser's, in milliseconds
let rate = 0; // WAL, bytes per second
let version = ''; // of the member's program when the page was opened

const stream = listen({
  onStatus(data) {
    why = data.stale;
    got = performance.now();
    if (data.status) {
      status = data.status;
      version ||= status.version;
      skew = Date.parse(status.observed) - Date.now();
      if (!why) rate = note(status, got);
    }
    render();
  },
  onHistory: showHistory,
  addresses: others,
});

// others are where another member's page is, in the scheme of this one: a browser lets a page with TLS fetch nothing without.
function others() {
  if (!status) return [];
  const secure = location.protocol === 'https:';
  return status.members.filter((m) => (secure ? m.admin : m.api)).map((m) => ({ name: m.name, origin: `${location.protocol}//${secure ? m.admin : m.api}` })).filter((o) => o.origin !== location.origin);
}

const serverNow = () => Date.now() + skew;

function render() {
  document.title = status ? `${title()} · ${status.cluster}` : 'Standfast';
  if (status) {
    say(byId('cluster'), status.cluster);
    showVerdict(status, serverNow(), unbelieved());
    showMembers(status, buttons);
    drawWires(status, rate);
    showPlots(status, got);
    showRouting(status);
    showFoot();
  }
  showLife();
  showAccount();
}

function title() {
  if (unbelieved()) return 'Stale';
  return status.primary && status.phase === 'reigning' ? `${status.primary} is primary` : 'No primary';
}

const unbelieved = () => stream.stale() || why !== '';

// showLife says whether what is shown is still true, each second, by this browser's own clock.
function showLife() {
  const stale = unbelieved(), via = stream.elsewhere();
  document.body.dataset.stale = stale ? 'yes' : 'no';
  const live = byId('live'), age = stream.age();
  live.dataset.tone = stale ? 'bad' : via ? 'warn' : 'good';
  let text = 'Connecting…';
  if (age !== null && stale) text = `Stale: last heard ${span(age)} ago`;
  else if (age !== null) text = status ? `Live, as ${status.self} sees it` : 'Connected';
  else if (stale) text = `No answer for ${span(stream.waited())}`;
  say(byId('live-text'), text);
  document.title = status ? `${title()} · ${status.cluster}` : 'Standfast';
  showAway(stale, via);
}

// showAway stands above everything while the member of this page does not answer, or does not know.
function showAway(stale, via) {
  const box = byId('away'), parts = [];
  const self = status ? status.self : location.host;
  if (stale && why && !stream.stale()) parts.push(el('p', {}, el('b', {}, 'Not to be believed: '), `${why}.`));
  else if (stale) parts.push(el('p', {}, el('b', {}, `${via ? via.name : self} does not answer. `), status ? 'What follows is the last that was heard. ' : '', 'Trying again, and the other members too.'));
  else if (via) parts.push(el('p', {}, el('b', {}, 'The member of this page does not answer. '), `${via.name} tells what follows; changes are made on its own page.`));
  else if (version && status && status.version !== version) parts.push(el('p', {}, `Standfast here is ${status.version} now, this page is of ${version}. `, el('a', { href: '/ui' }, 'Load it anew')));
  const links = stale || via ? others() : [];
  if (links.length) parts.push(el('p', {}, 'Open the page of ', ...links.flatMap((o, i) => [i ? ', ' : '', el('a', { href: `${o.origin}/ui` }, o.name)])));
  const text = parts.map((p) => p.textContent).join('');
  if (box.dataset.text !== text) {
    box.dataset.text = text;
    box.replaceChildren(...parts);
  }
  box.hidden = parts.length === 0;
}

// can tells whether changes may be asked for here and now.
const can = () => actions.signedIn() && status && !unbelieved() && !stream.elsewhere();

function buttons(m) {
  if (!can() || m.role === 'witness') return [];
  const away = m.state === 'unreachable' ? `${m.name} is not heard` : '';
  const list = [];
  if (m.role === 'standby' && status.primary) {
    const no = away || (m.priority === 0 ? `${m.name} is never to be primary` : !m.attached ? `${m.name} does not follow` : '');
    list.push({ name: 'Make primary…', label: `Make primary: ${m.name}`, no, act: () => actions.switchover(status, m.name) });
  }
  list.push({ name: 'Restart…', label: `Restart PostgreSQL on ${m.name}`, no: away, act: () => actions.restart(status, m.name) });
  return list;
}

function showAccount() {
  const items = [];
  const me = status && status.members.find((m) => m.name === status.self);
  const port = me && me.admin ? me.admin.split(':').pop() : '';
  if (location.protocol === 'https:') {
    if (actions.signedIn()) items.push({ key: 'who', text: `Signed in as ${actions.who()}` }, { key: 'out', text: 'Sign out', act: actions.signOut });
    else items.push({ key: 'in', text: 'Sign in…', act: actions.signIn });
  } else if (port && !stream.elsewhere()) items.push({ key: 'link', text: 'Sign in to make changes', href: `https://${location.hostname}:${port}/ui` });
  keep(byId('account'), items, (i) => i.key, (i) => (i.href ? el('a', {}, i.text) : i.act ? el('button', { type: 'button', onclick: i.act }, i.text) : el('span', {}, i.text)), (node, i) => {
    if (i.href && node.getAttribute('href') !== i.href) node.setAttribute('href', i.href);
    say(node, i.text);
  });
  const acts = can() ? [status.paused ? { key: 'resume', text: 'Resume failover…', act: actions.resume } : { key: 'pause', text: 'Pause failover…', act: actions.pause }] : [];
  const box = document.querySelector('#verdict > .acts');
  keep(box, acts, (a) => a.key, (a) => el('button', { type: 'button', onclick: () => a.act(status) }, a.text), () => {});
}

function showFoot() {
  const links = others().filter((o) => o.name !== status.self);
  const mark = JSON.stringify([links, status.version]);
  if (byId('foot').dataset.mark === mark) return;
  byId('foot').dataset.mark = mark;
  byId('foot').replaceChildren(
    el('p', {}, `standfast ${status.version}`, ' · ', el('a', { href: '/status' }, 'status as JSON'), ' · ', el('a', { href: '/metrics' }, 'metrics')),
    el('p', {}, links.length ? 'The same as seen by ' : '', ...links.flatMap((o, i) => [i ? ', ' : '', el('a', { href: `${o.origin}/ui` }, o.name)])));
}

setInterval(() => { showLife(); if (status) takeBack(); }, 1000);

// takeBack takes the first line and the buttons away from a page that has gone stale.
let believed = true;
function takeBack() {
  if (believed === !unbelieved()) return;
  believed = !unbelieved();
  showVerdict(status, serverNow(), !believed);
  showMembers(status, buttons);
  showAccount();
}

new ResizeObserver(() => { if (status) { drawWires(status, rate); showPlots(status, got); } }).observe(byId('topology'));
actions.begin(render);
