// A table that is sorted by any column.

import {el} from "./common.js";

const STEP = 200; // rows that are shown at once

/** Compare two values of a column; what is missing comes last in either direction. */
function compare(a, b, sign) {
  if (a === null || b === null || Number.isNaN(a) || Number.isNaN(b)) {
    const missing = value => value === null || Number.isNaN(value) ? 1 : 0;
    return missing(a) - missing(b);
  }
  if (typeof a === "string") return sign * a.localeCompare(b, undefined, {numeric: true});
  return sign * (a - b);
}

/**
 * Make a table.
 * @param {string} label - its name for screen readers.
 * @param {Array<{head: string, title?: string, value: (row) => any, cell?: (row) => Node|string,
 *   descending?: boolean}>} columns - value is what a column is sorted by, cell what is shown.
 * @param {{order?: {column: number, sign: number}, foot?: any}} options - foot is a row under all others.
 * @returns {{element: HTMLElement, fill: (rows: any[]) => void, order: {column: number, sign: number}}}
 */
export function sortedTable(label, columns, {order = {column: 0, sign: 1}, foot = null} = {}) {
  let rows = [], most = STEP;
  const cell = (column, row) => {
    const shown = column.cell ? column.cell(row) : column.value(row);
    return el("td", {}, shown instanceof Node ? shown : String(shown ?? "–"));
  };
  const heads = columns.map((column, index) => el("th", {scope: "col"},
    el("button", {type: "button", title: column.title ?? null, onclick: () => {
      const first = column.descending ? -1 : 1;
      order.sign = order.column === index ? -order.sign : first;
      order.column = index;
      show();
    }}, column.head)));
  const body = el("tbody");
  const more = el("button", {type: "button", hidden: true, onclick: () => { most += STEP; show(); }});
  const show = () => {
    heads.forEach((head, index) => {
      if (index === order.column) head.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const {value} = columns[order.column];
    const sorted = rows.map(row => [value(row), row]).sort(([a], [b]) => compare(a, b, order.sign));
    const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    body.replaceChildren(...sorted.slice(0, most).map(([, row]) =>
      el("tr", {}, ...columns.map(column => cell(column, row)))));
    if (focused) body.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
    more.hidden = rows.length <= most;
    more.textContent = `Show more (${rows.length - most} are left)`;
  };
  const table = el("table", {class: "runs-table", "aria-label": label}, el("thead", {}, el("tr", {}, ...heads)), body,
    foot === null ? null : el("tfoot", {}, el("tr", {}, ...columns.map(column => cell(column, foot)))));
  const element = el("div", {}, el("div", {class: "scroll runs-scroll", tabindex: "0", role: "region", "aria-label": `table of ${label}`}, table), more);
  return {element, order, fill: given => { rows = given; show(); }};
}
