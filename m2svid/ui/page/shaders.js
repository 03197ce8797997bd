// What is drawn with WebGL 2, on the page and in the headset.

/** One triangle over everything; `at` is (0, 0) in the upper left corner and (1, 1) in the lower right one. */
const COVER = `#version 300 es
out vec2 at;
void main() {
  vec2 corner = vec2(gl_VertexID % 2, gl_VertexID / 2) * 2.0;
  at = vec2(corner.x, 1.0 - corner.y);
  gl_Position = vec4(corner * 2.0 - 1.0, 0, 1);
}`;

const HEAD = `#version 300 es
precision highp float;
in vec2 at;
out vec4 color;

// A part of a texture, without what lies beside the part, 2^level times smaller.
vec3 see(sampler2D picture, vec4 part, vec2 at, float level) {
  vec2 border = 0.5 / vec2(textureSize(picture, 0));
  return textureLod(picture, clamp(part.xy + at * part.zw, part.xy + border, part.xy + part.zw - border), level).rgb;
}
`;

/** Where a direction lies in an equirectangular half sphere; x to the right, y up, z to the back. */
const SPHERE = `
const float PI = 3.14159265;
vec2 onSphere(vec3 d) {
  return vec2(0.5 + atan(d.x, -d.z) / PI, 0.5 - atan(d.y, length(d.xz)) / PI);
}
`;

/** What a mode shows at a place. */
const SHOWN = {
  slider: "at.x < slider ? leftAt(at) : rightAt(at)",
  left: "leftAt(at)",
  right: "rightAt(at)",
  sbs: "at.x < 0.5 ? leftAt(vec2(at.x * 2.0, at.y)) : rightAt(vec2(at.x * 2.0 - 1.0, at.y))",
  cross: "at.x < 0.5 ? rightAt(vec2(at.x * 2.0, at.y)) : leftAt(vec2(at.x * 2.0 - 1.0, at.y))",
  anaglyph: "encoded(clamp(leftMix * decoded(leftAt(at)) + rightMix * decoded(rightAt(at)), 0.0, 1.0))",
  difference: "abs(leftAt(at) - rightAt(at))",
  depth: "see(depth, depthPart, inView(at), level).rrr",
  holes: "mix(see(warped, leftPart, at, level), vec3(1, 0, 1), step(0.5, see(hole, leftPart, at, level).r))",
};

/**
 * Both views in one picture.
 * @param {string} mode - a name of SHOWN.
 * @param {boolean} sphere - whether the views are half spheres, of which the middle is shown.
 * @param {boolean} light - whether views are mixed as light instead of as sRGB values.
 */
export const view = (mode, sphere, light) => HEAD + SPHERE + `
uniform sampler2D left, right, depth, hole, warped;
uniform vec4 leftPart, rightPart, depthPart;
uniform float slider, shift;  // share of the width
uniform float level;          // log2 of how many times smaller than they are views are drawn
uniform vec2 crop;            // half of the sides of what is shown of a half sphere, at distance 1
uniform mat3 leftMix, rightMix;

vec2 inView(vec2 at) { return ${sphere ? "onSphere(vec3((at - 0.5) * vec2(2, -2) * crop, -1))" : "at"}; }
vec3 leftAt(vec2 at) { return see(left, leftPart, inView(at), level); }
vec3 rightAt(vec2 at) {
  at.x -= shift;
  return at.x < 0.0 || at.x > 1.0 ? vec3(0) : see(right, rightPart, inView(at), level);
}
vec3 decoded(vec3 c) { return ${light ? "mix(pow((c + 0.055) / 1.055, vec3(2.4)), c / 12.92, lessThanEqual(c, vec3(0.04045)))" : "c"}; }
vec3 encoded(vec3 c) { return ${light ? "mix(1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, c * 12.92, lessThanEqual(c, vec3(0.0031308)))" : "c"}; }

void main() { color = vec4(${SHOWN[mode]}, 1); }`;

/**
 * The right view from left view and depth. A point of inverse depth q is seen at x + (screen - q) * disparity.
 * From the nearest depth on, the first one is searched that is seen at the pixel's place; where none is, what lies
 * behind is stretched.
 */
