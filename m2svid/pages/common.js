const data = JSON.parse(document.getElementById("data").textContent);
const create = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    name in node && typeof value !== "string" ? node[name] = value : node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const draw = (tag, attributes, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
};
const table = (head, rows) => create("div", {class: "scroll"}, create("table", {},
  create("thead", {}, create("tr", {}, ...head.map(text => create("th", {}, text)))),
  create("tbody", {}, ...rows.map(row => create("tr", {}, ...row.map(cell =>
    cell instanceof Node ? cell : create("td", {}, cell)))))));
