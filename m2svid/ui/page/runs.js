// Runs: their list, and curves, pictures, films, metrics, options and checkpoints of those that are chosen.

import {api, el, query} from "./common.js";
import {sample} from "./runs-chart.js";
import {curvesPanel} from "./runs-curves.js";
import {filmsPanel, picturesPanel} from "./runs-pictures.js";
import {checkpointsPanel, optionsPanel, resultsPanel, starter} from "./runs-results.js";
import {sortedTable} from "./runs-table.js";

const MOST = 4; // runs that are chosen at once; pictures, films and tables show the first two
const EVERY = 5000; // ms between two looks at active runs

const STATES = {
  active: "active", finished: "finished", idle: "idle", refused: "not readable",
};
const MEANING = {
  active: "something was written in the last ten minutes",
  finished: "the last step is reached",
  idle: "nothing was written in the last ten minutes",
};

/** How long ago a time in seconds was. */
function ago(seconds) {
  const minutes = (Date.now() / 1000 - seconds) / 60;
  const [size, unit] = minutes < 90 ? [1, "min"] : minutes < 2880 ? [60, "h"] : [1440, "days"];
  return `${Math.max(0, Math.round(minutes / size))} ${unit} ago`;
}

export async function mount(element) {
  let runs = [], folder = "", chosen = [], asked = 0;
  const search = el("input", {type: "search", "aria-label": "find runs", placeholder: "name", oninput: () => fill()});
  const metric = el("select", {"aria-label": "metric in the list", onchange: () => fill()});
  const state = el("p", {class: "note", role: "status"});
  const trouble = el("div");
  const step = run => run.step === null ? "–" : run.max_steps ? `${run.step} of ${run.max_steps}` : String(run.step);
  const mean = run => run.metrics[metric.value] ?? null;
  const table = sortedTable("runs", [
    {head: "run", value: run => run.name, cell: run => name(run)},
    {head: "state", value: run => run.state, cell: run => el("span", {class: `runs-${run.state}`, title: MEANING[run.state] ?? null}, STATES[run.state])},
    {head: "step", descending: true, value: run => run.step, cell: step},
    {head: "metric", descending: true, value: run => typeof mean(run) === "string" ? Number(mean(run)) : mean(run), cell: run => typeof mean(run) === "number" ? mean(run).toFixed(3) : mean(run) ?? "–"},
    {head: "changed", descending: true, value: run => run.changed ?? null, cell: run => run.changed ? el("time", {title: new Date(run.changed * 1000).toLocaleString()}, ago(run.changed)) : "–"},
  ], {order: {column: 4, sign: -1}});
  const parts = [el("label", {}, "Find ", search), el("label", {}, "Metric ", metric), table.element];
  for (const part of parts) part.hidden = true; // until there is a run
  const panels = [curvesPanel(), picturesPanel(), filmsPanel(), resultsPanel(), optionsPanel(), checkpointsPanel()];
  const tabs = tabList(panels, () => detail());
  const heading = el("span", {class: "note"});
  const report = el("div", {class: "runs-starter"});
  const details = el("section", {class: "panel", "aria-label": "chosen runs", hidden: true}, el("div", {class: "runs-bar"}, heading, report), tabs.bar, ...panels.map(panel => panel.element));

  function name(run) {
    const slot = chosen.indexOf(run.name);
    const box = el("input", {type: "checkbox", "aria-label": `choose ${run.name}`, checked: slot >= 0,
      disabled: run.state === "refused" || (slot < 0 && chosen.length >= MOST), onchange: () => choose(run.name)});
    return el("label", {title: run.notes.join("\n") || null}, box, " ", slot < 0 ? "" : sample(slot), ` ${run.name}`,
      run.notes.length ? el("span", {class: "problem", "aria-label": run.notes.join("; ")}, " !") : "");
  }

  function choose(wanted) {
    chosen = chosen.includes(wanted) ? chosen.filter(each => each !== wanted) : [...chosen, wanted];
    fill();
    const words = new URLSearchParams(chosen.map(each => ["run", each]));
    report.replaceChildren(starter(chosen.length > 1 ? "Report of these runs" : "Report of this run", `/api/runs/report?${words}`,
      (job, box) => box.append(el("p", {}, "When it is finished: ", el("a", {href: `/api/runs/report/page?${words}`, target: "_blank"}, "open the report")))));
    return detail();
  }

  function fill() {
    const text = search.value.toLowerCase();
    const found = runs.filter(run => run.name.toLowerCase().includes(text));
    table.fill(found);
    for (const part of parts) part.hidden = !runs.length;
    if (!runs.length) {
      state.replaceChildren(`There are no runs in ${folder} yet. `, el("code", {}, "python -m m2svid fit --config configs/quickstart.yaml"),
        " begins one; ", el("code", {}, "python -m m2svid ui FOLDER --runs RUNS"), " shows those of another folder.");
      return;
    }
    const active = runs.filter(run => run.state === "active").length;
    state.textContent = `${found.length} of ${runs.length} runs${active ? `, ${active} active` : ""}` +
      (chosen.length >= MOST ? `; no more than ${MOST} can be chosen` : "");
  }

  async function detail() {
    const ask = ++asked;
    details.hidden = !chosen.length;
    if (!chosen.length) return;
    try {
      const contents = await Promise.all(chosen.map(each => api(query("/api/runs/contents", {run: each}))));
      if (ask !== asked) return;
      const seen = chosen.map((each, slot) => ({name: each, slot, contents: contents[slot]}));
      const few = tabs.shown !== panels[0] && seen.length > 2;
      heading.textContent = few ? `${seen[0].name} and ${seen[1].name}, the first two that were chosen` : chosen.join(", ");
      trouble.replaceChildren(...contents.flatMap(each => each.notes).map(note => el("p", {class: "problem"}, note)));
      await tabs.shown.show(few ? seen.slice(0, 2) : seen);
      if (contents.some(each => each.read < 1) && ask === asked) await detail();
    } catch (error) {
      trouble.replaceChildren(el("p", {class: "problem", role: "alert"}, error.message));
    }
  }

  async function refresh() {
    try {
      const {runs: found, folder: place} = await api("/api/runs");
      const changed = JSON.stringify(found) !== JSON.stringify(runs);
      [runs, folder] = [found, place];
      const names = [...new Set(runs.flatMap(run => Object.keys(run.metrics)))].sort();
      if (JSON.stringify(names) !== JSON.stringify([...metric.options].map(option => option.value))) {
        const before = metric.value;
        metric.replaceChildren(...names.map(each => el("option", {value: each}, each)));
        metric.value = names.includes(before) ? before : names.find(each => each.endsWith("/psnr")) ?? names[0];
      }
      if (changed || !runs.length) fill();
      if (chosen.some(each => runs.find(run => run.name === each)?.state === "active")) await detail();
    } catch (error) {
      state.textContent = error.message;
    }
  }

  element.append(el("section", {class: "panel", "aria-label": "list of runs"}, el("div", {class: "runs-bar"},
    parts[0], parts[1], el("button", {type: "button", onclick: refresh}, "Refresh")), state, parts[2]), trouble, details);
  await refresh();
  const live = async () => {
    const visible = !document.hidden && element.offsetParent !== null;
    if (visible && runs.some(run => run.state === "active")) await refresh();
    setTimeout(live, EVERY);
  };
  setTimeout(live, EVERY);
}

/** A list of tabs over panels: arrow keys change between them. */
function tabList(panels, changed) {
  const list = {shown: panels[0]};
  const tabs = panels.map((panel, index) => {
    panel.element.id = `runs-panel-${index}`;
    panel.element.setAttribute("role", "tabpanel");
    panel.element.setAttribute("aria-labelledby", `runs-tab-${index}`);
    return el("button", {type: "button", role: "tab", id: `runs-tab-${index}`, "aria-controls": panel.element.id, onclick: () => choose(index)}, panel.title);
  });
  const mark = () => panels.forEach((panel, index) => {
    panel.element.hidden = panel !== list.shown;
    tabs[index].setAttribute("aria-selected", String(panel === list.shown));
    tabs[index].tabIndex = panel === list.shown ? 0 : -1;
  });
  const choose = index => {
    list.shown = panels[index];
    mark();
    changed();
  };
  list.bar = el("div", {class: "runs-tabs", role: "tablist", "aria-label": "what of the runs", onkeydown: event => {
    const move = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!move) return;
    const index = (panels.indexOf(list.shown) + move + panels.length) % panels.length;
    choose(index);
    tabs[index].focus();
  }}, ...tabs);
  mark();
  return list;
}
