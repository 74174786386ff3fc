// Brings the parts of the page together: one store, what shows it, and what fills it.

import { showAbout, showReleases } from "./about.js";
import { showAlerts } from "./alerts.js";
import { Chart, redrawAll } from "./chart.js";
import { showDatabase } from "./database.js";
import { byId, element, fill, setText } from "./dom.js";
import { showDoor } from "./door.js";
import { lacksEndpoints, showChosen, showEndpoints } from "./endpoints.js";
import { showErrors } from "./errors.js";
import { offerMuting, showFiring } from "./firing.js";
import { count, duration, mebibytes, percent, rate, seconds, zone } from "./format.js";
import { heatmap } from "./heatmap.js";
import { showInstances } from "./instances.js";
import { createPlanned, showObjectives, showWindows } from "./planned.js";
import { createPast } from "./past.js";
import { createStore } from "./store.js";
import { createUpdates } from "./updates.js";
import { showAge, showLost, showVerdict } from "./verdict.js";
import { RANGES, SORTS, inWords, showInUrl, viewOfUrl } from "./view.js";

/** @typedef {import("./types.js").Past} Past */
/** @typedef {import("./types.js").View} View */
/** @typedef {import("./types.js").Now} Now */

const store = createStore({
  view: viewOfUrl(),
  connection: { state: "connecting", retryAt: 0, problem: "" },
  door: null,
  update: null,
  receivedAt: 0,
  whole: false,
  requests: null,
  database: null,
  resources: null,
  endpoints: null,
  objectives: [],
  windows: [],
  documents: {},
  pastProblem: "",
});
const past = createPast(store);
const updates = createUpdates(store);
const planned = createPlanned(store);

// What the reader chooses

/** @param {Partial<View>} changes @param {boolean} [isStep] whether the back button undoes it */
function look(changes, isStep = true) {
  const view = { ...store.get().view, ...changes };
  showInUrl(view, isStep);
  useView(view);
}

/** @param {View} view */
function useView(view) {
  const before = store.get().view;
  store.set({ view });
  if (view.range !== before.range || view.endpoint !== before.endpoint) void past.load();
}

/** @param {string | null} endpoint */
function choose(endpoint) {
  const isSame = store.get().view.endpoint === endpoint;
  look({ endpoint: isSame ? null : endpoint });
  if (endpoint !== null && !isSame) byId("charts").scrollIntoView({ block: "nearest" });
}

/**
 * @param {string} id
 * @param {readonly (readonly [string, string, ...unknown[]])[]} options
 * @param {(value: string) => void} use
 */
function select(id, options, use) {
  const box = /** @type {HTMLSelectElement} */ (byId(id));
  fill(box, ...options.map(([value, text]) => element("option", { value }, text)));
  box.addEventListener("change", () => use(box.value));
}

select("range", RANGES, (range) => look({ range }));
select("sort", SORTS, (sort) => look({ sort }));
const filter = /** @type {HTMLInputElement} */ (byId("filter"));
select("figures", [["now", "the last minutes"], ["range", "the time shown"]], (figures) => look({ figures: figures === "range" ? "range" : "now" }));
filter.addEventListener("input", () => look({ filter: filter.value }, false));
addEventListener("popstate", () => useView(viewOfUrl()));
byId("pause").addEventListener("click", () => (store.get().connection.state === "paused" ? updates.resume() : updates.pause()));

function showView() {
  const { view } = store.get();
  /** @type {HTMLSelectElement} */ (byId("range")).value = view.range;
  /** @type {HTMLSelectElement} */ (byId("sort")).value = view.sort;
  /** @type {HTMLSelectElement} */ (byId("figures")).value = view.figures;
  if (filter.value !== view.filter) filter.value = view.filter;
  setText(byId("charts-about"), `${inWords(view.range)}, times in ${zone()}`);
}

// Dark, light, or as the device has it

const THEMES = ["auto", "light", "dark"];
const theme = byId("theme");

/** @param {string} name */
function useTheme(name) {
  document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-label", `Theme: ${name}`);
  theme.title = `Theme: ${name}`;
  redrawAll();
}

