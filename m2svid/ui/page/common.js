// What all parts of the page use.

/**
 * Ask the server.
 * @param {string} path - such as "/api/films?folder=..."
 * @param {{method?: string, body?: any}} options - a body is sent as JSON, or as it is where it is a File.
 * @returns the JSON of the answer.
 * @throws Error with the server's sentence.
 */
export async function api(path, {method, body} = {}) {
  const options = {method: method ?? (body === undefined ? "GET" : "POST")};
  if (body !== undefined) {
    options.body = body instanceof Blob ? body : JSON.stringify(body);
    options.headers = {"Content-Type": body instanceof Blob ? "application/octet-stream" : "application/json"};
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer: is it still running?");
  }
  const found = await answer.json().catch(() => ({error: `The server answered with status ${answer.status}.`}));
  if (!answer.ok) throw new Error(found.error);
  return found;
}

/**
 * Listen to the server's events while the page is seen: a browser opens six connections to a server, and pages
 * in other tabs need them, too.
 * @param {string} path
 * @param {(event: any) => void} onEvent - called with the JSON of each event.
 */
export function stream(path, onEvent) {
  let source = null;
  const follow = () => {
    source?.close();
    source = document.hidden ? null : new EventSource(path);
    if (source) source.onmessage = message => onEvent(JSON.parse(message.data));
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}

/** The address of a film or picture on the server's disk. */
export const fileUrl = path => `/api/file?path=${encodeURIComponent(path)}`;

/** A path with a query, of which values that are null or undefined are left out. */
export function query(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return `${path}?${new URLSearchParams(given)}`;
}

/**
 * Make an element.
 * @param {string} tag
 * @param {Object} attributes - functions become listeners ("onclick"), true and false switch an attribute on
 *   and off, "class" is the class; everything else is set as an attribute.
 * @param {...(Node|string|null)} children - null is left out.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter(child => child !== null));
  return node;
}

/** The name of a file, without its folders. */
export const nameOf = path => path.split(/[/\\]/).pop();

/** Seconds as 1:02:03, or 2:03.5 where tenths matter. */
export function clock(seconds, tenths = false) {
  const whole = Math.floor(seconds + (tenths ? 1e-6 : 0.5));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const text = parts.map((part, place) => place ? String(part).padStart(2, "0") : part).join(":").replace(/^0:0?/, "");
  return tenths ? `${text}.${Math.floor((seconds - whole) * 10 + 1e-6)}` : text;
}

/** Bytes in GB or MB. */
export const size = bytes => bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;

/** A function that calls another one once, some ms after it was called last. */
export function settled(function_, pause) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => function_(...given), pause);
  };
}

/**
 * Fill an element as far as it is scrolled: what is not seen yet is made later.
 * @param {Element} list
 * @param {() => Promise<Node[]>} more - gives the next nodes; none = there are no more.
 */
export function fill(list, more) {
  const end = el("li", {class: "end", "aria-hidden": "true"});
  const watch = new IntersectionObserver(async ([seen]) => {
    if (!seen.isIntersecting) return;
    watch.disconnect();
    const nodes = await more();
    if (end.parentNode !== list) return;
    end.before(...nodes);
    if (nodes.length) watch.observe(end);
    else end.remove();
  });
  list.replaceChildren(end);
  watch.observe(end);
}
