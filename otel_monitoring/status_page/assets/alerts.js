// The history of alerts, loaded when somebody opens it, and again when there is a new one.

import { byId, element, fill } from "./dom.js";
import { exact, moment, unix, words } from "./format.js";
import { labelsOf, severityOf } from "./firing.js";
import { get } from "./http.js";

/** @typedef {import("./types.js").State} State */

const LIMIT = 100;
let shown = "";

/** @param {State} state @param {boolean} isOpen */
export async function showAlerts(state, isOpen) {
  const { update } = state;
  if (update === null || !isOpen || shown === update.event + (update.event && "!")) return;
  const place = byId("alerts-list");
  if (update.event === "") {
    fill(place, element("p", { class: "empty" }, "No alert was ever recorded. Alerts appear here when they fire, and when they end."));
    return;
  }
  shown = `${update.event}!`;
  try {
    const events = await get(`alerts/history?limit=${LIMIT}`);
    fill(place, element("ol", { class: "events" }, ...events.map((/** @type {any} */ event) => item(event, update.time))));
  } catch (error) {
    shown = "";
    fill(place, element("p", { class: "problem" }, `It cannot be loaded: ${error instanceof Error ? error.message : error}`));
  }
}

/** @param {any} event of /alerts/history @param {number} now */
function item(event, now) {
  const at = unix(event.timestamp);
  const isEnd = event.status === "resolved";
  return element(
    "li",
    { class: "line" },
    element("span", { class: "when", title: exact(at) }, moment(at, now)),
    isEnd ? element("span", { class: "state healthy" }, element("span", { "aria-hidden": "true", class: "sign" }, "●"), " resolved") : severityOf(event.severity),
    element("b", {}, words(event.type)),
    ...labelsOf(event.labels),
    element("span", {}, event.message),
    event.outcome !== "notified" && element("span", { class: "muted" }, words(event.outcome)),
  );
}