export const WARP = HEAD + `
uniform sampler2D left, depth;
uniform vec4 leftPart, depthPart;
uniform float disparity, screen;  // share of the width; inverse depth
uniform int steps;

float row() { return 1.0 - at.y; }  // a texture's first row is the upper one, a framebuffer's the lower one
float miss(float x) { return x + (screen - see(depth, depthPart, vec2(x, row()), 0.0).r) * disparity - at.x; }

void main() {
  float behind = at.x + (1.0 - screen) * disparity, found = behind - disparity;
  for (int i = 1; i <= steps; i++) {
    float x = at.x + (1.0 - screen - float(i) / float(steps)) * disparity;
    float there = miss(x);
    if (there <= 0.0) {
      float before = miss(behind);
      float slope = (before - there) / (behind - x);
      // A tear shows what lies behind it, from where no color of the front is mixed in.
      found = slope > 3.0 ? behind + 2.0 / (float(textureSize(left, 0).x) * leftPart.z) : x - there / slope;
      break;
    }
    behind = x;
  }
  color = vec4(see(left, leftPart, vec2(found, row()), 0.0), 1);
}`;

/** What one eye sees of a screen or of a half sphere. */
export const THEATER = HEAD + SPHERE + `
uniform sampler2D picture;
uniform vec4 part;
uniform vec4 lens;   // of the eye's projection: slopes of the right and upper border, offsets
uniform mat3 turn;   // from the eye's axes to the screen's
uniform vec3 eye;    // m, on the screen's axes, whose middle is (0, 0, 0)
uniform vec2 size;   // of the screen, m; (0, 0): half sphere
uniform float shift; // share of the width

void main() {
  vec2 clip = vec2(at.x * 2.0 - 1.0, 1.0 - at.y * 2.0);
  vec3 ray = turn * vec3((clip + lens.zw) * lens.xy, -1);
  bool screen = size.x > 0.0;
  vec2 place = screen ? (eye - ray * (eye.z / ray.z)).xy / size * vec2(1, -1) + 0.5 : onSphere(ray);
  place.x -= shift;
  bool before = screen ? ray.z * eye.z < 0.0 : ray.z < 0.0;
  vec2 inside = min(place, 1.0 - place) / fwidth(place);  // pixels, for a smooth border
  float seen = before ? clamp(min(inside.x, inside.y) + 0.5, 0.0, 1.0) : 0.0;
  vec2 texels = fwidth(place) * part.zw * vec2(textureSize(picture, 0));
  color = vec4(see(picture, part, place, log2(max(texels.x, texels.y))) * seen, 1);
}`;

/** A program that draws over everything, with its uniforms set by name. */
export class Program {
  #gl; #program; #places = {};

  constructor(gl, fragment) {
    this.#gl = gl;
    this.#program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, COVER], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.#program, shader);
    }
    gl.linkProgram(this.#program);
    if (!gl.getProgramParameter(this.#program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const logs = gl.getAttachedShaders(this.#program).map(shader => gl.getShaderInfoLog(shader));
      throw new Error(["The shader does not compile:", ...logs, gl.getProgramInfoLog(this.#program)].join(" "));
    }
    const count = gl.getProgramParameter(this.#program, gl.ACTIVE_UNIFORMS);
    for (let i = 0; i < count; i++) {
      const {name, type} = gl.getActiveUniform(this.#program, i);
      this.#places[name] = {type, place: gl.getUniformLocation(this.#program, name)};
    }
  }

  /** Draw with these uniforms; matrices are given column by column. Those that the shader has not are ignored. */
  draw(uniforms) {
    const gl = this.#gl;
    gl.useProgram(this.#program);
    for (const [name, {type, place}] of Object.entries(this.#places)) {
      const value = uniforms[name];
      if (type === gl.FLOAT) gl.uniform1f(place, value);
      else if (type === gl.FLOAT_VEC2) gl.uniform2fv(place, value);
      else if (type === gl.FLOAT_VEC3) gl.uniform3fv(place, value);
      else if (type === gl.FLOAT_VEC4) gl.uniform4fv(place, value);
      else if (type === gl.FLOAT_MAT3) gl.uniformMatrix3fv(place, false, value);
      else if (type === gl.FLOAT_MAT4) gl.uniformMatrix4fv(place, false, value);
      else gl.uniform1i(place, value);
    }
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

/** A new texture at a texture unit, which stays bound there. */
export function texture(gl, unit) {
  const made = gl.createTexture();
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.bindTexture(gl.TEXTURE_2D, made);
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array([0, 0, 0, 255]));
  return made;
}

/** Fill the texture of a unit with a picture or with a video's current frame; pictures are also kept smaller. */
export function upload(gl, unit, source) {
  const still = !(source instanceof HTMLVideoElement);
  gl.activeTexture(gl.TEXTURE0 + unit);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, still ? gl.NONE : gl.BROWSER_DEFAULT_WEBGL);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, source);
  if (still) gl.generateMipmap(gl.TEXTURE_2D);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, still ? gl.LINEAR_MIPMAP_NEAREST : gl.LINEAR);
}
