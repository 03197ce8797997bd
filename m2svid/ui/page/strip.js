// The strip of a film: moments of all of it, and the shots around the one that is looked at.

import {api, clock, el, fill, query, settled} from "./common.js";

const MOMENTS = 24;
const SHORT = 45; // s; the shots of a shorter film are all found at once
const AT_ONCE = 60; // shots

export class Strip extends EventTarget {
  #film = null; #at = 0; #options = {}; #shots = []; #whole = false; #problem = ""; #items = []; #asked = 0;
  #spreads = new Map(); #slider; #time; #moments; #list; #told; #measure;
  #look = settled(() => this.#find(), 250);

  /** It emits "moment" when the viewer chooses another one, and "measure" when the comfort is to be measured. */
  constructor() {
    super();
    this.#slider = el("input", {type: "range", min: 0, step: 0.01, "aria-label": "Moment", oninput: () => this.#choose(this.#slider.valueAsNumber)});
    this.#time = el("output", {class: "convert-time"});
    this.#moments = el("ol", {class: "convert-moments", "aria-label": "Moments of the film"});
    this.#list = el("ol", {class: "convert-shots", "aria-label": "Shots"});
    this.#told = el("p", {class: "note", role: "status"});
    this.#measure = el("button", {type: "button", onclick: () => this.dispatchEvent(new Event("measure"))}, "Measure comfort");
    this.element = el("div", {class: "convert-strip"}, this.#moments,
      el("div", {class: "convert-row"}, this.#slider, this.#time), this.#list,
      el("div", {class: "convert-row"}, this.#told, this.#measure));
  }

  /** Show a film, whose options say where its depth comes from. */
  async show(film, options) {
    [this.#film, this.#options, this.#shots] = [film, options, []];
    this.#spreads.clear();
    this.#list.replaceChildren();
    this.#slider.max = Math.max(0, film.seconds - 1 / film.rate);
    const times = film.seconds > SHORT ? Array.from({length: MOMENTS}, (_, i) => film.seconds * (i + 0.5) / MOMENTS) : [];
    this.#moments.replaceChildren(...times.map(time => el("li", {}, this.#button(time, clock(time), null))));
    this.#move(film.seconds > SHORT ? times[2] : film.seconds / 3);
    await this.#find();
  }

  /** The moment, s. */
  get at() {
    return this.#at;
  }

  /** Look again, because depth or comfort may be known now. */
  again(options) {
    this.#options = options;
    this.#look();
  }

  /** Tell how far the depth at the moment reaches, as a preview has found it. */
  known(at, spread) {
    const shot = this.#shots.find(({begin, end}) => begin <= at && at < end);
    if (!shot || shot.spread) return;
    this.#spreads.set(shot.begin, spread);
    this.judge(this.#options);
  }

  /** Color the shots by how comfortable they are with these options. */
  async judge(options) {
    this.#options = options;
    const known = this.#shots.map((shot, place) => [place, shot.spread ?? this.#spreads.get(shot.begin)]).filter(([, spread]) => spread);
    if (!known.length) return this.#tell();
    const spreads = known.map(([, spread]) => spread);
    const verdicts = await api("/api/verdicts", {body: {spreads, options, width: this.#film.width}}).catch(() => []);
    for (const [i, {verdict, text, near, far}] of verdicts.entries()) {
      const shot = this.#shots[known[i][0]];
      if (!shot) return;
      Object.assign(shot, {verdict, text: `${text}: ${near.toFixed(1)} to ${far > 0 ? "+" : ""}${far.toFixed(1)} % of the width`});
      this.#paint(known[i][0]);
    }
    this.#tell();
  }

  #choose(at) {
    this.#move(at);
    if (!this.#whole && !this.#shots.some(({begin, end}) => begin <= at && at < end)) this.#look();
    this.dispatchEvent(new Event("moment"));
  }

  #move(at) {
    this.#at = at;
    this.#slider.value = at;
    this.#time.textContent = clock(at, true);
    this.#slider.setAttribute("aria-valuetext", clock(at, true));
    this.#items.forEach((item, place) => {
      const {begin, end} = this.#shots[place];
      item.firstChild.setAttribute("aria-pressed", begin <= at && at < end);
    });
  }

  async #find() {
    const own = ++this.#asked;
    this.#told.textContent = "Looking for shots …";
    const found = await api("/api/shots", {body: {film: this.#film.path, at: this.#at, options: this.#options}})
      .catch(error => ({shots: [], whole: false, problem: error.message}));
    if (own !== this.#asked) return;
    [this.#shots, this.#whole, this.#problem] = [found.shots, found.whole, found.problem ?? ""];
    this.#items = [];
    fill(this.#list, async () => this.#more());
    await this.judge(this.#options);
  }

  #more() {
    const first = this.#items.length;
    const next = this.#shots.slice(first, first + AT_ONCE).map((shot, i) => {
      const item = el("li", {}, this.#button((shot.begin + shot.end) / 2, clock(shot.begin, true), 1));
      this.#items.push(item);
      this.#paint(first + i);
      return item;
    });
    this.#move(this.#at);
    return next;
  }

  #button(at, text, exact) {
    const src = query("/api/thumbnail", {path: this.#film.path, at: at.toFixed(2), width: 160, exact});
    return el("button", {type: "button", "aria-label": `Go to ${text}`, onclick: () => this.#choose(at)},
      el("img", {src, loading: "lazy", alt: ""}),
      el("span", {class: "convert-clock"}, text));
  }

  #paint(place) {
    const [item, shot] = [this.#items[place], this.#shots[place]];
    if (!item || !shot.verdict) return;
    item.className = `comfort-${shot.verdict}`;
    item.title = shot.text;
    item.firstChild.setAttribute("aria-label", `Shot at ${clock(shot.begin, true)}, ${shot.text}`);
  }

  #tell() {
    const known = this.#shots.filter(({verdict}) => verdict).length;
    const where = this.#whole ? "" : this.#film.seconds > SHORT ? ` around ${clock(this.#at)}` : "";
    const count = `${this.#shots.length} shot${this.#shots.length === 1 ? "" : "s"}${where}`;
    this.#told.textContent = this.#problem || (known ? `${count}; green is comfortable, yellow for short excursions only, red too strong` : `${count}; how comfortable they are is not known yet`);
    this.#told.classList.toggle("problem", Boolean(this.#problem));
    this.#measure.hidden = this.#whole || this.#film.picture;
  }
}
