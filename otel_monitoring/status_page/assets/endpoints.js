// The endpoints: sorted, filtered, in the last minutes or the time shown; a click narrows the charts to one.

import { showCourse } from "./course.js";
import { byId, element, fill, keep, setText } from "./dom.js";
import { percent, plural, rate, seconds } from "./format.js";
import { inWords } from "./view.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").EndpointFigures} EndpointFigures */
/** @typedef {{name: string, methods: string, row: EndpointFigures, course: (number | null)[] | null}} Endpoint */

const SHOWN = 20;

/** @type {Record<string, (a: Endpoint, b: Endpoint) => number>} */
const ORDERS = {
  load: (a, b) => b.row[0] - a.row[0],
  p95: (a, b) => (b.row[2] ?? 0) - (a.row[2] ?? 0),
  errors: (a, b) => b.row[3] - a.row[3] || b.row[0] - a.row[0],
  name: (a, b) => a.name.localeCompare(b.name),
};

/** Whether those that come first are not enough. @param {State} state */
export function wantsEveryEndpoint({ view, whole }) {
  return whole || view.filter !== "" || view.sort === "name" || view.figures === "range";
}

/** @param {State} state */
export function lacksEndpoints(state) {
  return state.update !== null && wantsEveryEndpoint(state) && state.update.endpoints.length < state.update.endpoint_count;
}

/** @param {State} state @returns {Endpoint[]} */
function endpointsOf({ update, endpoints: past, view }) {
  const present = update?.endpoints ?? [];
  const pasts = new Map((past?.endpoints ?? []).map(([name, ...rest]) => [name, rest]));
  const course = (/** @type {string} */ name) => pasts.get(name)?.[4] ?? null;
  if (view.figures === "range" && past !== null) {
    const methods = new Map(present.map(([name, names]) => [name, names]));
    return past.endpoints.map(([name, load, p50, p95, errors]) => ({ name, methods: methods.get(name) ?? "", row: [load, p50, p95, errors], course: course(name) }));
  }
  return present.map(([name, methods, ...row]) => ({ name, methods, row, course: course(name) }));
}

/** @param {State} state @param {(endpoint: string | null) => void} choose @param {(whole: boolean) => void} showWhole */
export function showEndpoints(state, choose, showWhole) {
  const { update, view, whole } = state;
  if (update === null) return;
  const filter = view.filter.toLowerCase();
  const all = endpointsOf(state);
  const count = view.figures === "range" && state.endpoints !== null ? all.length : update.endpoint_count;
  const found = all.filter((one) => `${one.methods} ${one.name}`.toLowerCase().includes(filter)).sort(ORDERS[view.sort]);
  const shown = whole ? found : found.slice(0, SHOWN);
  const limit = update.thresholds.error_rate_percent ?? 5;
  keep(byId("endpoints-rows"), shown, (one) => one.name, (one) => row(one, choose), (item, one) => refresh(item, one, view.endpoint === one.name, limit));
  const time = view.figures === "range" ? inWords(view.range) : `the last ${plural(Math.max(1, Math.round(update.now.seconds / 60)), "minute")}`;
  const lacks = lacksEndpoints(state);
  const about = filter === "" ? `${plural(count, "endpoint")} with requests in ${time}` : `${found.length} of ${plural(count, "endpoint")}`;
  setText(byId("endpoints-about"), lacks && state.connection.state === "paused" ? `${about}. Resume to look at every one` : about);
  byId("endpoints-table").hidden = found.length === 0;
  const empty = all.length === 0 ? `No requests in ${time}. Requests to the application appear here within seconds.` : found.length === 0 && !lacks ? `No endpoint contains “${view.filter}”.` : "";
  setText(byId("endpoints-empty"), empty);
  const more = byId("endpoints-more");
  const matching = filter === "" ? count : found.length;
  more.hidden = matching <= SHOWN;
  if (more.hidden) return;
  const text = whole ? `Show the first ${SHOWN}` : `Show all ${matching}`;
  if (more.textContent !== text) fill(more, element("button", { type: "button", click: () => showWhole(!whole) }, text));
}

/** @param {Endpoint} one @param {(endpoint: string | null) => void} choose */
function row(one, choose) {
  const pick = () => choose(one.name);
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("button", { type: "button", class: "pick", click: pick }, element("span", { class: "method" }, one.methods), element("span", { class: "route" }, one.name))),
    element("td", { class: "course" }),
    ...["load", "p50", "p95", "errors"].map((label) => element("td", { "data-label": label })),
  );
}

/** @param {HTMLElement} item @param {Endpoint} one @param {boolean} isChosen @param {number} limit */
function refresh(item, one, isChosen, limit) {
  const [load, p50, p95, errors] = one.row;
  item.classList.toggle("chosen", isChosen);
  item.querySelector("button")?.setAttribute("aria-pressed", String(isChosen));
  const [, courseCell, ...cells] = /** @type {HTMLElement[]} */ ([...item.children]);
  if (courseCell !== undefined) showCourse(courseCell, one.course, true);
  [rate(load), ...(load > 0 ? [seconds(p50), seconds(p95), percent(errors)] : ["–", "–", "–"])].forEach((text, index) => {
    const cell = cells[index];
    if (cell !== undefined) setText(cell, text);
  });
  cells[3]?.classList.toggle("high", errors > limit);
}

/** The chosen endpoint above the charts, and the way back. @param {State} state @param {(endpoint: string | null) => void} choose */
export function showChosen(state, choose) {
  const bar = byId("chosen");
  const { endpoint } = state.view;
  bar.hidden = endpoint === null;
  if (endpoint === null) return;
  fill(bar, element("span", {}, "Charts show only ", element("b", {}, endpoint)), element("button", { type: "button", click: () => choose(null) }, "Show all endpoints"));
}
