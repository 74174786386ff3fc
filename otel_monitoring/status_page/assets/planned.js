// Planned work, and the objectives with their error budgets: loaded now and then, since they change slowly.

import { atOnce } from "./acting.js";
import { byId, element, fill, keep, setText } from "./dom.js";
import { action, labelsOf } from "./firing.js";
import { exact, moment, percent, unix, words } from "./format.js";
import { Refused, get, remove } from "./http.js";

/** @typedef {import("./types.js").Objective} Objective */
/** @typedef {import("./types.js").PlannedWindow} PlannedWindow */
/** @typedef {import("./store.js").Store} Store */

const PAUSE = 60_000;
const STATES = /** @type {Map<string, [sign: string, state: string, word: string]>} */ (
  new Map([
    ["ok", ["●", "healthy", "kept"]],
    ["burning", ["▲", "degraded", "burning"]],
    ["exhausted", ["■", "unhealthy", "used up"]],
    ["blind", ["○", "unknown", "not known"]],
  ])
);

/** @param {Store} store */
export function createPlanned(store) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  async function load() {
    clearTimeout(timer);
    timer = setTimeout(load, PAUSE);
    if (document.hidden || store.get().connection.state === "paused") return;
    const [objectives, windows] = await Promise.all([asked("health/objectives"), asked("alerts/maintenance")]);
    if (objectives !== null) store.set({ objectives: objectives.objectives });
    if (windows !== null) store.set({ windows });
  }
  return { load };
}

/** @param {string} path @returns {Promise<any>} null: it cannot be had now */
async function asked(path) {
  try {
    return await get(path);
  } catch (error) {
    if (error instanceof Refused || error instanceof TypeError || error instanceof DOMException) return null;
    throw error;
  }
}

/** @param {Objective[]} objectives */
export function showObjectives(objectives) {
  byId("objectives").hidden = objectives.length === 0;
  keep(byId("objectives-list"), objectives, (one) => one.name, row, refresh);
}

/** @param {Objective} one */
function row(one) {
  return element("li", { class: "line" }, element("span", { class: "verdict-of" }), element("b", {}, words(one.name)), element("span", { class: "muted", title: one.good }, `${one.objective_percent} % ${one.good}`), element("span", { class: "text" }));
}

/** @param {HTMLElement} item @param {Objective} one */
function refresh(item, one) {
  const place = item.querySelector(".verdict-of");
  if (place !== null && item.dataset.state !== one.state) {
    item.dataset.state = one.state;
    const [sign, state, word] = STATES.get(one.state) ?? ["○", "unknown", one.state];
    fill(place, element("span", { class: `state ${state}` }, element("span", { "aria-hidden": "true", class: "sign" }, sign), ` ${word}`));
  }
  const text = item.querySelector(".text");
  if (text !== null) setText(text, `${one.text.charAt(0).toUpperCase()}${one.text.slice(1)}${one.dry_run ? " (tried out: no alert is sent)" : ""}${one.good_percent === null ? "" : ` · now ${percent(one.good_percent)}`}`);
}

/** @param {PlannedWindow[]} windows @param {number} now @param {() => void} changed */
export function showWindows(windows, now, changed) {
  byId("planned").hidden = windows.length === 0;
  keep(byId("planned-list"), windows, (one) => `${one.id} ${one.opens} ${one.open}`, (one) => windowRow(one, now, changed), () => {});
}

/** @param {PlannedWindow} one @param {number} now @param {() => void} changed */
function windowRow(one, now, changed) {
  const [opens, closes] = [unix(one.opens), unix(one.closes)];
  const problem = element("span", { class: "problem", role: "status" });
  return element(
    "li",
    { class: "line" },
    element("b", {}, one.open ? "now" : "planned"),
    element("span", { title: `${exact(opens)} to ${exact(closes)}` }, `${moment(opens, now)} to ${moment(closes, now)}${one.weekly ? ", every week" : ""}`),
    element("span", {}, words(one.type ?? one.rule ?? "every alert")),
    ...labelsOf(one.labels),
    element("span", { class: "muted" }, [one.author && `by ${one.author}`, one.reason].filter(Boolean).join(": ")),
    element("span", { class: "grow" }),
    action("Remove", () => void atOnce(() => remove(`alerts/maintenance/${encodeURIComponent(one.id)}`), problem, changed)),
    problem,
  );
}
