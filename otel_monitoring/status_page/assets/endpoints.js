// The endpoints: sorted, filtered, and a click narrows the charts to one.

import { byId, element, fill, keep, setText } from "./dom.js";
import { percent, plural, rate, seconds } from "./format.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").EndpointRow} EndpointRow */
/** @typedef {{name: string, methods: string, row: EndpointRow}} Endpoint */

const SHOWN = 25;
let whole = false;

/** @type {Record<string, (a: Endpoint, b: Endpoint) => number>} */
const ORDERS = {
  load: (a, b) => b.row[0] - a.row[0],
  p95: (a, b) => b.row[2] - a.row[2],
  errors: (a, b) => b.row[3] - a.row[3] || b.row[0] - a.row[0],
  name: (a, b) => a.name.localeCompare(b.name),
};

/** @param {State} state @param {(endpoint: string | null) => void} choose @param {() => void} again */
export function showEndpoints(state, choose, again) {
  const { update, routes, view } = state;
  if (update === null) return;
  const filter = view.filter.toLowerCase();
  const all = routes.map(([name, methods], index) => ({ name, methods, row: update.endpoints[index] ?? /** @type {EndpointRow} */ ([0, 0, 0, 0]) }));
  const found = all.filter((one) => `${one.methods} ${one.name}`.toLowerCase().includes(filter)).sort(ORDERS[view.sort]);
  const shown = whole ? found : found.slice(0, SHOWN);
  const busiest = all.reduce((most, one) => Math.max(most, one.row[0]), 0);
  keep(
    byId("endpoints-rows"),
    shown,
    (one) => one.name,
    (one) => row(one, choose),
    (item, one) => refresh(item, one, view.endpoint === one.name, busiest, update.thresholds.error_rate_percent ?? 5),
  );
  const window = `the last ${plural(Math.max(1, Math.round(update.now.seconds / 60)), "minute")}`;
  setText(byId("endpoints-about"), found.length === all.length ? `${plural(all.length, "endpoint")} with requests in ${window}` : `${found.length} of ${plural(all.length, "endpoint")}`);
  byId("endpoints-table").hidden = found.length === 0;
  const empty = all.length === 0 ? `No requests in ${window}. Requests to the application appear here within seconds.` : found.length === 0 ? `No endpoint contains “${view.filter}”.` : "";
  setText(byId("endpoints-empty"), empty);
  const more = byId("endpoints-more");
  more.hidden = found.length <= SHOWN;
  if (!more.hidden) {
    const text = whole ? `Show the first ${SHOWN}` : `Show all ${found.length}`;
    if (more.textContent !== text) fill(more, element("button", { type: "button", class: "quiet", click: () => ((whole = !whole), again()) }, text));
  }
}

/** @param {Endpoint} one @param {(endpoint: string | null) => void} choose */
function row(one, choose) {
  const pick = () => choose(one.name);
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("button", { type: "button", class: "pick", click: pick }, element("span", { class: "method" }, one.methods), element("span", { class: "route" }, one.name))),
    element("td", { "data-label": "load" }, element("span", { class: "number" }), element("meter", { min: 0, "aria-hidden": "true" })),
    element("td", { "data-label": "p50" }),
    element("td", { "data-label": "p95" }),
    element("td", { "data-label": "errors" }),
  );
}

/** @param {HTMLElement} item @param {Endpoint} one @param {boolean} isChosen @param {number} busiest @param {number} limit */
function refresh(item, one, isChosen, busiest, limit) {
  const [load, p50, p95, errors] = one.row;
  item.classList.toggle("chosen", isChosen);
  item.querySelector("button")?.setAttribute("aria-pressed", String(isChosen));
  const [, loadCell, p50Cell, p95Cell, errorCell] = /** @type {HTMLElement[]} */ ([...item.children]);
  if (!loadCell || !p50Cell || !p95Cell || !errorCell) return;
  const number = loadCell.querySelector(".number");
  const meter = loadCell.querySelector("meter");
  if (number !== null) setText(number, rate(load));
  if (meter !== null) {
    meter.max = busiest || 1;
    meter.value = load;
  }
  setText(p50Cell, load > 0 ? seconds(p50) : "–");
  setText(p95Cell, load > 0 ? seconds(p95) : "–");
  setText(errorCell, load > 0 ? percent(errors) : "–");
  errorCell.classList.toggle("high", errors > limit);
}

/** The chosen endpoint above the charts, and the way back. @param {State} state @param {(endpoint: string | null) => void} choose */
export function showChosen(state, choose) {
  const bar = byId("chosen");
  const { endpoint } = state.view;
  bar.hidden = endpoint === null;
  if (endpoint === null) return;
  fill(bar, element("span", {}, "Charts show only ", element("b", {}, endpoint)), element("button", { type: "button", class: "quiet", click: () => choose(null) }, "Show all endpoints"));
}

