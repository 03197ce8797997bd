// Choosing a film: the folders of the server, or one that is dropped onto the page.

import {api, el, fill, nameOf, query, settled, size} from "./common.js";

/**
 * Build the choice of a film.
 * @param {(path: string) => void} onPick
 * @returns the element.
 */
export async function picker(onPick) {
  const {folders: roots} = await api("/api/films");
  const place = el("nav", {class: "convert-place", "aria-label": "Folder"});
  const search = el("input", {type: "search", placeholder: "Search this folder", "aria-label": "Search this folder"});
  const list = el("ul", {class: "convert-films", "aria-label": "Films"});
  const told = el("p", {class: "note", role: "status"});
  const input = el("input", {type: "file", accept: "video/*,image/*,.mkv", hidden: true, onchange: () => upload([...input.files])});
  const button = el("button", {type: "button", onclick: () => input.click()}, "Upload a film");
  let [folder, asked] = [roots[0], 0];

  async function open(wanted) {
    folder = wanted;
    const own = ++asked;
    showPlace();
    let first = 0, folders = null;
    fill(list, async () => {
      if (own !== asked) return [];
      const found = await api(query("/api/films", {folder, search: search.value, first})).catch(problem);
      if (!found || own !== asked) return [];
      const inside = folders ? [] : found.folders.map(folderItem);
      folders ??= found.folders;
      first += found.films.length;
      told.textContent = `${found.total} film${found.total === 1 ? "" : "s"}${search.value ? " found" : ""}`;
      return [...inside, ...found.films.map(filmItem)];
    });
  }

  function showPlace() {
    const root = roots.filter(each => folder.startsWith(each)).sort((a, b) => b.length - a.length)[0];
    const parts = folder.slice(root.length).split("/").filter(Boolean);
    const steps = parts.map((part, i) => [part, [root, ...parts.slice(0, i + 1)].join("/")]);
    const others = roots.length > 1
      ? el("select", {"aria-label": "Folder", onchange: event => open(event.target.value)},
        ...roots.map(each => el("option", {value: each, selected: each === root}, each)))
      : el("button", {type: "button", class: "link", onclick: () => open(root)}, root);
    place.replaceChildren(others, ...steps.flatMap(([name, path]) => [" / ", el("button", {type: "button", class: "link", onclick: () => open(path)}, name)]));
  }

  const folderItem = path => el("li", {}, el("button", {type: "button", class: "convert-folder", onclick: () => { search.value = ""; open(path); }}, `${nameOf(path)}/`));

  const filmItem = ({path, bytes}) => el("li", {}, el("button", {type: "button", class: "convert-film", title: path, onclick: () => onPick(path)},
    el("img", {src: query("/api/thumbnail", {path, at: 3, width: 200}), loading: "lazy", alt: "", onerror: event => event.target.classList.add("broken")}),
    el("span", {class: "name"}, nameOf(path)), el("span", {class: "note"}, size(bytes))));

  function problem(error) {
    told.textContent = error.message;
  }

  async function upload([file]) {
    if (!file) return;
    told.textContent = `${file.name} is being copied (${size(file.size)}) …`;
    try {
      const {path} = await api(query("/api/upload", {name: file.name}), {method: "PUT", body: file});
      told.textContent = "";
      onPick(path);
    } catch (error) {
      problem(error);
    }
  }

  search.addEventListener("input", settled(() => open(folder), 150));
  const element = el("details", {class: "panel convert-picker", open: true}, el("summary", {}, el("h2", {}, "Choose a film")),
    el("div", {class: "convert-row"}, place, search, button, input), told, list,
    el("p", {class: "note"}, "Or drop a film anywhere on this page: it is copied into the output folder."));
  element.upload = upload;
  if (roots.length) await open(roots[0]);
  return element;
}
