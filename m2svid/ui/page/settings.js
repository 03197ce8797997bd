// The settings of a conversion: five that are visible, the others folded, each with the help of its option.

import {api, el, nameOf} from "./common.js";

const TITLES = {
  preset: "Watch it on", layout: "Layout", refine: "Holes and repair", max_disparity: "Strength", convergence: "Screen plane",
  start: "Start", end: "End",
};
const SHORT = {
  preset: "Sets layout, codec and comfort for a device; what you choose yourself goes before it.",
  layout: "How both views lie in the picture.",
  refine: "Without a model, holes are filled from what is around them: quick, and good enough to choose the other settings.",
  max_disparity: "How far near and far are moved apart. Automatic: in every shot as much as is comfortable.",
  convergence: "What lies on the screen: at 0 the farthest point, all else comes out; at 1 the nearest, all else is behind it.",
};
const RANGES = {max_disparity: [0.005, 0.06, 0.001], convergence: [0, 1, 0.01]};

export class Settings extends EventTarget {
  #given = {}; #described; #controls = {};

  /** @returns a Promise of the settings, with the property `element`. It emits "change" with the option's name as `detail`. */
  static async load() {
    const settings = new Settings();
    settings.#described = await api("/api/settings");
    settings.#build();
    return settings;
  }

  /** The options that are not left as they are. */
  get options() {
    return {...this.#given};
  }

  get depths() {
    return this.#described.depths;
  }

  /** The value of an option, chosen here, by the preset, or by default. */
  value(name) {
    const preset = this.#described.presets[this.#given.preset] ?? {};
    return this.#given[name] ?? preset[name] ?? this.#described.options.find(option => option.name === name)?.default ?? null;
  }

  /** Choose a value; null leaves it to the preset or the default. */
  set(name, value, quiet = false) {
    if (value === null) delete this.#given[name];
    else this.#given[name] = value;
    for (const control of Object.values(this.#controls)) control.show();
    if (!quiet) this.dispatchEvent(new CustomEvent("change", {detail: name}));
  }

  #build() {
    const {options, visible} = this.#described;
    const named = Object.fromEntries(options.map(option => [option.name, option]));
    if (!this.#described.weights.length) this.#given.refine = "none";
    const first = visible.map(name => this.#field(named[name], true));
    const sections = Map.groupBy(options.filter(({name}) => !visible.includes(name)), ({section}) => section);
    const folded = [...sections].map(([section, inside]) => el("details", {class: "convert-section"},
      el("summary", {}, `${section[0].toUpperCase()}${section.slice(1)}: ${inside.length} more settings`),
      ...inside.map(option => this.#field(option, false))));
    this.element = el("form", {class: "panel convert-settings", "aria-label": "Settings", onsubmit: event => event.preventDefault()},
      el("h2", {}, "Settings"), ...first, ...folded);
    for (const control of Object.values(this.#controls)) control.show();
  }

  #field(option, first) {
    const {name, flag, help} = option;
    const control = this.#control(option);
    this.#controls[name] = control;
    control.element.id = `setting-${name}`;
    const hint = el("span", {class: "note", id: `help-${name}`}, first ? SHORT[name] : help);
    control.element.setAttribute("aria-describedby", hint.id);
    return el("div", {class: "convert-setting", title: first ? `${flag}: ${help}` : null},
      el("label", {for: control.element.id}, first ? TITLES[name] : el("code", {}, flag)), control.whole ?? control.element, hint);
  }

  #control(option) {
    if (option.name === "refine") return this.#refine();
    if (option.name in RANGES) return this.#range(option);
    return {switch: this.#switch, choice: this.#choice}[option.kind]?.call(this, option) ?? this.#text(option);
  }

  #refine() {
    const {weights} = this.#described;
    const element = el("select", {onchange: () => {
      this.set("weights", element.value || null, true);
      this.set("refine", element.value ? null : "none");
    }}, el("option", {value: ""}, "Fill holes, without a model"), ...weights.map(path => el("option", {value: path}, `Model: ${nameOf(path)}`)));
    if (weights.length) this.set("weights", weights[0], true);
    return {element, show: () => { element.value = this.#given.weights ?? ""; }};
  }

  #range({name}) {
    const [min, max, step] = RANGES[name];
    const element = el("input", {type: "range", min, max, step, oninput: () => this.set(name, element.valueAsNumber)});
    const auto = el("input", {type: "checkbox", onchange: () => this.set(name, auto.checked ? "auto" : element.valueAsNumber)});
    const told = el("output", {for: `setting-${name}`});
    const whole = el("div", {class: "convert-row"}, element, told, el("label", {}, auto, " automatic"));
    const show = () => {
      const value = this.value(name);
      auto.checked = value === "auto";
      if (value !== "auto") element.value = value;
      told.textContent = value === "auto" ? "by shot" : name === "convergence" ? value.toFixed(2) : `${(value * 100).toFixed(1)} %`;
    };
    return {element, whole, show};
  }

  #choice({name, choices, default: usual}) {
    const left = () => this.#described.presets[this.#given.preset]?.[name] ?? usual;
    const unset = el("option", {value: ""});
    const element = el("select", {onchange: () => this.set(name, choices.find(choice => String(choice) === element.value) ?? null)},
      unset, ...choices.map(choice => el("option", {value: choice}, String(choice))));
    return {element, show: () => {
      unset.textContent = left() === null ? (name === "preset" ? "anything" : "not set") : `${left()} (${this.#given.preset && left() !== usual ? "by preset" : "default"})`;
      element.value = this.#given[name] ?? "";
    }};
  }

  #switch({name}) {
    const element = el("input", {type: "checkbox", onchange: () => this.set(name, element.checked)});
    return {element, show: () => { element.checked = this.value(name); }};
  }

  #text({name, kind, choices, default: usual}) {
    const element = el("input", {type: "text", placeholder: usual ?? "", inputmode: kind === "text" ? null : "decimal", onchange: () => {
      const text = element.value.trim();
      const isWord = kind === "text" || choices.includes(text) || Number.isNaN(Number(text));
      this.set(name, text === "" ? null : isWord ? text : Number(text)); // a word instead of a number is the server's to refuse
    }});
    return {element, show: () => { element.value = this.#given[name] ?? ""; }};
  }
}
