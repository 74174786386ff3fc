// Failed requests in groups: which exception, where, how often, since when, in which version.

import { byId, element, fill, keep, setText } from "./dom.js";
import { count, exact, moment, plural, unix } from "./format.js";
import { get } from "./http.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").ErrorRow} ErrorRow */

/** @param {State} state */
export function showErrors(state) {
  const { update } = state;
  if (update === null) return;
  const { groups, count: all } = update.errors;
  byId("errors-table").hidden = groups.length === 0;
  setText(byId("errors-about"), all > groups.length ? `the newest ${groups.length} of ${all} groups` : all > 0 ? plural(all, "group") : "");
  setText(byId("errors-empty"), groups.length === 0 ? "No request has failed. Failed requests appear here, grouped by exception and route." : "");
  keep(byId("errors-rows"), groups, keyOf, row, (item, group) => refresh(item, group, update.time));
}

/** @param {ErrorRow} group */
function keyOf([type, route]) {
  return `${type}\n${route}`;
}

/** @param {ErrorRow} group */
function row([type, route]) {
  const place = element("div", { class: "stack" });
  const details = element(
    "details",
    {
      toggle: () => {
        if (details.open) void showStack(place, type, route);
      },
    },
    element("summary", {}, element("b", {}, type.split(".").pop() ?? type), element("span", { class: "route" }, route)),
    place,
  );
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, details),
    ...["count", "first", "last", "version"].map((label) => element("td", { "data-label": label })),
  );
}

/** @param {HTMLElement} item @param {ErrorRow} group @param {number} now */
function refresh(item, [, , times, first, last, isNew, version], now) {
  const cells = /** @type {HTMLElement[]} */ ([...item.children]);
  const seen = (/** @type {string | null} */ time) => (time === null ? "–" : moment(unix(time), now));
  const texts = [`${count(times)} ×`, seen(first), seen(last), isNew ? `new${version ? ` in ${version}` : ""}` : (version ?? "")];
  texts.forEach((text, index) => {
    const cell = cells[index + 1];
    if (cell !== undefined) setText(cell, text);
  });
  if (cells[2] !== undefined && first !== null) cells[2].title = exact(unix(first));
  if (cells[3] !== undefined && last !== null) cells[3].title = exact(unix(last));
  item.classList.toggle("new", isNew);
}

/** @param {HTMLElement} place @param {string} type @param {string} route */
async function showStack(place, type, route) {
  if (place.childElementCount === 0) fill(place, element("p", { class: "muted" }, "Loading …"));
  try {
    const { errors } = await get("health/errors");
    const found = errors.find((/** @type {any} */ one) => one.type === type && one.route === route);
    fill(
      place,
      element("p", { class: "muted" }, type),
      element("pre", { tabindex: 0 }, found?.stack || (found?.last_seen === null ? "Other processes alone have seen it." : "There was no exception.")),
      found?.trace_id && element("p", { class: "muted" }, `Trace of one of them: ${found.trace_id}`),
    );
  } catch (error) {
    fill(place, element("p", { class: "problem" }, `It cannot be loaded: ${error instanceof Error ? error.message : error}`));
  }
}
