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
 * Listen to the server's events until the returned function is called.
 * @param {string} path
 * @param {(event: any) => void} onEvent - called with the JSON of each event.
 * @returns {() => void}
 */
export function stream(path, onEvent) {
  const source = new EventSource(path);
  source.onmessage = message => onEvent(JSON.parse(message.data));
  return () => source.close();
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
