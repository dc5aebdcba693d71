// The connection: events from this page's own member, or, while that does not answer, from another one. Whether what is shown
// is still true is told by this browser's clock alone.

const patience = 3000; // milliseconds without an event: stale
const longest = 8000; // between two attempts

// listen calls back with every event. addresses() returns the other members' origins, [{name, origin}].
export function listen({ onStatus, onHistory, addresses }) {
  const own = { name: null, origin: location.origin };
  const state = { at: 0, source: null, from: own, since: performance.now(), tries: 0, timer: 0 };

  function open(target) {
    close();
    const source = new EventSource(`${target.origin}/ui/stream`);
    const begun = performance.now();
    state.source = source;
    state.opened = begun;
    state.trying = target;
    const heard = (deliver) => (e) => {
      if (state.source !== source) return;
      state.at = performance.now();
      state.from = target;
      state.tries = 0;
      deliver(JSON.parse(e.data), target === own);
    };
    source.addEventListener('status', heard(onStatus));
    source.addEventListener('history', heard(onHistory));
    source.addEventListener('error', () => { if (state.source === source) again(); });
  }

  function close() {
    clearTimeout(state.timer);
    if (state.source) state.source.close();
    state.source = null;
  }

  // again waits a little longer each time. Every second attempt is another member's turn.
  function again() {
    close();
    const others = addresses();
    const n = state.tries++;
    const next = n > 0 && n % 2 === 1 && others.length ? others[((n - 1) / 2) % others.length] : own;
    state.timer = setTimeout(() => open(next), Math.min(longest, 250 * 2 ** Math.min(n, 5)) * (0.75 + Math.random() / 2));
  }

  // look sees a connection that is open and silent, and a member of one's own that is back.
  function look() {
    const now = performance.now();
    if (state.source && now - Math.max(state.at, state.opened) > patience) again();
    if (state.from !== own && state.source && now - (state.asked || 0) > 5000) {
      state.asked = now;
      fetch('/ui/icon.svg', { cache: 'no-store', signal: AbortSignal.timeout(2000) }).then((r) => { if (r.ok) open(own); }, () => {});
    }
  }

  setInterval(look, 500);
  document.addEventListener('visibilitychange', () => { if (!document.hidden && !state.source) { state.tries = 0; open(own); } });
  open(own);
  return {
    // age is how long ago the last event came, in milliseconds; null before the first.
    age: () => (state.at ? performance.now() - state.at : null),
    waited: () => performance.now() - state.since,
    stale: () => performance.now() - (state.at || state.since) > patience,
    elsewhere: () => (state.from === own ? null : state.from),
    trying: () => (state.trying && state.trying !== own ? state.trying.name : null),
  };
}
