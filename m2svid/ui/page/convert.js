// The part "Convert": choose a film, look at a moment of it, choose the settings, put it into the queue.

import {api, clock, el, fileUrl, nameOf, settled} from "./common.js";
import {finished} from "./jobs.js";
import {picker} from "./picker.js";
import {StereoPlayer} from "./player.js";
import {Settings} from "./settings.js";
import {Strip} from "./strip.js";

const PLACED = ["max_disparity", "convergence"]; // act at once, in the player
const SOON = 5; // s; previews by a model that takes longer are made again only when they are asked for

/** Build this part in its element. */
export async function mount(element) {
  const settings = await Settings.load();
  const part = new Converter(settings);
  element.append(await picker(path => part.open(path)), part.element);
  const chosen = element.querySelector(".convert-picker");
  part.addEventListener("open", () => { chosen.open = false; });
  for (const name of ["dragover", "drop"]) {
    window.addEventListener(name, event => {
      if (element.hidden || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      if (name === "drop") chosen.upload([...event.dataTransfer.files]);
    });
  }
}

class Converter extends EventTarget {
  #settings; #strip = new Strip(); #player; #film = null; #shown = null; #seconds = 0; #busy = false; #again = false;
  #title = el("h2"); #facts = el("p", {class: "note"}); #told = el("p", {role: "status", class: "note convert-told"});
  #depth = el("select", {id: "convert-depth", onchange: () => this.#settings.set("depth", this.#depth.value)});
  #command = el("code"); #problem = el("p", {role: "alert", class: "problem"}); #output = el("input", {type: "text", id: "convert-output", onchange: () => this.#tell()});
  #part = el("span", {class: "note"});
  #soon = settled(() => this.#look(), 350);
  #tell = settled(() => this.#showCommand(), 150);

  constructor(settings) {
    super();
    this.#settings = settings;
    settings.addEventListener("change", ({detail}) => this.#changed(detail));
    this.#strip.addEventListener("moment", () => this.#soon());
    this.#strip.addEventListener("measure", () => this.#measure());
    this.element = el("div", {hidden: true}, ...this.#parts());
  }

  /** Open a film or picture. */
  async open(path) {
    try {
      this.#film = await api(`/api/film?path=${encodeURIComponent(path)}`);
    } catch (error) {
      this.element.hidden = false;
      this.#problem.textContent = error.message;
      return;
    }
    const {width, height, rate, seconds, picture, hdr, depths} = this.#film;
    this.#title.textContent = nameOf(path);
    this.#facts.textContent = `${width}×${height}${picture ? "" : `, ${clock(seconds)}, ${rate.toFixed(3).replace(/\.?0+$/, "")} frames/s`}${hdr ? `, HDR (${hdr})` : ""}`;
    this.#depth.replaceChildren(...[...depths, ...this.#settings.depths].map(name => el("option", {value: name}, depths.includes(name) ? `File: ${nameOf(name)}` : name)));
    for (const name of ["start", "end"]) this.#settings.set(name, null, true);
    this.#settings.set("depth", depths[0] ?? null, true);
    this.#output.value = "";
    this.element.hidden = false;
    this.#shown = null;
    this.#problem.textContent = "";
    this.dispatchEvent(new Event("open"));
    this.#player ??= this.#makePlayer();
    this.#player.clear();
    this.#mark();
    this.#tell();
    await this.#strip.show(this.#film, this.#settings.options);
    await this.#look();
  }

  #parts() {
    const button = (text, onclick, attributes = {}) => el("button", {type: "button", onclick, ...attributes}, text);
    const copy = button("Copy", () => this.#copy(copy));
    this.stage = el("div", {class: "convert-player"});
    const look = el("div", {class: "panel convert-look"}, this.#title, this.#facts,
      el("div", {class: "convert-row"}, el("label", {for: "convert-depth"}, "Depth"), this.#depth),
      this.#strip.element,
      el("div", {class: "convert-row"}, button("Start here", () => this.#cut("start")), button("End here", () => this.#cut("end")),
        button("Whole film", () => this.#cut(null)), this.#part),
      el("div", {class: "convert-row"}, button("Preview", () => this.#look(true)), button("Preview 2 seconds", () => this.#play()), this.#told),
      this.stage);
    const go = el("div", {class: "panel convert-go"}, el("h2", {}, "Convert"),
      el("label", {for: "convert-output"}, "File"), this.#output, this.#problem,
      el("div", {class: "convert-row"}, button("Add to queue", () => this.#add(), {class: "main"}), el("a", {href: "#queue"}, "Queue")),
      el("h3", {}, "The same in a terminal"), el("pre", {class: "scroll", tabindex: 0, "aria-label": "Command line"}, this.#command), copy);
    return [el("div", {class: "convert-columns"}, look, el("div", {}, this.#settings.element, go))];
  }

  #makePlayer() {
    const player = new StereoPlayer(this.stage);
    player.addEventListener("adjust", () => {
      if (!player.placement) return;
      this.#settings.set("max_disparity", round(player.placement.maxDisparity, 4), true);
      this.#settings.set("convergence", round(Math.min(Math.max(player.placement.convergence, 0), 1), 3), true);
      this.#changed("max_disparity", true);
    });
    return player;
  }

  #changed(name, byPlayer = false) {
    if (!this.#film) return;
    this.#tell();
    if (!PLACED.includes(name)) {
      this.#soon();
      if (name === "depth" || name === "depth_kind") this.#strip.again(this.#settings.options);
      else this.#strip.judge(this.#settings.options);
      return;
    }
    this.#strip.judge(this.#settings.options);
    if (!byPlayer) this.#place();
    this.#soon();
  }

  /** Move the views of the player as the settings say, without the server. */
  #place() {
    const [strength, plane] = PLACED.map(each => this.#settings.value(each));
    if (!this.#shown || strength === "auto" || plane === "auto") return;
    const {max_disparity: made, convergence} = this.#shown;
    this.#player.strength = strength / made;
    this.#player.convergence = (plane - convergence) * strength;
  }

  /** Make a preview: quickly at first, then with the model if there is one. */
  async #look(asked = false) {
    if (!this.#film) return;
    if (this.#busy) {
      this.#again = true;
      return;
    }
    this.#busy = true;
    try {
      const options = this.#settings.options;
      await this.#show({...options, refine: "none", weights: null}, "Looking …");
      if (options.refine !== "none" && !this.#again && (asked || this.#seconds < SOON)) await this.#show(options, "The model is at work …");
    } catch (error) {
      this.#say(error.message, true);
    }
    this.#busy = false;
    if (this.#again) {
      this.#again = false;
      this.#look();
    }
  }

  async #show(options, text) {
    this.#say(text);
    const at = this.#strip.at;
    const made = await api("/api/preview", {body: {film: this.#film.path, at: `${at.toFixed(3)}s`, options}});
    const {pictures, max_disparity: maxDisparity, convergence, spread, seconds} = made;
    if (options.refine !== "none") this.#seconds = seconds;
    const urls = Object.fromEntries(Object.entries(pictures).map(([name, path]) => [name, fileUrl(path)]));
    await this.#player.show(urls, {maxDisparity, convergence});
    this.#shown = made;
    this.#strip.known(at, spread);
    this.#say(`Made in ${seconds.toFixed(1)} s${options.refine === "none" ? ", without a model" : ""}: strength ${(100 * maxDisparity).toFixed(1)} % of the width, screen at ${convergence.toFixed(2)}.`);
  }

  async #play() {
    try {
      const at = `${this.#strip.at.toFixed(2)}s`;
      const {number} = await api("/api/jobs", {body: {kind: "preview", film: this.#film.path, at, options: this.#settings.options}});
      this.#say("The two seconds wait for their turn …");
      const [file] = await finished(number, ({stage, done, total}) => this.#say(stage ? `${stage}: ${done} of ${total || "?"} frames` : "The two seconds are begun …"));
      await this.#player.play({src: fileUrl(file), layout: "sbs"});
      this.#shown = null;
      this.#say("Two seconds from here, as the film will be.");
    } catch (error) {
      this.#say(error.message, true);
    }
  }

  async #measure() {
    try {
      const {number} = await api("/api/jobs", {body: {kind: "comfort", film: this.#film.path, options: this.#settings.options}});
      this.#say("The comfort is measured, beside the queue …");
      await finished(number, ({stage, done, total}) => this.#say(`Comfort: ${stage} ${done} of ${total || "?"} frames`));
      this.#say("The comfort of all shots is measured.");
      this.#strip.again(this.#settings.options);
    } catch (error) {
      this.#say(error.message, true);
    }
  }

  #cut(name) {
    if (name === null) for (const each of ["start", "end"]) this.#settings.set(each, null, true);
    else this.#settings.set(name, `${this.#strip.at.toFixed(3)}s`, true);
    this.#mark();
    this.#tell();
  }

  #mark() {
    const {start, end} = this.#settings.options;
    this.#part.textContent = start || end ? `From ${start ?? "the beginning"} to ${end ?? "the end"}` : "The whole film is converted.";
  }

  #order() {
    return {kind: "convert", film: this.#film.path, options: this.#settings.options, output: this.#output.value.trim() || null};
  }

  async #showCommand() {
    try {
      const {command, output} = await api("/api/command", {body: this.#order()});
      this.#command.textContent = command;
      this.#output.placeholder = output;
      this.#problem.textContent = "";
    } catch (error) {
      this.#command.textContent = "";
      this.#problem.textContent = error.message;
    }
  }

  async #add() {
    try {
      const {title} = await api("/api/jobs", {body: this.#order()});
      this.#problem.textContent = "";
      this.#say(`${title} is in the queue.`);
    } catch (error) {
      this.#problem.textContent = error.message;
    }
  }

  async #copy(button) {
    const text = this.#command.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } catch { // only pages of this machine, or by HTTPS, may write there: it is selected instead
      getSelection().selectAllChildren(this.#command);
    }
  }

  #say(text, problem = false) {
    this.#told.textContent = text;
    this.#told.classList.toggle("problem", problem);
  }
}

const round = (value, places) => Number(value.toFixed(places));
