// What fires, since when, and what to do about it; what is muted.

import { acknowledge, atOnce, mute, unmute } from "./acting.js";
import { byId, element, fill, keep, setText } from "./dom.js";
import { showEvidence } from "./evidence.js";
import { duration, exact, moment, plural, unix, words } from "./format.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Firing} Firing */
/** @typedef {import("./types.js").Mute} Mute */

const SIGNS = /** @type {Map<string, [sign: string, state: string]>} */ (
  new Map([
    ["critical", ["■", "unhealthy"]],
    ["error", ["■", "unhealthy"]],
    ["warning", ["▲", "degraded"]],
  ])
);
/** What to look at first, by type; a rule's runbook says more. */
const ADVICE = new Map([
  ["database_down", "Check that the database runs and can be reached; the error is under Database."],
  ["database_slow", "Look under Database: which command is slow, and whether the pool is used up."],
  ["high_error_rate", "Look under Errors: which exception, which route, and whether it is new."],
  ["api_timeout", "Sort the endpoints by p95, click the slowest, and look at Database and Resources in that time."],
  ["high_cpu", "Look under Resources: which instance, and since which release."],
  ["high_memory", "Look under Resources: whether memory grows without end, and since which release."],
  ["security_alert", "Many requests were refused: look which clients send them."],
]);

/** A severity with its sign. @param {string} severity */
export function severityOf(severity) {
  const [sign, state] = SIGNS.get(severity) ?? ["○", "unknown"];
  return element("span", { class: `state ${state}` }, element("span", { "aria-hidden": "true", class: "sign" }, sign), ` ${severity}`);
}

/** Labels in one line. @param {Record<string, string>} labels */
export function labelsOf(labels) {
  return Object.entries(labels).map(([name, value]) => element("span", { class: "label" }, `${name}=${value}`));
}

/** @param {State} state @param {() => void} changed called when something was muted or is muted no more */
export function showFiring(state, changed) {
  const { update } = state;
  const section = byId("firing");
  if (update === null) return;
  section.hidden = update.firing_count === 0 && update.mute_count === 0;
  byId("firing-card").hidden = update.firing_count === 0;
  setText(byId("firing-title"), `Firing (${update.firing_count})`);
  const now = update.time;
  // What another alert explains would push everything else off the screen.
  const explained = update.firing.filter((alert) => alert.inhibited);
  list(byId("firing-list"), update.firing.filter((alert) => !alert.inhibited), now, changed);
  list(byId("explained-list"), explained, now, changed);
  byId("explained").hidden = explained.length === 0;
  setText(byId("explained-title"), `${plural(explained.length, "alert")} explained by another one`);
  byId("mutes").hidden = update.mute_count === 0;
  setText(byId("mutes-title"), `Muted (${update.mute_count})`);
  keep(byId("mutes-list"), update.mutes, (one) => one.id, (one) => muteRow(one, now, changed), () => {});
}

/** @param {HTMLElement} place @param {Firing[]} alerts @param {number} now @param {() => void} changed */
function list(place, alerts, now, changed) {
  keep(
    place,
    alerts,
    (alert) => `${alert.incident} ${alert.rule}`,
    (alert) => row(alert, changed),
    (item, alert) => refresh(item, alert, now),
  );
}

/** @param {Firing} alert @param {() => void} changed */
function row(alert, changed) {
  const place = element("div", { class: "acting" });
  const advice = ADVICE.get(alert.type);
  return element(
    "li",
    { class: "alert" },
    element(
      "div",
      { class: "line" },
      severityOf(alert.severity),
      element("b", {}, alert.rule === alert.type ? words(alert.type) : `${words(alert.type)} · ${alert.rule}`),
      element("span", { class: "when", title: exact(unix(alert.since)) }),
      ...labelsOf(alert.labels),
      element("span", { class: "hushed" }),
      element("span", { class: "grow" }),
      element(
        "span",
        { class: "buttons" },
        action("Mute …", () => mute(place, alert, changed)),
        action("Acknowledge …", () => acknowledge(place, alert, changed)),
      ),
    ),
    element("p", { class: "why" }),
    element("div", { class: "evidence" }),
    element("p", { class: "acknowledged" }),
    advice && element("p", { class: "advice" }, advice),
    place,
  );
}

/** @param {HTMLElement} item @param {Firing} alert @param {number} now */
function refresh(item, alert, now) {
  const since = unix(alert.since);
  const set = (/** @type {string} */ name, /** @type {string} */ text) => {
    const target = item.querySelector(name);
    if (target !== null) setText(target, text);
  };
  set(".when", `since ${moment(since, now)} · ${duration(now - since)}${alert.times ? ` · ${plural(alert.times, "time")}` : ""}`);
  set(".hushed", alert.dry_run ? "tried out: not sent" : alert.muted ? "muted" : alert.inhibited ? "explained by another alert" : "");
  set(".why", alert.message);
  const evidence = item.querySelector(".evidence");
  if (evidence !== null) showEvidence(evidence, alert.evidence);
  const { acknowledged } = alert;
  set(".acknowledged", acknowledged ? `Acknowledged ${moment(unix(acknowledged.at), now)}${acknowledged.author && ` by ${acknowledged.author}`}${acknowledged.reason && `: ${acknowledged.reason}`}` : "");
}

/** @param {string} text @param {() => void} act */
export function action(text, act) {
  return element("button", { type: "button", click: act }, text);
}

/** @param {Mute} one @param {number} now @param {() => void} changed */
function muteRow(one, now, changed) {
  const until = unix(one.until);
  const place = element("span", { class: "problem", role: "status" });
  return element(
    "li",
    { class: "line" },
    element("b", {}, words(one.type ?? one.rule ?? "every alert")),
    ...labelsOf(one.labels),
    element("span", { title: exact(until) }, `until ${moment(until, now)}`),
    element("span", { class: "muted" }, [one.author && `by ${one.author}`, one.reason].filter(Boolean).join(": ")),
    element("span", { class: "grow" }),
    action("Unmute", () => void atOnce(() => unmute(one), place, changed)),
    place,
  );
}

/** Offer to mute any type. @param {() => void} changed */
export function offerMuting(changed) {
  const place = byId("mute-any-form");
  fill(byId("mute-any"), action("Mute a type of alert …", () => mute(place, null, changed)));
}
