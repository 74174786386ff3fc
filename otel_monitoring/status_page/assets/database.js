// The database: its state, its commands, its collections.

import { showCourse } from "./course.js";
import { byId, element, fill, keep, setText } from "./dom.js";
import { count, duration, percent, rate, seconds } from "./format.js";
import { stateOf } from "./verdict.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").CommandRow} CommandRow */
/** @typedef {import("./types.js").CollectionRow} CollectionRow */

/** @param {State} state */
export function showDatabase(state) {
  const { update } = state;
  if (update === null) return;
  const { database } = update;
  const isMissing = database.status === "unknown" && database.error === "no database is configured";
  setText(byId("database-empty"), isMissing ? "No database is monitored. Pass one to MonitoringService, or set OTEL_MONITORING_DATABASE_URI." : "");
  byId("database-content").hidden = isMissing;
  fill(byId("database-state"), isMissing ? "" : stateOf(database.status), database.age === null ? "" : ` asked ${duration(database.age)} ago`);
  setText(byId("database-error"), isMissing ? "" : (database.error ?? ""));
  keep(byId("commands-rows"), database.commands, ([command, collection]) => `${command} ${collection}`, commandRow, refreshCommand);
  setText(byId("commands-empty"), database.commands.length === 0 ? "No commands in the last minutes." : "");
  keep(byId("collections-rows"), database.collections, ([name]) => name, collectionRow, (item, row) => refreshCollection(item, row, state.documents[row[0]] ?? null));
  const more = database.collection_count - database.collections.length;
  setText(byId("collections-more"), more > 0 ? `and ${more} more` : database.collections.length === 0 ? "No collections were read yet." : "");
}

/** @param {CommandRow} row */
function commandRow([command, collection]) {
  return element("tr", {}, element("th", { scope: "row" }, command, collection && element("span", { class: "route" }, collection)), ...["load", "p95", "errors"].map((label) => element("td", { "data-label": label })));
}

/** @param {HTMLElement} item @param {CommandRow} row */
function refreshCommand(item, [, , load, p95, errors]) {
  [rate(load), seconds(p95), percent(errors)].forEach((text, index) => {
    const cell = item.children[index + 1];
    if (cell !== undefined) setText(cell, text);
  });
}

/** @param {CollectionRow} row */
function collectionRow([name]) {
  return element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "course" }), ...["documents", "indexes"].map((label) => element("td", { "data-label": label })));
}

/** @param {HTMLElement} item @param {CollectionRow} row @param {(number | null)[] | null} course */
function refreshCollection(item, [, documents, indexes], course) {
  const [, courseCell, documentsCell, indexesCell] = /** @type {HTMLElement[]} */ ([...item.children]);
  if (!courseCell || !documentsCell || !indexesCell) return;
  showCourse(courseCell, course, false);
  setText(documentsCell, count(documents));
  documentsCell.title = `${documents ?? "unknown"}`;
  setText(indexesCell, count(indexes));
}