theme.addEventListener("click", () => {
  const now = THEMES.indexOf(document.documentElement.dataset.theme ?? "auto");
  useTheme(THEMES[(now + 1) % THEMES.length] ?? "auto");
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);

// The charts

/** The figure of the window, beside the last value. @param {(now: Now) => string} figure */
function inWindow(figure) {
  return () => {
    const { update, view } = store.get();
    if (update === null || view.endpoint !== null) return "";
    return `${figure(update.now)} in ${duration(Math.max(60, Math.round(update.now.seconds / 60) * 60))}`;
  };
}

/** @param {string} name @param {number} [factor] */
function threshold(name, factor = 1) {
  return () => {
    const limit = store.get().update?.thresholds[name];
    return limit === undefined ? null : limit * factor;
  };
}

const log = element("button", { type: "button", class: "quiet small", "aria-pressed": "false" }, "log");
const durations = new Chart({
  title: "Response times",
  axis: "percentiles of the durations of requests",
  lines: [
    { metric: "p50", label: "p50", style: "plain" },
    { metric: "p95", label: "p95", style: "strong" },
    { metric: "p99", label: "p99", style: "dashed" },
  ],
  format: seconds,
  limit: threshold("api_response_time_ms", 0.001),
  empty: "No requests in this time.",
  tools: log,
});
log.addEventListener("click", () => {
  durations.useLog(!durations.log);
  log.setAttribute("aria-pressed", String(durations.log));
});
const requestCharts = [
  new Chart({
    title: "Requests",
    axis: "requests a second",
    lines: [{ metric: "requests", label: "requests", style: "strong" }],
    format: rate,
    least: 1,
    window: inWindow((now) => rate(now.requests)),
    empty: "Nobody measured in this time: the service did not run, or has just started.",
  }),
  new Chart({
    title: "Error rate",
    axis: "percent of the requests",
    lines: [{ metric: "error_rate", label: "errors", style: "strong" }],
    format: percent,
    least: 1,
    limit: threshold("error_rate_percent"),
    window: inWindow((now) => percent(now.error_rate)),
    empty: "No requests in this time.",
  }),
  durations,
  new Chart({ title: "Latency heatmap", axis: "durations of requests, darker where there are more", lines: [], format: seconds, empty: "No requests in this time." }, heatmap),
];
const databaseCharts = [
  new Chart({ title: "Ping", axis: "round trip in milliseconds", lines: [{ metric: "ping", label: "ping", style: "strong" }], format: seconds, limit: threshold("database_response_time_ms", 0.001), empty: "No ping was answered in this time." }),
  new Chart({ title: "Connections in use", axis: "connections", lines: [{ metric: "pool", label: "in use", style: "strong" }], format: count, least: 2, empty: "No connection was counted in this time." }),
  new Chart({ title: "Documents", axis: "documents in all collections", lines: [{ metric: "documents", label: "documents", style: "strong" }], format: count, fromZero: false, empty: "No collection was counted in this time." }),
];
const resourceCharts = [
  new Chart({ title: "CPU", axis: "percent of a core, average of the instances", lines: [{ metric: "process_cpu", label: "CPU", style: "strong" }], format: percent, least: 10 }),
  new Chart({ title: "Memory", axis: "MiB, average of the instances", lines: [{ metric: "memory", label: "memory", style: "strong" }], format: mebibytes }),
  new Chart({ title: "Event loop lag", axis: "the largest of all instances", lines: [{ metric: "loop_lag", label: "lag", style: "strong" }], format: seconds, least: 0.01, limit: threshold("event_loop_lag_ms", 0.001) }),
];
fill(byId("charts"), ...requestCharts.map((chart) => chart.root));
fill(byId("database-charts"), ...databaseCharts.map((chart) => chart.root));
fill(byId("resources-charts"), ...resourceCharts.map((chart) => chart.root));

// What shows which state

/** @param {string} id */
function isOpen(id) {
  return /** @type {HTMLDetailsElement} */ (byId(id)).open;
}

const changed = () => void updates.ask();
const alerts = () => void showAlerts(store.get(), isOpen("history"));
const verdict = () => showVerdict(store.get());
const lost = () => showLost(store.get(), changed);
let event = "";

store.on(["door", "update", "requests"], (state) => showDoor(state, enter));
store.on(["view"], showView);
store.on(["view", "update", "endpoints", "whole", "connection"], (state) => showEndpoints(state, choose, (whole) => store.set({ whole })));
store.on(["view", "whole"], (state) => lacksEndpoints(state) && changed());
store.on(["view"], (state) => showChosen(state, choose));
store.on(["update", "connection"], verdict);
store.on(["update", "connection"], showAge);
store.on(["connection"], lost);
store.on(["connection"], ({ connection }) => {
  const isPaused = connection.state === "paused";
  setText(byId("pause"), isPaused ? "Resume" : "Pause");
});
store.on(["update"], (state) => showFiring(state, changed));
store.on(["objectives"], ({ objectives }) => showObjectives(objectives));
store.on(["windows"], ({ windows, update }) => showWindows(windows, update?.time ?? 0, () => void planned.load()));
store.on(["update"], showErrors);
store.on(["update", "documents"], showDatabase);
store.on(["update"], showInstances);
store.on(["update"], alerts);
store.on(["update"], ({ update }) => {
  // A new alert: its band appears at once, not with the next step.
  if (update !== null && event !== "" && event !== update.event) void past.continueAll();
  event = update?.event ?? "";
});
store.on(["update", "requests"], showReleases);
store.on(["requests"], ({ requests }) => requestCharts.forEach((chart) => chart.show(requests)));
store.on(["database"], ({ database }) => databaseCharts.forEach((chart) => chart.show(database)));
store.on(["resources"], ({ resources }) => resourceCharts.forEach((chart) => chart.show(resources)));
store.on(["update"], () => requestCharts.slice(0, 2).forEach((chart) => chart.read()));
store.on(["pastProblem"], ({ pastProblem }) => setText(byId("past-problem"), pastProblem));
byId("history").addEventListener("toggle", alerts);
byId("about").addEventListener("toggle", () => void showAbout(isOpen("about")));
setInterval(() => {
  verdict();
  showAge(store.get());
  lost();
}, 1000);

/** With a token: the past is asked for once it is known to be the right one. */
async function enter() {
  await updates.ask();
  if (store.get().door !== null) return;
  await past.load();
  void planned.load();
}

/** Without one: the past is drawn at once, before the first update. Where only a token helps, it is asked for first. */
async function begin() {
  if (document.documentElement.dataset.door === "token") {
    store.set({ door: { detail: "", asks: true, wrong: false } });
    return;
  }
  await Promise.all([past.load(), updates.ask()]);
  if (store.get().door === null) void planned.load();
}

if (matchMedia("(max-width: 640px)").matches) for (const part of document.querySelectorAll("details.card")) part.removeAttribute("open");
setTimeout(() => document.body.classList.add("waited"), 300);
offerMuting(changed);
useTheme("auto");
showView();
showChosen(store.get(), choose);
void begin();
