// The processes of the service: how each fares, and what it uses.

import { byId, element, keep, setText } from "./dom.js";
import { count, duration, mebibytes, percent, plural, rate, seconds } from "./format.js";
import { stateOf } from "./verdict.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").InstanceRow} InstanceRow */

const COLUMNS = ["state", "version", "up", "load", "in flight", "CPU", "memory", "loop lag", "ping"];

/** @param {State} state */
export function showInstances(state) {
  const { update } = state;
  if (update === null) return;
  keep(byId("instances-rows"), update.instances, ([host, pid]) => `${host} ${pid}`, row, refresh);
  const more = update.instance_count - update.instances.length;
  setText(byId("instances-more"), more > 0 ? `and ${plural(more, "more instance")}` : "");
}

/** @param {InstanceRow} row */
function row([host, pid]) {
  return element("tr", {}, element("th", { scope: "row" }, host, element("span", { class: "route" }, `pid ${pid}`), element("span", { class: "leads" })), ...COLUMNS.map((label) => element("td", { "data-label": label })));
}

/** @param {HTMLElement} item @param {InstanceRow} row */
function refresh(item, [, , version, status, uptime, age, leads, load, inFlight, cpu, memory, lag, ping]) {
  const [name, stateCell, ...cells] = /** @type {HTMLElement[]} */ ([...item.children]);
  const leader = name?.querySelector(".leads") ?? null;
  if (leader !== null) setText(leader, leads ? "leads" : "");
  if (stateCell !== undefined && stateCell.dataset.status !== status) {
    stateCell.dataset.status = status;
    stateCell.replaceChildren(stateOf(status));
  }
  const texts = [version, duration(uptime + age), rate(load), count(inFlight), percent(cpu), mebibytes(memory), seconds(lag), ping === null ? "–" : seconds(ping / 1000)];
  texts.forEach((text, index) => {
    const cell = cells[index];
    if (cell !== undefined) setText(cell, text);
  });
}
