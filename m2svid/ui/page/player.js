// A player of pictures and films with two views.

import {el, nameOf} from "./common.js";
import {Film} from "./film.js";
import {available, enter} from "./headset.js";
import {WHOLE, arrangement} from "./layouts.js";
import {MODES, panel} from "./panel.js";
import {Renderer} from "./renderer.js";

const SWAP = 250; // ms that wiggling shows each view: two swings a second
const JUMP = 5; // s
const TWO = {left: WHOLE, right: WHOLE, depth: null, columns: 1, rows: 1, sphere: false, note: ""};
const USUAL = {maxDisparity: 0.03, convergence: 0.667}; // the defaults of `convert`
const NOTHING = {film: null, pictures: {}, layout: TWO, placement: null, width: 0, height: 0};

/**
 * A player in an element, for pictures (`show`) or a film (`play`).
 *
 * It emits "adjust" when the viewer changes strength or convergence; `placement` says what they come to.
 */
export class StereoPlayer extends EventTarget {
  #parts; #canvas; #renderer = null; #open = NOTHING; #asked = 0; #fresh = false; #frame = 0;
  #mode = "slider"; #look = {slider: 0.5, shift: 0, anaglyph: "dubois"}; #strength = 1;
  #wiggle = 0; #second = false; #away = false;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(element) {
    super();
    this.#parts = panel(this);
    this.#canvas = this.#parts.canvas;
    element.append(this.#parts.root);
    this.#parts.root.addEventListener("keydown", event => this.#press(event));
    this.#calm.addEventListener("change", () => { this.mode = this.#mode; });
    try {
      this.#renderer = new Renderer(this.#canvas);
    } catch (error) {
      this.#parts.say(error.message, true);
      return;
    }
    new ResizeObserver(() => this.#invalidate()).observe(this.#parts.stage);
    this.#canvas.addEventListener("webglcontextlost", event => event.preventDefault());
    this.#canvas.addEventListener("webglcontextrestored", () => {
      this.#renderer.prepare();
      this.#fill();
    });
    this.#tell();
  }

  /**
   * Show pictures of one size. What was shown before stays until they are there.
   * @param {{left: string, right: string, depth?: string, hole?: string, warped?: string}} pictures - addresses;
   *   `depth` is inverse depth in gray, white = 1 = nearest; `hole` is white where nothing lands in `warped`.
   * @param {{maxDisparity: number, convergence: number}|null} placement - that the right view was made with:
   *   shift between inverse depth 0 and 1, a share of the width, and the inverse depth on the screen, as the
   *   options of `convert`. Without it, the strength can't be changed.
   */
  async show(pictures, placement = null) {
    await this.#take(async () => {
      const given = Object.entries(pictures).filter(([, address]) => address);
      const found = Object.fromEntries(await Promise.all(given.map(async ([name, src]) => [name, await picture(src)])));
      const {left, right, depth} = found;
      return {
        film: null, pictures: {...found, warped: found.warped ?? right}, placement: depth ? placement : null,
        layout: {...TWO, depth: depth ? WHOLE : null}, width: left.naturalWidth, height: left.naturalHeight,
      };
    });
  }

  /**
   * Open a film, without starting it.
   * @param {{src: string, layout: string, left?: string, codec?: string, placement?: Object}} film - `layout` as
   *   `convert --layout` names it; `left`: address of the left view where the film is the right view alone;
   *   `codec`: named in messages; `placement`: as in `show`, for a film beside its depth.
   */
  async play({src, layout, left = null, codec = null, placement = USUAL}) {
    await this.#take(async () => {
      const found = left ? TWO : arrangement(layout);
      const film = new Film(src, left, () => this.#fill());
      await film.open(codec);
      const [width, height] = [film.main.videoWidth / found.columns, film.main.videoHeight / found.rows];
      const cut = found.sphere ? {width: width / 2, height: width / 2 * 9 / 16} : {width, height};
      return {film, pictures: {}, layout: found, placement: found.depth ? placement : null, ...cut};
    });
  }

  /** Show nothing, and let go of the film. */
  async clear() {
    await this.#take(async () => NOTHING);
  }

  get mode() { return this.#mode; }

  /** A name of MODES; the left view is shown where there is not what a mode needs. */
  set mode(wanted) {
    if (!(wanted in MODES)) throw new Error(`There is no mode "${wanted}": take one of ${Object.keys(MODES).join(", ")}.`);
    this.#mode = wanted;
    this.#second = false;
    clearInterval(this.#wiggle);
    this.#wiggle = this.#shown === "wiggle" && !this.#calm.matches ? setInterval(() => this.#swap(), SWAP) : 0;
    this.#tell();
  }

  get slider() { return this.#look.slider; }

  /** Where the line between both views lies, 0 (left border) to 1. */
  set slider(share) {
    this.#look.slider = Math.min(Math.max(share, 0), 1);
    this.#tell();
  }

  get convergence() { return this.#look.shift; }

  /** By how much the right view is moved to the right, a share of the width: everything goes back by as much. */
  set convergence(share) {
    this.#look.shift = share;
    this.#tell();
  }

  get strength() { return this.#strength; }

  /** Factor of the shift between near and far; if it isn't 1, the right view is drawn from the depth. */
  set strength(factor) {
    this.#strength = factor;
    this.#tell();
  }

  get anaglyph() { return this.#look.anaglyph; }

  /** How both views are mixed for red-cyan glasses: a name of ANAGLYPHS. */
  set anaglyph(method) {
    this.#look.anaglyph = method;
    this.#tell();
  }

  /** What strength and convergence come to, as `show` is told it; null if that isn't known. */
  get placement() {
    if (!this.#open.placement) return null;
    const maxDisparity = this.#open.placement.maxDisparity * this.#strength;
    return {maxDisparity, convergence: this.#open.placement.convergence + this.#look.shift / maxDisparity};
  }

  /** Whether a mode has what it needs. */
  offers(mode) {
    const {layout, pictures, placement} = this.#open;
    if (mode === "depth") return Boolean(layout.depth);
    if (mode === "holes") return Boolean(pictures.hole);
    return mode === "left" || Boolean(layout.right ?? placement);
  }

  /** Show in the headset what is shown here; its screen, or nothing if there is none. The page stays as it is. */
  async enterHeadset() {
    const problem = await available();
    if (problem || !this.#open.width) return this.#parts.say(problem || "Open pictures or a film first.");
    const {film, layout, width, height} = this.#open;
    try {
      const theater = await enter({
        source: film ? (film.second ? {left: film.second, right: film.main} : film.main) : this.#views(),
        layout, aspect: width / height, shift: this.#look.shift,
        onEnd: () => {
          this.#away = false;
          this.#invalidate();
          this.#parts.headset.focus();
        },
      });
      this.#away = true;
      return theater;
    } catch (error) {
      this.#parts.say(`The headset can't be used: ${error.message}`, true);
    }
  }

  /** Draw at once what would be drawn with the next frame of the display. */
  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const {width, height} = this.#open;
    if (!width || this.#away) return;
    const shown = this.#shown === "wiggle" ? (this.#second ? "right" : "left") : this.#shown;
    const wide = width * (shown === "sbs" || shown === "cross" ? 2 : 1);
    this.#parts.stage.style.setProperty("--player-aspect", wide / height);
    const room = this.#parts.stage.clientWidth * devicePixelRatio;
    this.#draw(shown, wide, height, room ? Math.min(1, room / wide) : 1);
  }

  #draw(mode, width, height, scale, look = this.#look) {
    const {film, pictures, layout, placement} = this.#open;
    const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
    if (this.#canvas.width !== wide) this.#canvas.width = wide;
    if (this.#canvas.height !== high) this.#canvas.height = high;
    const loaded = film ? {left: film.second ?? film.main, ...film.second && {right: film.main}} : pictures;
    if (this.#fresh) for (const [name, source] of Object.entries(loaded)) this.#renderer.load(name, source);
    this.#fresh = false;
    const drawn = placement && (this.#strength !== 1 || !layout.right);
    this.#renderer.draw({
      layout, together: Boolean(film && !film.second), width: this.#open.width, height: this.#open.height,
      look: {...look, mode},
      warp: drawn && {disparity: placement.maxDisparity * this.#strength, screen: placement.convergence},
    });
  }

  /** The pictures for the headset; the right one as it is drawn from the depth, if it is. */
  #views() {
    const {pictures: {left, right}, width, height} = this.#open;
    if (this.#strength === 1) return {left, right};
    this.#draw("right", width, height, 1, {...this.#look, shift: 0});
    const copy = el("canvas", {width, height});
    copy.getContext("2d").drawImage(this.#canvas, 0, 0);
    this.#invalidate();
    return {left, right: copy};
  }

  async #take(load) {
    const asked = ++this.#asked;
    let [open, problem] = [NOTHING, ""];
    try {
      open = await load();
    } catch (error) {
      problem = error.message;
    }
    await this.#parts.released(); // what a control is at would mean something else from here on
    if (asked !== this.#asked || !this.#renderer) return open.film?.close();
    this.#open.film?.close();
    this.#open = open;
    this.#strength = 1;
    this.#look.shift = 0;
    this.#parts.open(open);
    this.#parts.say(problem || open.layout.note, Boolean(problem));
    this.#fill();
    this.mode = this.#mode;
  }

  get #shown() {
    return this.offers(this.#mode) ? this.#mode : "left";
  }

  #swap() {
    this.#second = !this.#second;
    this.#invalidate();
  }

  /** There are other pictures to be drawn. */
  #fill() {
    this.#fresh = true;
    this.#invalidate();
  }

  #invalidate() {
    if (this.#renderer) this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  #tell() {
    const approximate = Boolean(this.#open.placement && this.#open.layout.right && this.#strength !== 1);
    this.#parts.tell(this.#shown, approximate, this.#open.placement);
    this.#invalidate();
  }

  #press(event) {
    const {key, target, ctrlKey, altKey, metaKey} = event;
    if (ctrlKey || altKey || metaKey || target.matches("select")) return;
    const step = {ArrowLeft: -1, ArrowRight: 1}[key];
    if (step && !target.matches("input")) {
      if (this.#shown === "slider") this.slider += step * (event.shiftKey ? 0.1 : 0.01);
      else if (this.#open.film) this.#open.film.seek(this.#open.film.main.currentTime + step * JUMP);
      else return;
    } else if (key === " " && !target.matches("button, summary")) {
      if (this.#shown === "wiggle" && !this.#open.film) this.#swap();
      else this.#open.film?.toggle();
    } else if (key === "f" || key === "F") this.#parts.fill();
    else return;
    event.preventDefault();
  }
}

async function picture(src) {
  const image = el("img", {src});
  try {
    await image.decode();
  } catch {
    throw new Error(`The picture ${nameOf(decodeURIComponent(src))} can't be shown: it can't be loaded or decoded.`);
  }
  return image;
}
