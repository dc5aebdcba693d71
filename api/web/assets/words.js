// Figures and states in words.

// bytes gives three digits at most, in multiples of 1024, as "standfast status" does.
export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1024; i++; }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

// span gives the two largest units of a time in milliseconds.
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

// outage is short where milliseconds matter.
export function outage(ms) {
  return ms < 10000 ? `${Math.round(ms)} ms` : `${Math.round(ms / 1000)} s`;
}

const pad = (n) => String(n).padStart(2, '0');

// clock is a moment in the reader's own time zone, with the date if it is not today's.
export function clock(ms, now = Date.now()) {
  const d = new Date(ms);
  const time = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  if (new Date(now).toDateString() === d.toDateString()) return time;
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${time}`;
}

// lsn makes a number of PostgreSQL's form of a position, "1/2F3A0000".
export function lsn(text) {
  const [high, low] = (text || '0/0').split('/');
  return parseInt(high, 16) * 4294967296 + parseInt(low, 16);
}

export const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;

export function list(names) {
  if (names.length < 2) return names.join('');
  return `${names.slice(0, -1).join(', ')} and ${names[names.length - 1]}`;
}

// sentence begins with a capital, unless it begins with one of the names: those are written as they are.
export function sentence(text, names) {
  const first = text.split(/[\s:,]/, 1)[0];
  return names.includes(first) ? text : text.charAt(0).toUpperCase() + text.slice(1);
}

export const hostOf = (address) => (address || '').replace(/:\d+$/, '');
