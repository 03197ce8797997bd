// The curves of the chosen runs, a chart for each tag, in groups.

import {api, el} from "./common.js";
import {Chart} from "./runs-chart.js";

const SHOWN = 24; // charts of a group at once
const OPEN = ["train", "val"]; // groups that are open from the start

/** The model's own metrics before those of baselines, and numbers of videos last. */
const rank = tag => (tag.includes("/num_videos") ? 100 : 0) + tag.split("/").length;
const group = tag => tag.includes("/") ? tag.slice(0, tag.indexOf("/")) : "others";

/** Make the panel; `show(chosen)` takes [{name, slot, contents}]. */
export function curvesPanel() {
  const open = new Set(OPEN);
  const most = new Map(); // group -> charts that are shown
  let chosen = [], asked = 0;
  const change = () => load();
  const filter = el("input", {type: "search", "aria-label": "only curves whose name has", placeholder: "loss", oninput: () => build()});
  const smooth = el("input", {type: "range", min: "0", max: "0.99", step: "0.01", value: "0", "aria-label": "smoothing", oninput: () => {
    weight.textContent = smooth.value;
    clearTimeout(smooth.timer);
    smooth.timer = setTimeout(change, 120);
  }});
  const weight = el("output", {}, "0");
  const log = el("input", {type: "checkbox", onchange: change});
  const axis = el("select", {"aria-label": "horizontal axis", onchange: change}, el("option", {value: "steps"}, "steps"), el("option", {value: "hours"}, "hours"));
  const state = el("p", {class: "note", role: "status"});
  const groups = el("div");
  const element = el("div", {}, el("div", {class: "runs-bar"},
    el("label", {}, "Only ", filter), el("label", {}, "Smoothing ", smooth, weight),
    el("label", {}, log, " Logarithmic"), el("label", {}, "Over ", axis)), state, groups);
  const charts = new Map(); // tag -> Chart

  function build() {
    const text = filter.value.toLowerCase();
    const tags = [...new Set(chosen.flatMap(run => run.contents.curves))].filter(tag => tag.toLowerCase().includes(text))
      .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
    const names = [...new Set(tags.map(group))].sort((a, b) => (b === "train") - (a === "train") || a.localeCompare(b));
    groups.replaceChildren(...names.map(name => {
      const own = tags.filter(tag => group(tag) === name), count = most.get(name) ?? SHOWN;
      const place = el("div", {class: "runs-charts"});
      const more = own.length > count ? el("button", {type: "button", onclick: () => { most.set(name, count + SHOWN); build(); }},
        `Show more (${own.length - count} are left)`) : null;
      const details = el("details", {open: open.has(name), ontoggle: () => {
        if (details.open === open.has(name)) return;
        if (details.open) open.add(name); else open.delete(name);
        build();
      }}, el("summary", {}, `${name} (${own.length})`), place, more);
      for (const tag of open.has(name) ? own.slice(0, count) : []) {
        if (!charts.has(tag)) charts.set(tag, new Chart(tag));
        place.append(charts.get(tag).element);
      }
      return details;
    }));
    if (!tags.length) groups.replaceChildren(el("p", {class: "note"}, text ? "No curve has this in its name." : "These runs have no curves yet."));
    return load();
  }

  async function load() {
    const ask = ++asked, look = {log: log.checked, axis: axis.value};
    const tags = [...charts.keys()].filter(tag => charts.get(tag).element.isConnected);
    if (!tags.length) return;
    try {
      let read = 1;
      for (let first = 0; first < tags.length; first += SHOWN) {
        const some = tags.slice(first, first + SHOWN);
        const words = new URLSearchParams([...chosen.map(run => ["run", run.name]), ...some.map(tag => ["tag", tag]), ["smooth", smooth.value]]);
        const found = await api(`/api/runs/curves?${words}`);
        if (ask !== asked) return; // another request is under way
        read = Math.min(read, found.read);
        for (const tag of some)
          charts.get(tag).show(found.curves.filter(curve => curve.tag === tag)
            .map(curve => ({...curve, slot: chosen.findIndex(run => run.name === curve.run)})), look);
      }
      state.textContent = read < 1 ? `Reading the event files: ${Math.round(read * 100)} %` : "";
      if (read < 1) await load();
    } catch (error) {
      state.textContent = error.message;
    }
  }

  let built = "";
  return {title: "Curves", element, show: runs => {
    const tags = JSON.stringify(runs.map(run => [run.name, run.contents.curves]));
    chosen = runs;
    if (tags === built) return load(); // rebuilding would take the focus away
    built = tags;
    return build();
  }};
}
