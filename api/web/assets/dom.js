// Elements made of values. Nothing here parses text as HTML, and the page's policy forbids it.

const svgNames = new Set(['svg', 'path', 'line', 'polyline', 'text', 'g', 'rect', 'circle', 'title']);

// el makes an element: attributes by name, "on…" for listeners, false and null left out; children are nodes or text.
export function el(name, attributes = {}, ...children) {
  const node = svgNames.has(name) ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, '');
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((c) => c != null && c !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

// say changes a text only where it differs, so that a screen reader's live region stays quiet and a selection stays.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// keep reconciles a container with items: nodes are found again by key, made once, and refreshed in place, so that the
// keyboard's focus and what is unfolded stay where they are.
export function keep(container, items, keyOf, make, refresh) {
  const old = new Map([...container.children].map((c) => [c.dataset.key, c]));
  let at = container.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = old.get(key);
    old.delete(key);
    if (!node) {
      node = make(item);
      node.dataset.key = key;
    }
    if (node === at) at = at.nextElementSibling;
    else container.insertBefore(node, at);
    refresh(node, item);
  }
  for (const gone of old.values()) gone.remove();
}
