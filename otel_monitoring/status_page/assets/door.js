// Who may see the figures: asks for the admin token, once in a tab, and keeps it in memory only.

import { byId, element, fill } from "./dom.js";
import { useToken } from "./http.js";

/** @typedef {import("./types.js").State} State */

/** @type {import("./types.js").Door | null} */
let shown = null;

/** @param {State} state @param {() => void} enter called with every token */
export function showDoor(state, enter) {
  const { door } = state;
  const place = byId("door");
  place.hidden = door === null;
  byId("content").hidden = door !== null || (state.update === null && state.requests === null);
  if (shown === door) return;
  shown = door;
  if (door === null) {
    fill(place);
    return;
  }
  if (!door.asks) {
    fill(place, element("h1", {}, "Not for everybody"), element("p", {}, door.detail), element("button", { type: "button", click: () => location.reload() }, "Try again"));
    return;
  }
  const token = element("input", { type: "password", id: "token", autocomplete: "current-password", required: true, spellcheck: "false" });
  const form = element(
    "form",
    {
      submit: (/** @type {Event} */ event) => {
        event.preventDefault();
        useToken(token.value.trim());
        enter();
      },
    },
    element("h1", {}, "Status"),
    element("label", { for: "token" }, "Admin token"),
    token,
    element("button", { type: "submit" }, "Show"),
    element("p", { class: "problem", role: "alert" }, door.wrong ? "That is not the token." : ""),
    element("p", { class: "muted" }, "It stays in this tab’s memory, and is gone when you close or reload it."),
  );
  fill(place, form);
  token.focus();
}
