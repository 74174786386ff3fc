// Acting, in place: what it does is said before it is done, and it can be undone.

import { element, fill, setText } from "./dom.js";
import { moment, unix, words } from "./format.js";
import { post, remove } from "./http.js";

/** @typedef {import("./types.js").Labels} Labels */
/** @typedef {import("./types.js").Mute} Mute */
/** @typedef {import("./types.js").Firing} Firing */
/** @typedef {HTMLInputElement | HTMLSelectElement} Control */

/**
 * @typedef {object} Act
 * @property {string} name what it is called, on the button
 * @property {(HTMLElement | null)[]} fields
 * @property {() => string} says what it will do
 * @property {() => Promise<{text: string, undo: () => Promise<unknown>}>} send
 */

const DURATIONS = /** @type {const} */ ([[900, "15 min"], [3600, "1 hour"], [14400, "4 hours"], [86400, "1 day"], [604800, "1 week"]]);
const TYPES = [
  "database_down", "database_slow", "high_error_rate", "high_cpu", "high_memory", "api_timeout",
  "billing_failure", "delivery_issue", "security_alert", "custom",
];
let reader = "";

/**
 * Open the form of an act at a place, or close it.
 * @param {HTMLElement} place
 * @param {Act} act
 * @param {() => void} changed called when it was done, and when it was undone
 */
function open(place, act, changed) {
  const isOpen = place.querySelector("form")?.getAttribute("aria-label") === act.name;
  fill(place);
  if (isOpen) return;
  const says = element("p", { class: "hides" });
  const problem = element("p", { class: "problem", role: "alert" });
  const say = () => setText(says, act.says());
  const form = element(
    "form",
    {
      class: "act",
      "aria-label": act.name,
      change: say,
      submit: async (/** @type {Event} */ event) => {
        event.preventDefault();
        setText(problem, "");
        try {
          done(place, await act.send(), changed);
          changed();
        } catch (error) {
          setText(problem, `It was not done: ${reasonOf(error)}`);
        }
      },
      keydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Escape") fill(place);
      },
    },
    ...act.fields,
    says,
    element("div", { class: "buttons" }, element("button", { type: "submit" }, act.name), element("button", { type: "button", click: () => fill(place) }, "Cancel")),
    problem,
  );
  fill(place, form);
  say();
  /** @type {HTMLElement | null} */ (form.querySelector("select, input:not([type=checkbox])"))?.focus();
}

/** @param {HTMLElement} place @param {{text: string, undo: () => Promise<unknown>}} result @param {() => void} changed */
function done(place, result, changed) {
  const problem = element("span", { class: "problem", role: "status" });
  const undo = element(
    "button",
    {
      type: "button",
      click: async () => {
        try {
          await result.undo();
          fill(place);
          changed();
        } catch (error) {
          setText(problem, `It was not undone: ${reasonOf(error)}`);
        }
      },
    },
    "Undo",
  );
  fill(place, element("p", { class: "done line", role: "status" }, element("span", {}, result.text), undo, problem));
  undo.focus();
}

/** @param {unknown} error */
function reasonOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** The fields that every act has. */
function signature() {
  const reason = element("input", { name: "reason", maxlength: 500, autocomplete: "off", placeholder: "why" });
  const author = element("input", { name: "author", maxlength: 200, autocomplete: "name", value: reader, placeholder: "your name" });
  const fields = [element("label", { class: "wide" }, "Reason", reason), element("label", {}, "By", author)];
  return {
    fields,
    values() {
      reader = author.value.trim();
      return { reason: reason.value.trim(), author: reader };
    },
  };
}

/**
 * Mute alerts: of a type with some labels, or of any type.
 * @param {HTMLElement} place
 * @param {{type: string, labels: Labels} | null} about null: any type may be chosen
 * @param {() => void} changed
 */
export function mute(place, about, changed) {
  const type = about === null ? element("select", { name: "type" }, ...TYPES.map((name) => element("option", { value: name }, words(name)))) : null;
  const last = element("select", { name: "duration" }, ...DURATIONS.map(([value, text]) => element("option", { value, selected: value === 3600 }, text)));
  const labels = Object.entries(about?.labels ?? {}).map(([name, value]) => ({ name, value, box: element("input", { type: "checkbox", checked: true }) }));
  const signed = signature();
  const chosen = () => ({
    type: type?.value ?? about?.type ?? "",
    duration_seconds: Number(last.value),
    labels: Object.fromEntries(labels.filter(({ box }) => box.checked).map(({ name, value }) => [name, value])),
  });
  open(
    place,
    {
      name: "Mute",
      fields: [
        type && element("label", {}, "Type", type),
        element("label", {}, "For", last),
        ...signed.fields,
        ...labels.map(({ name, value, box }) => element("label", { class: "check" }, box, `only ${name}=${value}`)),
      ].filter((field) => field !== null),
      says() {
        const now = Date.now() / 1000;
        const { type: kind, duration_seconds: duration, labels: some } = chosen();
        const which = Object.entries(some).map(([name, value]) => `${name}=${value}`).join(", ");
        return `Until ${moment(now + duration, now)} nobody is notified of ${words(kind)}${which && ` with ${which}`}. This page and the history go on showing it.`;
      },
      async send() {
        /** @type {Mute} */
        const made = await post("alerts/mutes", { ...chosen(), ...signed.values() });
        return { text: `Muted until ${moment(unix(made.until), Date.now() / 1000)}.`, undo: () => unmute(made) };
      },
    },
    changed,
  );
}

/** End a mute. @param {Mute} one */
export function unmute(one) {
  return remove(`alerts/mutes/${encodeURIComponent(one.id)}`);
}

/**
 * Say that somebody looks into an alert.
 * @param {HTMLElement} place
 * @param {Firing} alert
 * @param {() => void} changed
 */
export function acknowledge(place, alert, changed) {
  const signed = signature();
  open(
    place,
    {
      name: "Acknowledge",
      fields: signed.fields,
      says: () => "It is not notified again, and the others see that you look into it. It goes on firing until it ends.",
      async send() {
        const path = `alerts/${encodeURIComponent(alert.incident)}/acknowledge`;
        await post(path, signed.values());
        return { text: "Acknowledged.", undo: () => remove(path) };
      },
    },
    changed,
  );
}

/** Do something at once, and say why where it could not be done. @param {() => Promise<unknown>} act @param {HTMLElement} problem @param {() => void} changed */
export async function atOnce(act, problem, changed) {
  try {
    await act();
    changed();
  } catch (error) {
    setText(problem, `It was not done: ${reasonOf(error)}`);
  }
}
