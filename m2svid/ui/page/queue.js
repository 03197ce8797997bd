// The part "Queue": what is done, how far it is, and the finished films.

import {api, clock, el, fileUrl, nameOf, size} from "./common.js";
import {watch} from "./jobs.js";
import {StereoPlayer} from "./player.js";


/** Build this part in its element. */
export async function mount(element) {
  const cards = new Map();
  const list = el("ol", {class: "queue-jobs", "aria-label": "Jobs"});
  const empty = el("p", {class: "note"}, "Nothing is in the queue. ", el("a", {href: "#convert"}, "Convert a film"));
  element.append(el("h2", {}, "Queue"), el("p", {class: "note"}, "One film is converted at a time; previews and measurements are made beside it. The queue goes on when this page is closed, and is continued when the server is started again."), empty, list);
  watch((changed, removed) => {
    if (removed !== null) {
      cards.get(removed)?.element.remove();
      cards.delete(removed);
    }
    for (const job of changed) {
      if (!cards.has(job.number)) {
        cards.set(job.number, new Card(job.number));
        list.prepend(cards.get(job.number).element);
      }
      cards.get(job.number).show(job);
    }
    empty.hidden = cards.size > 0;
  });
}

class Card {
  #job = null;
  #state = el("span", {class: "queue-state"}); #title = el("h3"); #told = el("p", {class: "note"});
  #bar = el("progress", {max: 1}); #buttons = {}; #details = el("div"); #problem = el("p", {class: "problem", role: "alert"});

  constructor(number) {
    const button = (name, text, onclick) => {
      this.#buttons[name] = el("button", {type: "button", onclick}, text);
      return this.#buttons[name];
    };
    const change = name => () => this.#ask(`/api/jobs/${number}/${name}`, {method: "POST"});
    this.element = el("li", {class: "panel queue-job"},
      el("div", {class: "convert-row"}, this.#title, this.#state), this.#bar, this.#told, this.#problem,
      el("div", {class: "convert-row"}, button("pause", "Pause", change("pause")), button("continue", "Continue", change("continue")),
        button("play", "Play", () => this.#play()), button("log", "Log", () => this.#log()), button("remove", "Remove", change("remove"))),
      this.#details);
    this.number = number;
  }

  show(job) {
    const was = this.#job?.state;
    this.#job = job;
    this.element.dataset.state = job.state;
    this.#title.textContent = job.title;
    this.#state.textContent = job.state;
    this.#state.className = `queue-state queue-${job.state}`;
    this.#bar.hidden = job.state !== "running";
    if (job.total) this.#bar.value = job.done / job.total;
    else this.#bar.removeAttribute("value");
    this.#bar.setAttribute("aria-label", `Progress of ${job.title}`);
    this.#told.textContent = told(job);
    if (was === job.state) return;
    const names = {
      pause: ["waiting", "running"].includes(job.state), continue: ["paused", "failed"].includes(job.state),
      play: job.state === "done" && job.kind !== "comfort" && job.files.length > 0, log: job.state !== "waiting", remove: job.state !== "running",
    };
    for (const [name, shown] of Object.entries(names)) {
      this.#buttons[name].hidden = !shown;
      this.#buttons[name].setAttribute("aria-label", `${this.#buttons[name].textContent}: ${job.title}`);
    }
    this.#buttons.continue.textContent = job.state === "failed" ? "Try again" : "Continue";
  }

  async #ask(path, options) {
    try {
      this.#problem.textContent = "";
      return await api(path, options);
    } catch (error) {
      this.#problem.textContent = error.message;
      return null;
    }
  }

  async #play() {
    const [path, other] = this.#job.files;
    const film = await this.#ask(`/api/film?path=${encodeURIComponent(path)}`);
    if (!film) return;
    if (film.unplayable) {
      this.#problem.textContent = `${nameOf(path)}: ${film.unplayable}`;
      return;
    }
    const stage = el("div");
    this.#details.replaceChildren(stage);
    const player = new StereoPlayer(stage);
    if (film.picture) await player.show({left: fileUrl(path), right: fileUrl(other ?? path)});
    else await player.play({src: fileUrl(other ?? path), left: other ? fileUrl(path) : null, layout: this.#job.layout});
  }

  async #log() {
    const found = await this.#ask(`/api/jobs/${this.number}/log`);
    if (!found) return;
    const text = [`python -m m2svid ${found.words.join(" ")}`, "", ...found.lines].join("\n");
    this.#details.replaceChildren(el("pre", {class: "queue-log", tabindex: 0, "aria-label": "Log"}, text));
  }
}

function told(job) {
  if (job.state !== "running") return [job.text, ...(job.state === "done" ? job.files : [])].filter(Boolean).join(" ");
  if (!job.stage) return `Begins … ${size(job.memory)} of memory`;
  const left = job.left ? `, ${clock(job.left)} left` : "";
  return `${job.stage}: ${job.done} of ${job.total || "?"} frames, ${job.speed.toFixed(1)} frames/s${left}, ${size(job.memory)} of memory`;
}
