// Films and pictures on a screen in a headset, with WebXR.

import {el} from "./common.js";
import {Program, THEATER, texture, upload} from "./shaders.js";

const USUAL = {width: 2.4, distance: 2.5}; // m
const NEAREST = 0.5, FARTHEST = 20; // m; also the smallest and the largest width
const PACE = 0.8; // e-folds a second at full deflection
const SHIFT_PACE = 0.02; // of the width, a second
const MOST = 0.1; // of the width, that views are shifted
const REST = 0.15; // deflection that is none
const HALF_SPHERE = {centralHorizontalAngle: Math.PI, upperVerticalAngle: Math.PI / 2, lowerVerticalAngle: -Math.PI / 2, radius: 0};
const [SQUEEZE, LOWER] = [1, 4]; // buttons of the "xr-standard" mapping; A or X is the lower one

/** Why there is no headset to be used, in one sentence; empty if there is one. */
export async function available() {
  if (!isSecureContext) return "A headset needs this page over HTTPS, or from the same machine (localhost).";
  if (!navigator.xr) return "This browser has no WebXR: open this page in the browser of a headset, or in Chrome or Edge with one connected.";
  const found = await navigator.xr.isSessionSupported("immersive-vr").catch(() => false);
  return found ? "" : "This browser finds no headset: connect one, or open this page in the headset's own browser.";
}

/**
 * Show a film or two pictures in the headset until the viewer leaves it.
 * @param {{source: HTMLVideoElement|{left: TexImageSource, right: TexImageSource}, layout: Object, aspect: number,
 *   shift: number, onEnd: () => void}} shown - `layout` from `arrangement`; `aspect`: width over height of a view;
 *   `shift` of the right view to the right, a share of the width; `onEnd` is called when the viewer has left.
 * @returns {Promise<Theater>}
 * @throws DOMException if there is no session.
 */
export async function enter({source, layout, aspect, shift = 0, onEnd}) {
  const session = await navigator.xr.requestSession("immersive-vr", {optionalFeatures: ["local-floor", "layers"]});
  session.addEventListener("end", onEnd);
  try {
    const theater = new Theater(session, source, layout, aspect, shift);
    await theater.start();
    return theater;
  } catch (error) {
    await session.end();
    throw error;
  }
}

/** The screen in the headset: `width` and `distance`, m, and `shift`, a share of the width, may be changed. */
class Theater {
  #session; #source; #layout; #aspect; #usual; #gl; #program; #space; #seat = null; #eye = null; #layers = null; #time = 0; #seen = [];

  constructor(session, source, layout, aspect, shift) {
    this.#session = session;
    this.#source = source instanceof HTMLVideoElement ? [source] : [source.left, source.right];
    this.#layout = layout;
    this.#aspect = aspect;
    this.#usual = {...USUAL, shift};
    Object.assign(this, this.#usual);
  }

  async start() {
    const session = this.#session;
    const gl = this.#gl = el("canvas").getContext("webgl2", {xrCompatible: true, alpha: false, antialias: false, depth: false});
    this.#program = new Program(gl, THEATER);
    this.#source.forEach((_, unit) => texture(gl, unit));
    this.#space = await session.requestReferenceSpace("local-floor").catch(() => session.requestReferenceSpace("local"));
    this.#space.addEventListener("reset", () => { this.#seat = null; });
    this.#layers = this.#source.length === 1 ? mediaLayers(session, gl) : null;
    this.#eye = this.#layers ? view => this.#layers.eye(view) : ownLayer(session, gl);
    session.addEventListener("select", () => this.#toggle());
    session.addEventListener("end", () => gl.getExtension("WEBGL_lose_context")?.loseContext());
    session.requestAnimationFrame((time, frame) => this.#show(time, frame));
  }

  /** Whether the headset shows the film by itself, in a media layer. */
  get layered() {
    return Boolean(this.#layers?.media);
  }

  #show(time, frame) {
    this.#session.requestAnimationFrame((later, next) => this.#show(later, next));
    this.#steer(Math.min(time - this.#time, 100) / 1000);
    this.#time = time;
    this.#seat ??= seat(frame, this.#space);
    if (!this.#seat) return;
    // A media layer can't shift the views against each other.
    const layered = this.shift === 0 && this.#layers?.show(this.#source[0], this.#layout, this.#seat, this.#size, this.distance);
    if (!layered) this.#draw(frame.getViewerPose(this.#seat));
  }

  /** Of the screen, m. */
  get #size() {
    return [this.width, this.width / this.#aspect];
  }

  #draw(pose) {
    if (!pose) return;
    const gl = this.#gl;
    this.#layers?.hide();
    this.#source.forEach((picture, unit) => {
      const time = picture.currentTime ?? 0;
      if (picture.paused === false || time !== this.#seen[unit]) upload(gl, unit, picture);
      this.#seen[unit] = time;
    });
    for (const view of pose.views) {
      const {matrix: m, position} = view.transform, p = view.projectionMatrix;
      const {framebuffer, viewport} = this.#eye(view);
      const right = view.eye === "right";
      gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
      gl.viewport(viewport.x, viewport.y, viewport.width, viewport.height);
      this.#program.draw({
        picture: right ? this.#source.length - 1 : 0,
        part: (right && this.#layout.right) || this.#layout.left,
        lens: [1 / p[0], 1 / p[5], p[8], p[9]],
        turn: [m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]],
        eye: [position.x, position.y, position.z + this.distance],
        size: this.#layout.sphere ? [0, 0] : this.#size,
        shift: right ? this.shift : 0,
      });
    }
  }

