// Metrics of every video, options, and checkpoints of the chosen runs.

import {api, el, query} from "./common.js";
import {sample} from "./runs-chart.js";
import {sortedTable} from "./runs-table.js";

const NUMBERS = {inf: Infinity, "-inf": -Infinity, nan: NaN};
const number = value => typeof value === "string" ? NUMBERS[value] : value;
const text = (value, digits) => value === null ? "–" : Number.isFinite(number(value)) ? value.toFixed(digits) : value;
const stem = file => file.replace(/\.json$/, "");
const problem = error => el("p", {class: "problem", role: "alert"}, error.message);

/** Columns of the table: for each metric the value of each run, and the difference. */
function columnsOf(found, every) {
  const columns = [{head: "video", value: row => row.key}];
  found.metrics.forEach((metric, index) => {
    if (!every && !(metric.compared && !/_(inside|outside)$/.test(metric.name))) return;
    found.names.forEach((name, side) => columns.push({
      head: found.names.length > 1 ? `${metric.heading} ${"AB"[side]}` : metric.heading,
      title: name,
      descending: true,
      value: row => number(row.entries[index].values[side]),
      cell: row => text(row.entries[index].values[side], metric.digits),
    }));
    if (found.names.length > 1) columns.push({
      head: "B − A",
      title: `${metric.heading}: ${found.names[1]} minus ${found.names[0]}`,
      descending: true,
      value: row => difference(row.entries[index].values),
      cell: row => gain(row.entries[index], metric.digits),
    });
  });
  return columns;
}

const difference = ([a, b]) => a === null || b === null ? null : number(b) - number(a);

function gain({values, gain: sign}, digits) {
  const value = difference(values);
  const shown = value === null || Number.isNaN(value) ? "–" : `${value > 0 ? "+" : ""}${value.toFixed(digits)}`;
  if (!sign) return shown;
  const words = sign > 0 ? "better" : "worse";
  return el("span", {class: `runs-${words}`, title: `B is ${words}`}, `${shown} ${sign > 0 ? "▲" : "▼"}`);
}

export function resultsPanel() {
  let chosen = [], shown = "";
  const selects = el("div", {class: "runs-bar"});
  const every = el("input", {type: "checkbox", onchange: () => { shown = ""; load(); }});
  const place = el("div");
  const picked = {}; // run -> file, where it isn't the newest

  async function load() {
    const files = chosen.map(run => [run, picked[run.name] ?? run.contents.results[0]?.file]).filter(([, file]) => file);
    const words = new URLSearchParams(files.flatMap(([run, file]) => [["run", run.name], ["file", file]]));
    const wanted = `${words} ${JSON.stringify(files.map(([run, file]) => run.contents.results.find(each => each.file === file)))}`;
    if (wanted === shown) return;
    shown = wanted;
    if (!files.length) {
      place.replaceChildren(el("p", {class: "note"}, "These runs have no results yet: evaluate a checkpoint."));
      return;
    }
    try {
      const found = await api(`/api/runs/results?${words}`);
      if (wanted !== shown) return;
      const count = `mean of ${found.videos.length} videos`;
      const made = sortedTable("metrics of every video", columnsOf(found, every.checked), {foot: {key: count, entries: found.means}});
      made.fill(found.videos);
      place.replaceChildren(...found.notes.map(note => el("p", {class: "problem"}, note)), made.element);
    } catch (error) {
      place.replaceChildren(problem(error));
    }
  }

  function show(runs) {
    chosen = runs;
    selects.replaceChildren(...runs.map((run, side) => {
      const files = run.contents.results;
      const select = el("select", {"aria-label": `results of ${run.name}`, onchange: () => { picked[run.name] = select.value; load(); }},
        ...files.map(each => el("option", {value: each.file}, stem(each.file))));
      if (picked[run.name]) select.value = picked[run.name];
      return el("label", {}, sample(run.slot), ` ${"AB"[side]}: ${run.name} `, files.length ? select : "has no results");
    }), el("label", {}, every, " All regions and facts"));
    return load();
  }

  return {title: "Videos", element: el("div", {}, selects, place), show};
}

export function optionsPanel() {
  let shown = "";
  const element = el("div");

  async function show(runs) {
    const words = new URLSearchParams(runs.map(run => ["run", run.name])).toString();
    if (words === shown) return;
    shown = words;
    try {
      const {options, changed} = await api(`/api/runs/configuration?${words}`);
      if (words !== shown) return;
      const parts = [];
      if (runs.length > 1) {
        const table = sortedTable("options that differ", [
          {head: "option", value: row => row[0]},
          ...runs.map((run, side) => ({head: `${"AB"[side]}: ${run.name}`, value: row => row[side + 1], cell: row => el("code", {}, row[side + 1])})),
        ]);
        table.fill(changed);
        parts.push(changed.length ? table.element : el("p", {}, "Both runs have the same options."));
      }
      runs.forEach((run, side) => parts.push(el("details", {open: runs.length === 1},
        el("summary", {}, `All options of ${run.name}`), el("pre", {class: "runs-yaml", tabindex: "0", "aria-label": `options of ${run.name}`}, options[side]))));
      element.replaceChildren(...parts);
    } catch (error) {
      element.replaceChildren(problem(error));
    }
  }

  return {title: "Options", element, show};
}

/** A button that shows the command it would start, and starts it when it is confirmed. */
export function starter(label, path, started) {
  const box = el("div", {class: "runs-command", hidden: true});
  const close = () => { box.hidden = true; button.focus(); };
  const button = el("button", {type: "button", onclick: async () => {
    try {
      const {command} = await api(path);
      const start = el("button", {type: "button", class: "main", onclick: async () => {
        start.disabled = true;
        try {
          const {job} = await api(path, {method: "POST"});
          box.replaceChildren(el("p", {role: "status"}, "It is in the ", el("a", {href: "#queue"}, "queue"), "."));
          started?.(job, box);
        } catch (error) {
          box.replaceChildren(problem(error));
        }
      }}, "Start");
      box.replaceChildren(el("p", {}, "This command will run: "), el("code", {}, command), el("p", {}, start, " ", el("button", {type: "button", onclick: close}, "Cancel")));
      box.hidden = false;
      start.focus();
    } catch (error) {
      box.replaceChildren(problem(error));
      box.hidden = false;
    }
  }}, label);
  return el("div", {class: "runs-starter"}, button, box);
}

export function checkpointsPanel() {
  const element = el("div");
  let shown = "";

  function show(runs) {
    const wanted = JSON.stringify(runs.map(run => [run.name, run.contents.checkpoints]));
    if (wanted === shown) return; // a command may be open
    shown = wanted;
    element.replaceChildren(...runs.map(run => el("section", {}, el("h2", {}, sample(run.slot), ` ${run.name}`),
      ...run.contents.checkpoints.map(({name, bytes, changed, last}) => el("div", {class: "runs-checkpoint"},
        el("b", {}, name), el("span", {class: "note"}, `${(bytes / 1e6).toFixed(0)} MB, ${new Date(changed * 1000).toLocaleString()}${last ? ", the last" : ""}`),
        ...["validate", "test"].map(verb => starter(verb === "test" ? "Test" : "Evaluate this checkpoint",
          query("/api/runs/evaluate", {run: run.name, checkpoint: name, verb}))))),
      run.contents.checkpoints.length ? null : el("p", {class: "note"}, "There is no checkpoint yet."))));
  }

  return {title: "Checkpoints", element, show};
}
