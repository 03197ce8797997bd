// Pictures that training has logged, step by step, and films that `predict` wrote; two runs side by side.

import {api, el, fileUrl, query} from "./common.js";
import {sample} from "./runs-chart.js";

const FIRST = /strip$/; // the picture that is shown first

/** A select whose options are kept while they stay the same. */
function choice(label, onchange) {
  const select = el("select", {"aria-label": label, onchange});
  select.offer = (names, preferred = names[0]) => {
    const before = select.value;
    if (JSON.stringify(names) === JSON.stringify([...select.options].map(option => option.value))) return;
    select.replaceChildren(...names.map(name => el("option", {value: name}, name)));
    if (names.length) select.value = names.includes(before) ? before : preferred;
  };
  return select;
}

/** Name and line of a run over what is shown of it. */
const title = (run, text) => el("figcaption", {}, sample(run.slot), ` ${run.name}${text}`);

export function picturesPanel() {
  let chosen = [], steps = [];
  const tag = choice("picture", () => show(chosen));
  const slider = el("input", {type: "range", min: "0", step: "1", "aria-label": "step", oninput: () => draw()});
  const label = el("output");
  const pair = el("div", {class: "runs-pair"});
  const empty = el("p", {class: "note"}, "These runs have logged no pictures.");
  const bar = el("div", {class: "runs-bar"}, el("label", {}, "Picture ", tag), el("label", {class: "runs-wide"}, "Step ", slider), label);

  function draw() {
    const wanted = steps[Number(slider.value)];
    label.textContent = `step ${wanted}`;
    slider.setAttribute("aria-valuetext", `step ${wanted}`);
    const shown = chosen.map(run => {
      const own = (run.contents.pictures[tag.value] ?? []).filter(step => step <= wanted);
      if (!own.length) return el("figure", {}, title(run, ": no picture up to this step"));
      const step = own[own.length - 1], name = `${tag.value} of ${run.name} at step ${step}`;
      const src = query("/api/runs/picture", {run: run.name, tag: tag.value, step});
      const old = [...pair.querySelectorAll("img")].find(image => image.getAttribute("src") === src);
      return el("figure", {}, title(run, `, step ${step}`), old ?? el("a", {href: src, target: "_blank"}, el("img", {src, alt: name})));
    });
    pair.replaceChildren(...shown);
  }

  function show(runs) {
    chosen = runs;
    const names = [...new Set(runs.flatMap(run => Object.keys(run.contents.pictures)))].sort();
    empty.hidden = names.length > 0;
    bar.hidden = pair.hidden = !names.length;
    if (!names.length) return;
    tag.offer(names, names.find(name => name.startsWith("val/") && FIRST.test(name)) ?? names[0]);
    const atEnd = !steps.length || Number(slider.value) === steps.length - 1, before = steps[Number(slider.value)];
    steps = [...new Set(runs.flatMap(run => run.contents.pictures[tag.value] ?? []))].sort((a, b) => a - b);
    slider.max = String(steps.length - 1);
    const same = steps.findLastIndex(step => step <= before);
    slider.value = String(atEnd || same < 0 ? steps.length - 1 : same);
    draw();
  }

  return {title: "Pictures", element: el("div", {}, empty, bar, pair), show};
}

export function filmsPanel() {
  let chosen = [], playing = "";
  const filter = el("input", {type: "search", "aria-label": "only films whose name has", oninput: () => show(chosen)});
  const film = choice("film", () => draw());
  const pair = el("div", {class: "runs-pair"});
  const empty = el("p", {class: "note"}, "These runs have no predictions: `python -m m2svid predict --run NAME` makes them.");
  const bar = el("div", {class: "runs-bar"}, el("label", {}, "Only ", filter), el("label", {}, "Film ", film));
  const sides = []; // a player and its place for each run that is shown

  async function draw() {
    const wanted = JSON.stringify([film.value, chosen.map(run => run.name)]);
    if (wanted === playing) return;
    playing = wanted;
    const {StereoPlayer} = await import("./player.js");
    pair.replaceChildren(...chosen.map((run, index) => {
      const path = run.contents.films[film.value];
      if (!path) return el("figure", {}, title(run, " has no such film"));
      if (!sides[index]) {
        const place = el("div");
        sides[index] = {place, player: new StereoPlayer(place)};
      }
      sides[index].player.play({src: fileUrl(path), layout: "sbs"});
      return el("figure", {}, title(run, ""), sides[index].place);
    }));
  }

  function show(runs) {
    chosen = runs;
    const text = filter.value.toLowerCase();
    const all = [...new Set(runs.flatMap(run => Object.keys(run.contents.films)))].sort();
    const names = all.filter(name => name.toLowerCase().includes(text));
    empty.hidden = all.length > 0;
    bar.hidden = !all.length;
    pair.hidden = !names.length;
    film.offer(names);
    return names.length ? draw() : undefined;
  }

  return {title: "Films", element: el("div", {}, empty, bar, pair), show};
}
