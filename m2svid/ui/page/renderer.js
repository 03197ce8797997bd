// Both views of a picture or film in one canvas.

import {WHOLE} from "./layouts.js";
import {Program, WARP, texture, upload, view} from "./shaders.js";

const UNITS = ["left", "right", "depth", "hole", "warped"]; // of the textures, in their order
const REDRAWN = UNITS.length; // the unit of the right view that is drawn from the depth
const CROP = Math.tan(Math.PI / 4); // half of the width of what is shown of a half sphere, at distance 1: 90°
const STEPS = 64; // places of a row that are looked at for a pixel of it, at most

const BT601 = [0.299, 0.587, 0.114];
const [RED, GREEN, BLUE, NONE] = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]];

/** Rows give red, green and blue of the picture, from a view's; as in m2svid/video/anaglyph.py. */
export const ANAGLYPHS = {
  "dubois": {
    left: [[0.437, 0.449, 0.164], [-0.062, -0.062, -0.024], [-0.048, -0.050, -0.017]],
    right: [[-0.011, -0.032, -0.007], [0.377, 0.761, 0.009], [-0.026, -0.093, 1.234]],
    light: true,
  },
  "color": {left: [RED, NONE, NONE], right: [NONE, GREEN, BLUE]},
  "half-color": {left: [BT601, NONE, NONE], right: [NONE, GREEN, BLUE]},
  "optimized": {left: [[0, 0.7, 0.3], NONE, NONE], right: [NONE, GREEN, BLUE]},
  "gray": {left: [BT601, NONE, NONE], right: [NONE, BT601, BT601]},
  "true": {left: [BT601, NONE, NONE], right: [NONE, NONE, BT601]},
};
const columns = rows => [0, 1, 2].flatMap(column => rows.map(row => row[column]));

export class Renderer {
  #gl; #views; #warp; #redrawn; #framebuffer; #known = null;

  /** @throws Error if there is no WebGL 2. */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", {alpha: false, antialias: false, depth: false});
    if (!gl) throw new Error("The player needs WebGL 2, which this browser has not or has switched off.");
    this.#gl = gl;
    this.prepare();
  }

  /** Make programs and textures, at first and after the browser has lost them. */
  prepare() {
    const gl = this.#gl;
    this.#views = new Map();
    this.#warp = new Program(gl, WARP);
    UNITS.forEach((_, unit) => texture(gl, unit));
    this.#redrawn = texture(gl, REDRAWN);
    this.#framebuffer = gl.createFramebuffer();
    this.#known = null;
  }

  /** Take over a picture or the current frame of a video; what there is from one, or both views. */
  load(name, source) {
    upload(this.#gl, UNITS.indexOf(name), source);
    this.#known = null;
  }

  /**
   * Draw.
   * @param {Object} layout - where the views lie, from `arrangement`.
   * @param {boolean} together - whether all views lie in the left picture, or each in its own one.
   * @param {number} width - of a view, px.
   * @param {number} height - of a view, px.
   * @param {{mode: string, slider: number, shift: number, anaglyph: string}} look
   * @param {{disparity: number, screen: number}|null} warp - draw the right view from the depth: shift between
   *   inverse depth 0 and 1, a share of the width, and the inverse depth on the screen.
   */
  draw({layout, together, width, height, look, warp}) {
    const gl = this.#gl;
    const units = Object.fromEntries(UNITS.map((name, unit) => [name, together ? 0 : unit]));
    const views = {
      ...units, leftPart: layout.left, rightPart: layout.right ?? layout.left, depthPart: layout.depth ?? WHOLE,
    };
    if (warp) {
      this.#redraw(views, Math.round(width * gl.drawingBufferHeight / height), gl.drawingBufferHeight, warp);
      Object.assign(views, {right: REDRAWN, rightPart: WHOLE});
    }
    const {left, right, light = false} = ANAGLYPHS[look.anaglyph];
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    this.#view(look.mode, layout.sphere, light).draw({
      ...views, ...look, level: Math.log2(height / gl.drawingBufferHeight), crop: [CROP, CROP * height / width],
      leftMix: columns(left), rightMix: columns(right),
    });
  }

  #view(...kind) {
    const key = kind.join();
    if (!this.#views.has(key)) this.#views.set(key, new Program(this.#gl, view(...kind)));
    return this.#views.get(key);
  }

  /** Draw the right view from left view and depth, unless it is the one that was drawn last. */
  #redraw(views, width, height, {disparity, screen}) {
    const asked = JSON.stringify([width, height, disparity, screen]);
    if (asked === this.#known) return;
    this.#known = asked;
    const gl = this.#gl;
    gl.activeTexture(gl.TEXTURE0 + REDRAWN);
    gl.bindTexture(gl.TEXTURE_2D, this.#redrawn);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.#framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.#redrawn, 0);
    gl.viewport(0, 0, width, height);
    const steps = Math.min(STEPS, Math.max(1, Math.ceil(disparity * width)));
    this.#warp.draw({...views, disparity, screen, steps});
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }
}
