// The versions and the settings in force, loaded when somebody opens them. The service leaves secrets out.

import { byId, element, fill } from "./dom.js";
import { exact, moment } from "./format.js";
import { get } from "./http.js";

/** @typedef {import("./types.js").State} State */

let isLoaded = false;

/** @param {boolean} isOpen */
export async function showAbout(isOpen) {
  if (!isOpen || isLoaded) return;
  isLoaded = true;
  const place = byId("about-content");
  try {
    const { versions, settings } = await get("status/about");
    fill(place, table("Versions", Object.entries(versions)), table("Settings in force", settings));
  } catch (error) {
    isLoaded = false;
    fill(place, element("p", { class: "problem" }, `It cannot be loaded: ${error instanceof Error ? error.message : error}`));
  }
}

/** @param {string} title @param {any[][]} rows name, value, and whether it is the default */
function table(title, rows) {
  return element(
    "table",
    { class: "facts" },
    element("caption", {}, title),
    element("tbody", {}, ...rows.map(([name, value, isDefault]) => element("tr", { class: isDefault ? "default" : "" }, element("th", { scope: "row" }, name), element("td", {}, value)))),
  );
}

/** The releases of the range, newest first. @param {State} state */
export function showReleases(state) {
  const { requests, update } = state;
  if (requests === null || update === null) return;
  const found = [...requests.releases].reverse().slice(0, 20);
  fill(
    byId("releases"),
    found.length === 0
      ? element("p", { class: "empty" }, "No release in this time.")
      : element("ol", { class: "events" }, ...found.map((one) => element("li", { class: "line" }, element("span", { class: "when", title: exact(one.time) }, moment(one.time, update.time)), element("b", {}, one.version)))),
  );
}
