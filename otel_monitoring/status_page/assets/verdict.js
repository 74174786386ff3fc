// Is it well, since when not, and why: the first card, the tab's title and icon, and the bar of a lost connection.

import { byId, element, fill, setText } from "./dom.js";
import { clockSeconds, duration, exact, moment, plural } from "./format.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Status} Status */

/** @typedef {{name: string, sign: string, word: string, shape: string}} Look */

/** @type {Look} */
const UNKNOWN = { name: "unknown", sign: "○", word: "Unknown", shape: '<circle cx="8" cy="8" r="5.5" fill="none" stroke="#7a8691" stroke-width="3"/>' };
/** @type {Map<string, Look>} */
const LOOKS = new Map([
  ["healthy", { name: "healthy", sign: "●", word: "Healthy", shape: '<circle cx="8" cy="8" r="7" fill="#0a8f7c"/>' }],
  ["degraded", { name: "degraded", sign: "▲", word: "Degraded", shape: '<path d="M8 1 15.5 15H.5z" fill="#c98200"/>' }],
  ["unhealthy", { name: "unhealthy", sign: "■", word: "Unhealthy", shape: '<path d="M1.5 1.5h13v13h-13z" fill="#d5431b"/>' }],
]);

/** A worker of a later version may send a state that this page has no word for: it is unknown here. @param {string} status */
function lookOf(status) {
  return LOOKS.get(status) ?? UNKNOWN;
}

/** The sign of a state and its word, which never appear apart. @param {Status} status @param {string} [word] */
export function stateOf(status, word) {
  const look = lookOf(status);
  return element("span", { class: `state ${look.name}` }, element("span", { "aria-hidden": "true", class: "sign" }, look.sign), ` ${word ?? look.word}`);
}

/**
 * What holds now. Where nothing was heard for two intervals, nothing is known.
 * @param {State} state
 * @returns {Status}
 */
export function statusNow(state) {
  return state.update === null || isOld(state) ? "unknown" : state.update.status;
}

/** Seconds since the update, as its reader's clock has it. @param {State} state */
function age(state) {
  return (Date.now() - state.receivedAt) / 1000;
}

/** @param {State} state */
function isOld(state) {
  return state.update !== null && state.connection.state !== "paused" && age(state) > 2 * state.update.interval + 3;
}

/** @param {State} state */
export function showVerdict(state) {
  const { update } = state;
  const status = statusNow(state);
  document.body.classList.toggle("old", isOld(state));
  showTab(status, update?.service.name ?? "");
  if (update === null) return;
  const { name, environment, version } = update.service;
  fill(
    byId("service"),
    element("b", {}, name),
    ...[environment, version && `v${version.replace(/^v(?=\d)/, "")}`].filter(Boolean).map((text) => element("span", {}, text)),
  );
  const verdict = byId("verdict");
  if (verdict.dataset.status !== status) {
    verdict.dataset.status = status;
    fill(verdict, stateOf(status));
  }
  showSince(state, status);
  const reasons = update.reasons.join("; ");
  setText(byId("reasons"), isOld(state) ? `Last known: ${lookOf(update.status).word.toLowerCase()}. ${sentence(reasons)}` : sentence(reasons) || calm(state));
  setText(byId("incomplete"), [update.incomplete && `Incomplete: ${update.incomplete}`, update.store_problem].filter(Boolean).join(" · "));
}

/** @param {State} state @param {Status} status */
function showSince(state, status) {
  const since = status === state.update?.status ? (state.update.since ?? null) : null;
  const target = byId("since");
  if (since === null || state.update === null) {
    setText(target, isOld(state) ? `nothing heard for ${duration(age(state))}` : "");
    return;
  }
  const now = state.update.time + age(state);
  target.title = exact(since);
  setText(target, status === "healthy" ? `since ${moment(since, now)}` : `since ${moment(since, now)} (${duration(now - since)})`);
}

/** @param {string} text */
function sentence(text) {
  return text && `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** @param {State} state */
function calm(state) {
  const { update } = state;
  if (update === null) return "";
  const checked = update.database.status === "unknown" ? "" : `the database answers${update.database.ping === null ? "" : ` in ${duration0(update.database.ping)}`}, `;
  return sentence(`${checked}${update.firing_count === 0 ? "no alert fires" : plural(update.firing_count, "alert") + (update.firing_count === 1 ? " fires" : " fire")}`);
}

/** @param {number} ms */
function duration0(ms) {
  return `${ms < 10 ? Number(ms.toFixed(1)) : Math.round(ms)}\u00a0ms`;
}

/** The line of the head that changes every second. @param {State} state */
export function showAge(state) {
  const { update, connection } = state;
  if (update === null) return;
  const instances = plural(update.instance_count, "instance");
  const heard = age(state);
  const when = connection.state === "paused" ? `paused, figures of ${clockSeconds(state.receivedAt / 1000)}` : `updated ${heard < 1.5 ? "now" : `${duration(heard)} ago`}`;
  setText(byId("updated"), `${instances} · ${when}`);
  byId("updated").title = exact(state.receivedAt / 1000);
}

/** The bar on top while the connection is lost. @param {State} state @param {() => void} retry */
export function showLost(state, retry) {
  const bar = byId("lost");
  const { connection } = state;
  bar.hidden = connection.state !== "lost";
  if (connection.state !== "lost") return;
  const left = Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000));
  const figures = state.update === null ? "" : ` These figures are of ${clockSeconds(state.receivedAt / 1000)}.`;
  if (bar.childElementCount === 0) {
    fill(bar, element("span", { id: "lost-text" }), element("span", { id: "lost-when", "aria-live": "off" }), element("button", { type: "button", click: retry }, "Try now"));
  }
  setText(byId("lost-text"), `Connection lost: ${connection.problem}${figures}`);
  setText(byId("lost-when"), left > 0 ? `Next try in ${left} s.` : "Trying …");
}

/** @param {Status} status @param {string} name */
function showTab(status, name) {
  const { sign, word, shape } = lookOf(status);
  const title = `${sign} ${word}${name && ` · ${name}`}`;
  if (document.title !== title) document.title = title;
  const icon = `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${shape}</svg>`)}`;
  const link = /** @type {HTMLLinkElement} */ (byId("icon"));
  if (link.href !== icon) link.href = icon;
}