  /** Let the controllers act for so many seconds. */
  #steer(seconds) {
    for (const {gamepad} of this.#session.inputSources) {
      if (gamepad?.mapping !== "xr-standard") continue;
      const [x, y] = (gamepad.axes.length > 2 ? gamepad.axes.slice(2) : gamepad.axes).map(by => Math.abs(by) < REST ? 0 : by);
      if (gamepad.buttons[SQUEEZE]?.pressed) {
        this.shift = within(this.shift + x * SHIFT_PACE * seconds, -MOST, MOST);
      } else {
        this.width = within(this.width * Math.exp(x * PACE * seconds), NEAREST, FARTHEST);
        this.distance = within(this.distance * Math.exp(-y * PACE * seconds), NEAREST, FARTHEST);
      }
      if (gamepad.buttons[LOWER]?.pressed) {
        Object.assign(this, this.#usual);
        this.#seat = null;
      }
    }
  }

  #toggle() {
    const film = this.#source.at(-1);
    if (film instanceof HTMLVideoElement) film.paused ? film.play() : film.pause();
  }
}

/** A layout as media layers name it; what it can't name, they refuse. */
function inWords({left, right}) {
  if (!right) return {layout: left[2] * left[3] === 1 ? "mono" : "unknown"};
  return {layout: left[2] < 1 ? "stereo-left-right" : "stereo-top-bottom", invertStereo: left[0] + left[1] > 0};
}

const within = (value, least, most) => Math.min(Math.max(value, least), most);

/** A space with its origin where the viewer's eyes are, upright, looking ahead; null if that isn't known yet. */
function seat(frame, space) {
  const pose = frame.getViewerPose(space);
  if (!pose) return null;
  const {matrix, position: {x, y, z}} = pose.transform;
  const turned = Math.atan2(matrix[8], matrix[10]) / 2;
  return space.getOffsetReferenceSpace(new XRRigidTransform({x, y, z}, {x: 0, y: Math.sin(turned), z: 0, w: Math.cos(turned)}));
}

/** Where to draw what an eye sees: in a layer of WebXR's own kind. */
function ownLayer(session, gl) {
  const layer = new XRWebGLLayer(session, gl, {depth: false});
  session.updateRenderState({baseLayer: layer});
  return view => ({framebuffer: layer.framebuffer, viewport: layer.getViewport(view)});
}

/** Layers with which a headset shows a film by itself, at its own rate and sharpness; null if it has none. */
function mediaLayers(session, gl) {
  try {
    return new MediaLayers(session, gl);
  } catch {
    return null; // the film is drawn instead
  }
}

class MediaLayers {
  #session; #gl; #films; #binding; #projection; #framebuffer; #space = null;
  media = null;

  /** @throws Error if there are none. */
  constructor(session, gl) {
    this.#films = new XRMediaBinding(session);
    this.#binding = new XRWebGLBinding(session, gl);
    this.#projection = this.#binding.createProjectionLayer({depthFormat: 0});
    this.#framebuffer = gl.createFramebuffer();
    this.#session = session;
    this.#gl = gl;
    session.updateRenderState({layers: [this.#projection]});
  }

  /** Where to draw what an eye sees, while no film is shown. */
  eye(view) {
    const gl = this.#gl;
    const {colorTexture, viewport} = this.#binding.getViewSubImage(this.#projection, view);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.#framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, colorTexture, 0);
    return {framebuffer: this.#framebuffer, viewport};
  }

  /** Let the headset show a film, straight ahead in a space; false if it can't show one of this layout. */
  show(film, layout, space, [width, height], distance) {
    if (this.#space !== space) this.hide();
    this.#space = space;
    // Headsets take half of a side for its length (so do three.js and A-Frame), whatever the standard says.
    const size = layout.sphere ? HALF_SPHERE : {width: width / 2, height: height / 2};
    if (!this.media) {
      const options = {space, ...inWords(layout), ...size};
      try {
        this.media = layout.sphere ? this.#films.createEquirectLayer(film, options) : this.#films.createQuadLayer(film, options);
      } catch {
        return false;
      }
      this.#session.updateRenderState({layers: [this.media]});
    }
    if (!layout.sphere) Object.assign(this.media, size, {transform: new XRRigidTransform({x: 0, y: 0, z: -distance})});
    return true;
  }

  /** Make room for what is drawn. */
  hide() {
    if (!this.media) return;
    this.media = null;
    this.#session.updateRenderState({layers: [this.#projection]});
  }
}
