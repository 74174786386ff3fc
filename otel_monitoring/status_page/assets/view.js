// What the page shows, in its URL: a colleague with the link sees the same, and the back button works. Never the token.

/** @typedef {import("./types.js").View} View */

export const RANGES = /** @type {const} */ ([
  ["15m", "15 min", 900],
  ["1h", "1 hour", 3600],
  ["6h", "6 hours", 21600],
  ["1d", "1 day", 86400],
  ["3d", "3 days", 259200],
  ["7d", "7 days", 604800],
  ["30d", "30 days", 2592000],
]);
export const SORTS = /** @type {const} */ ([["load", "load"], ["p95", "p95"], ["errors", "errors"], ["name", "name"]]);

/** @returns {View} */
export function viewOfUrl() {
  const asked = new URLSearchParams(location.search);
  const range = asked.get("range") ?? "";
  const sort = asked.get("sort") ?? "";
  return {
    range: RANGES.some(([name]) => name === range) ? range : "1h",
    endpoint: asked.get("endpoint"),
    sort: SORTS.some(([name]) => name === sort) ? sort : "load",
    filter: asked.get("filter") ?? "",
    figures: asked.get("figures") === "range" ? "range" : "now",
  };
}

/**
 * @param {View} view
 * @param {boolean} isStep whether the back button leads to the view before
 */
export function showInUrl(view, isStep) {
  const asked = new URLSearchParams();
  if (view.range !== "1h") asked.set("range", view.range);
  if (view.endpoint !== null) asked.set("endpoint", view.endpoint);
  if (view.sort !== "load") asked.set("sort", view.sort);
  if (view.filter !== "") asked.set("filter", view.filter);
  if (view.figures !== "now") asked.set("figures", view.figures);
  const query = asked.toString();
  const url = location.pathname + (query ? `?${query}` : "");
  if (isStep) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

/** Seconds of a range. @param {string} range */
export function secondsOf(range) {
  return RANGES.find(([name]) => name === range)?.[2] ?? 3600;
}

/** A range in a sentence: `the last hour`. @param {string} range */
export function inWords(range) {
  const words = RANGES.find(([name]) => name === range)?.[1] ?? "1 hour";
  return `the last ${words.replace(/^1 /, "")}`;
}
