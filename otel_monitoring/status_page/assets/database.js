// The database: its state, its commands, its collections.

import { showCourse } from "./course.js";
import { byId, element, fill, keep, setText } from "./dom.js";
import { count, duration, percent, rate, seconds } from "./format.js";
import { stateOf } from "./verdict.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").CommandRow} CommandRow */
/** @typedef {import("./types.js").CollectionRow} CollectionRow */
/** @typedef {import("./types.js").RouteRow} RouteRow */
/** @typedef {import("./types.js").FindingRow} FindingRow */

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
  keep(byId("uses-rows"), database.routes, ([name]) => name, ([name]) => rowOf([name], ["commands", "time", "share"]), refreshUse);
  keep(byId("findings-rows"), database.findings, (row) => row.slice(0, 5).join(" "), findingRow, refreshFinding);
  const more = database.collection_count - database.collections.length;
  setText(byId("collections-more"), more > 0 ? `and ${more} more` : database.collections.length === 0 ? "No collections were read yet." : "");
}

/** @param {(string | HTMLElement)[]} head @param {string[]} labels */
function rowOf(head, labels) {
  return element("tr", {}, element("th", { scope: "row" }, ...head), ...labels.map((label) => element("td", { "data-label": label })));
}

/** @param {HTMLElement} item @param {string[]} texts */
function refreshRow(item, texts) {
  texts.forEach((text, index) => {
    const cell = item.children[index + 1];
    if (cell !== undefined) setText(cell, text);
  });
}

/** @param {HTMLElement} item @param {RouteRow} row */
function refreshUse(item, [, commands, time, share]) {
  refreshRow(item, [`${commands}`, seconds(time), share === null ? "–" : percent(share)]);
}

/** @param {FindingRow} row */
function findingRow([kind, command, collection, shape, where]) {
  return rowOf([`${kind}: ${command} ${collection} ${shape}`, element("span", { class: "route" }, where)], ["once"]);
}

/** @param {HTMLElement} item @param {FindingRow} row */
function refreshFinding(item, [kind, , , , , much]) {
  refreshRow(item, [kind === "N+1" ? `${Math.round(much)} ×` : seconds(much)]);
}

/** @param {CommandRow} row */
function commandRow([command, collection]) {
  return rowOf([command, ...(collection ? [element("span", { class: "route" }, collection)] : [])], ["load", "p95", "errors"]);
}

/** @param {HTMLElement} item @param {CommandRow} row */
function refreshCommand(item, [, , load, p95, errors]) {
  refreshRow(item, [rate(load), seconds(p95), percent(errors)]);
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
