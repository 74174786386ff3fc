// Muting, in place: what it hides is said before it is done, and it can be undone.

import { element, fill, setText } from "./dom.js";
import { moment, unix, words } from "./format.js";
import { post, remove } from "./http.js";

/** @typedef {import("./types.js").Labels} Labels */
/** @typedef {import("./types.js").Mute} Mute */

const DURATIONS = /** @type {const} */ ([[900, "15 min"], [3600, "1 hour"], [14400, "4 hours"], [86400, "1 day"], [604800, "1 week"]]);
const TYPES = [
  "database_down", "database_slow", "high_error_rate", "high_cpu", "high_memory", "api_timeout",
  "billing_failure", "delivery_issue", "security_alert", "custom",
];

/**
 * The form, below what it is about.
 * @param {HTMLElement} place
 * @param {{type: string, labels: Labels}} about an empty type: any may be chosen
 * @param {() => void} changed
 */
export function muteForm(place, about, changed) {
  if (place.childElementCount > 0) {
    fill(place);
    return;
  }
  const type = about.type
    ? null
    : element("select", { name: "type" }, ...TYPES.map((name) => element("option", { value: name }, words(name))));
  const labels = Object.entries(about.labels).map(([name, value]) => {
    const box = element("input", { type: "checkbox", checked: true });
    return { box, name, value, shown: element("label", { class: "check" }, box, `only ${name}=${value}`) };
  });
  const last = element("select", { name: "duration" }, ...DURATIONS.map(([value, text]) => element("option", { value, selected: value === 3600 }, text)));
  const reason = element("input", { name: "reason", maxlength: 500, autocomplete: "off", placeholder: "e.g. known, repaired tomorrow" });
  const author = element("input", { name: "author", maxlength: 200, autocomplete: "name", placeholder: "your name" });
  const hides = element("p", { class: "hides", "aria-live": "polite" });
  const problem = element("p", { class: "problem", role: "alert" });

  const asked = () => ({
    type: type?.value ?? about.type,
    duration_seconds: Number(last.value),
    labels: Object.fromEntries(labels.filter(({ box }) => box.checked).map(({ name, value }) => [name, value])),
    reason: reason.value.trim(),
    author: author.value.trim(),
  });
  const say = () => {
    const { type: kind, duration_seconds: duration, labels: chosen } = asked();
    const now = Date.now() / 1000;
    const which = Object.entries(chosen).map(([name, value]) => `${name}=${value}`).join(", ");
    setText(hides, `Until ${moment(now + duration, now)} nobody is notified of ${words(kind)}${which && ` with ${which}`}. This page and the history go on showing it.`);
  };
  const form = element(
    "form",
    {
      class: "mute",
      "aria-label": "Mute",
      change: say,
      submit: async (/** @type {Event} */ event) => {
        event.preventDefault();
        setText(problem, "");
        try {
          const mute = await post("alerts/mutes", asked());
          muted(place, mute, changed);
          changed();
        } catch (error) {
          setText(problem, `Not muted: ${error instanceof Error ? error.message : error}`);
        }
      },
      keydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Escape") fill(place);
      },
    },
    type && element("label", {}, "Type", type),
    element("label", {}, "For", last),
    element("label", { class: "wide" }, "Reason", reason),
    element("label", {}, "By", author),
    ...labels.map(({ shown }) => shown),
    hides,
    element("div", { class: "buttons" }, element("button", { type: "submit" }, "Mute"), element("button", { type: "button", class: "quiet", click: () => fill(place) }, "Cancel")),
    problem,
  );
  fill(place, form);
  say();
  (type ?? last).focus();
}

/** @param {HTMLElement} place @param {Mute} mute @param {() => void} changed */
function muted(place, mute, changed) {
  const problem = element("span", { class: "problem", role: "status" });
  const undo = element("button", { type: "button", class: "quiet", click: () => unmute(mute, problem, () => (fill(place), changed())) }, "Undo");
  const until = moment(unix(mute.until), Date.now() / 1000);
  fill(place, element("p", { class: "done", role: "status" }, `Muted until ${until}. `, undo, problem));
  undo.focus();
}

/** End a mute. @param {Mute} mute @param {HTMLElement} problem @param {() => void} changed */
export async function unmute(mute, problem, changed) {
  try {
    await remove(`alerts/mutes/${encodeURIComponent(mute.type)}`);
    changed();
  } catch (error) {
    setText(problem, `Still muted: ${error instanceof Error ? error.message : error}`);
  }
}
