// Where the views lie in the pictures of films; the names are those of `convert --layout`.

export const WHOLE = [0, 0, 1, 1]; // left, top, width, height, as shares of the picture
const LEFT = [0, 0, 0.5, 1], RIGHT = [0.5, 0, 0.5, 1], TOP = [0, 0, 1, 0.5], BOTTOM = [0, 0.5, 1, 0.5];

/**
 * left, right, depth: where they lie; without a right view and a depth, the picture is shown as it is.
 * columns, rows: by how many views the picture is larger than one of them as it is to be shown.
 * sphere: the views are half spheres, equirectangular.
 * note: what a viewer has to know.
 */
const LAYOUTS = {
  "sbs": {left: LEFT, right: RIGHT, columns: 2},
  "sbs-half": {left: LEFT, right: RIGHT},
  "cross": {left: RIGHT, right: LEFT, columns: 2},
  "cross-half": {left: RIGHT, right: LEFT},
  "tb": {left: TOP, right: BOTTOM, rows: 2},
  "tb-half": {left: TOP, right: BOTTOM},
  "vr180": {left: LEFT, right: RIGHT, columns: 2, sphere: true, note: "Only the middle of the half sphere is shown."},
  "rgbd": {left: LEFT, depth: RIGHT, columns: 2, note: "The right view is drawn from the depth: approximate."},
  "rgbd-half": {left: LEFT, depth: RIGHT, note: "The right view is drawn from the depth: approximate."},
  "rows": {left: WHOLE, note: "This layout is for displays that show every other row to one eye."},
  "anaglyph": {left: WHOLE, note: "Look at it through red-cyan glasses."},
  "spatial": {left: WHOLE, note: "Browsers show only the left view of a spatial video."},
  "right": {left: WHOLE, note: "This is the right view alone."},
  "pair": {left: WHOLE, note: "This is one view alone."},
};

/**
 * Where the views of a film lie.
 * @param {string} name - of the layout.
 * @throws Error if there is no such layout.
 */
export function arrangement(name) {
  if (!(name in LAYOUTS)) throw new Error(`There is no layout "${name}": take one of ${Object.keys(LAYOUTS).join(", ")}.`);
  return {right: null, depth: null, columns: 1, rows: 1, sphere: false, note: "", ...LAYOUTS[name]};
}
