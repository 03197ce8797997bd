// The parts of the page: each is loaded and built when it is first shown.

import {el} from "./common.js";
import {countOpen, watch} from "./jobs.js";

const PARTS = ["convert", "queue", "runs"];
const mounted = new Set();

async function show() {
  const [wanted] = location.hash.slice(1).split("/");
  if (wanted === "main") return;
  const part = PARTS.includes(wanted) ? wanted : PARTS[0];
  for (const name of PARTS) {
    document.getElementById(`part-${name}`).hidden = name !== part;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === part) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${part[0].toUpperCase()}${part.slice(1)} · M2SVid`;
  if (mounted.has(part)) return;
  mounted.add(part);
  const element = document.getElementById(`part-${part}`);
  try {
    await (await import(`./${part}.js`)).mount(element);
  } catch (error) {
    element.replaceChildren(el("p", {class: "problem", role: "alert"}, String(error.message ?? error)));
    throw error;
  }
}

window.addEventListener("hashchange", show);
show().then(() => watch(() => { document.getElementById("waiting").textContent = countOpen() ? `(${countOpen()})` : ""; }));
