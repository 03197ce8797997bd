// What surrounds the picture of the player: choice of the mode, controls, messages, help.

import {el} from "./common.js";
import {controls} from "./film.js";
import {ANAGLYPHS} from "./renderer.js";

/** Name of a mode, and what the picture is then. */
export const MODES = {
  slider: ["Slider", "Left view beside the right view, with a line between them that can be moved"],
  left: ["Left", "Left view"],
  right: ["Right", "Right view"],
  sbs: ["Side by side", "Both views side by side"],
  cross: ["Cross-eyed", "Both views side by side, the right one first, for eyes that cross"],
  anaglyph: ["Anaglyph", "Both views in one picture, for red-cyan glasses"],
  wiggle: ["Wiggle", "Both views in turn"],
  difference: ["Difference", "Difference between the views"],
  depth: ["Depth", "Depth; near is white"],
  holes: ["Holes", "Warped right view; holes are magenta"],
};

const HELP = [
  ["Arrow keys", "move the line between the views; in other modes, they go 5 seconds back or forward"],
  ["Space", "plays and pauses; shows the other view while pictures wiggle"],
  ["F", "fills the screen"],
  ["Convergence", "moves the right view, in % of the width: above 0, everything goes back"],
  ["Headset, thumbstick", "left and right change the screen's size, forward and back its distance"],
  ["Headset, squeeze and thumbstick", "left and right shift the views against each other"],
  ["Headset, trigger or pinch", "plays and pauses"],
  ["Headset, A or X", "puts the screen back to where it was"],
];

/**
 * Build the elements of a player.
 * @returns root, stage, canvas, headset (its button), and functions: `open` (what is shown now), `tell` (mode,
 *   whether the right view is approximate, placement), `say` (a message), `fill` (the screen, or no more),
 *   `released` (a promise of the moment when no control is held any more).
 */
export function panel(player) {
  const adjust = (name, value) => {
    player[name] = value;
    player.dispatchEvent(new Event("adjust"));
  };
  const buttons = Object.entries(MODES).map(([mode, [name, title]]) =>
    el("button", {type: "button", "data-mode": mode, title, onclick: () => { player.mode = mode; }}, name));
  const slider = range("Line between the views", {class: "player-slider", max: 1}, value => { player.slider = value; });
  const strength = range("Strength", {min: 0, max: 2, step: 0.05}, value => adjust("strength", value));
  const shift = range("Convergence", {min: -5, max: 5, step: 0.1}, value => adjust("convergence", value / 100));
  const method = el("select", {onchange: () => { player.anaglyph = method.value; }}, ...Object.keys(ANAGLYPHS).map(name => el("option", {}, name)));
  const told = {strength: el("output"), shift: el("output")};
  const strengthLabel = el("label", {}, "Strength ", strength, told.strength);
  const methodLabel = el("label", {}, "Glasses ", method);
  const reset = el("button", {type: "button", onclick: () => { adjust("strength", 1); adjust("convergence", 0); }}, "Reset");
  const full = el("button", {type: "button", onclick: () => fill()}, "Full screen");
  const headset = el("button", {type: "button", class: "player-headset", onclick: () => player.enterHeadset()}, "Open in headset");
  const canvas = el("canvas", {role: "img", width: 16, height: 9});
  const approximate = el("p", {class: "player-approximate", hidden: true}, "Approximate until the next preview");
  const stage = el("div", {class: "player-stage", tabindex: -1}, canvas, slider, approximate);
  const message = el("p", {class: "player-message", role: "status"});
  const film = el("div");
  const root = el("div", {class: "player", role: "group", "aria-label": "Stereo player"},
    el("div", {class: "player-row", role: "group", "aria-label": "View"}, ...buttons), stage, film,
    el("div", {class: "player-row"}, strengthLabel, el("label", {}, "Convergence ", shift, told.shift), reset, methodLabel, full, headset),
    message,
    el("details", {class: "player-help"}, el("summary", {}, "Keys and controllers"),
      el("dl", {}, ...HELP.flatMap(([key, effect]) => [el("dt", {}, key), el("dd", {}, effect)]))));

  const fill = () => document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen();
  root.addEventListener("fullscreenchange", () => {
    full.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
  });

  return {
    root, stage, canvas, headset, fill,
    released: async () => {
      while (strength.matches(":active") || shift.matches(":active")) {
        await new Promise(resolve => ["pointerup", "pointercancel"].forEach(name => addEventListener(name, resolve, {once: true})));
        await new Promise(requestAnimationFrame);
      }
    },
    open: ({film: playing}) => film.replaceChildren(...playing ? [controls(playing)] : []),
    say: (text, problem = false) => {
      message.textContent = text;
      message.classList.toggle("problem", problem);
    },
    tell: (shown, inexact, placement) => {
      for (const button of buttons) {
        button.disabled = !player.offers(button.dataset.mode);
        button.setAttribute("aria-pressed", button.dataset.mode === shown);
      }
      slider.hidden = shown !== "slider";
      slider.valueAsNumber = player.slider;
      strengthLabel.hidden = !placement;
      strength.valueAsNumber = player.strength;
      told.strength.textContent = `× ${player.strength.toFixed(2)}`;
      shift.valueAsNumber = player.convergence * 100;
      told.shift.textContent = `${(player.convergence * 100).toFixed(1)} %`;
      shift.setAttribute("aria-valuetext", `${told.shift.textContent} of the width`);
      methodLabel.hidden = shown !== "anaglyph";
      method.value = player.anaglyph;
      approximate.hidden = !inexact;
      canvas.setAttribute("aria-label", MODES[shown][1] + (inexact ? "; approximate" : ""));
    },
  };
}

function range(name, attributes, onInput) {
  const made = el("input", {type: "range", min: 0, step: 0.001, ...attributes, "aria-label": name, oninput: () => onInput(made.valueAsNumber)});
  return made;
}
