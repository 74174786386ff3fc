// The past behind the charts: loaded in groups when the page opens or shows another range, then continued step by step.

import { unix } from "./format.js";
import { Refused, get } from "./http.js";
import { secondsOf } from "./view.js";

/** @typedef {import("./types.js").Past} Past */
/** @typedef {import("./types.js").View} View */
/** @typedef {import("./store.js").Store} Store */
/** @typedef {"requests" | "database" | "resources"} Group */

/** @type {Record<Group, string[]>} */
const METRICS = {
  requests: ["requests", "error_rate", "p50", "p95", "p99", "durations"],
  database: ["ping", "pool", "documents"],
  resources: ["process_cpu", "memory", "loop_lag"],
};
const GROUPS = /** @type {Group[]} */ (Object.keys(METRICS));
/** Steps that are asked for again: the newest may have been incomplete, and an answer may be late. */
const AGAIN = 6;
/** Milliseconds after which the courses of endpoints and collections are loaded again. */
const COURSES = 60_000;
const COLLECTIONS = 12;

/** @param {Store} store */
export function createPast(store) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let number = 0;
  let coursesAt = 0;

  /** Load everything anew: first what stands highest. */
  async function load() {
    clearTimeout(timer);
    const mine = ++number;
    store.set({ requests: null, database: null, resources: null, endpoints: null, pastProblem: "" });
    coursesAt = 0;
    for (const group of GROUPS) {
      const loaded = await ask(group, store.get().view);
      if (mine !== number) return;
      if (loaded === null) {
        if (store.get().door === null) timer = setTimeout(load, 10_000);
        return;
      }
      store.set({ [group]: loaded });
    }
    await loadCourses(mine);
    goOn();
  }

  /** Ask for the steps that are over since the last time. */
  async function continueAll() {
    clearTimeout(timer);
    const mine = number;
    for (const group of GROUPS) {
      const known = store.get()[group];
      if (known === null) return;
      const news = await ask(group, store.get().view, known);
      if (mine !== number) return;
      if (news !== null) store.set({ [group]: continued(known, news) });
    }
    await loadCourses(mine);
    goOn();
  }

  /** The courses of endpoints and collections, which rows show small. @param {number} mine */
  async function loadCourses(mine) {
    if (Date.now() - coursesAt < COURSES || store.get().update === null) return;
    coursesAt = Date.now();
    const { range } = store.get().view;
    try {
      const endpoints = await get(`status/endpoints?range=${range}`);
      if (mine !== number) return;
      store.set({ endpoints });
      const names = (store.get().update?.database.collections ?? []).slice(0, COLLECTIONS).map(([name]) => `documents/${name}`);
      if (names.length === 0) return;
      const asked = new URLSearchParams([...names, "documents"].map((metric) => ["metric", metric]));
      asked.set("range", range);
      asked.set("step", `${Math.ceil(secondsOf(range) / 36)}s`);
      const answer = await get(`health/series?${asked}`);
      if (mine !== number) return;
      store.set({ documents: Object.fromEntries(answer.series.map((/** @type {any} */ one) => [one.metric.replace("documents/", ""), one.values])) });
    } catch {
      coursesAt = Date.now() - COURSES / 2; // a collection that no slice has yet; the rows stay without courses
    }
  }

  function goOn() {
    const step = store.get().requests?.step ?? 10;
    clearTimeout(timer);
    timer = setTimeout(continueAll, Math.min(step, 60) * 1000);
  }

  /**
   * @param {Group} group
   * @param {View} view
   * @param {Past} [known] what is continued; nothing: the whole range
   * @returns {Promise<Past | null>} null: it cannot be had now
   */
  async function ask(group, view, known) {
    const asked = new URLSearchParams(METRICS[group].map((metric) => ["metric", metric]));
    if (group === "requests" && view.endpoint !== null) asked.set("endpoint", view.endpoint);
    if (known === undefined) asked.set("range", view.range);
    else {
      const missing = Math.ceil((Date.now() / 1000 - known.start) / known.step) - known.length + AGAIN;
      const steps = Math.max(AGAIN, Math.min(known.length, missing));
      asked.set("range", `${Math.max(60, steps * known.step)}s`);
      asked.set("step", `${known.step}s`);
    }
    try {
      const answer = pastOf(await get(`health/series?${asked}`));
      if (store.get().pastProblem !== "") store.set({ pastProblem: "" });
      return answer;
    } catch (error) {
      const isEndpoint = error instanceof Refused && error.status === 422 && view.endpoint !== null;
      if (isEndpoint) store.set({ pastProblem: "Nothing is known of this endpoint in this time." });
      else if (error instanceof Refused && error.status !== 401) store.set({ pastProblem: error.message });
      return null;
    }
  }

  return { load, continueAll };
}

/** @param {any} answer of /health/series @returns {Past} */
function pastOf(answer) {
  /** @type {Past} */
  const past = {
    start: unix(answer.start),
    step: answer.step_seconds,
    length: 0,
    endpoint: answer.endpoint,
    values: {},
    bounds: [],
    durations: [],
    bands: [],
    releases: [],
  };
  for (const series of answer.series) {
    if (series.bounds) {
      past.bounds = series.bounds;
      past.durations = series.counts;
    } else past.values[series.metric] = series.values;
    past.length = (series.counts ?? series.values).length;
  }
  for (const mark of answer.marks) {
    const time = unix(mark.time);
    if (mark.kind === "release") past.releases.push({ time, version: mark.version });
    else past.bands.push({ time, end: mark.end ? unix(mark.end) : null, type: mark.type, severity: mark.severity });
  }
  return past;
}

/**
 * What is known, with the news behind it and as many steps less at the front.
 * @param {Past} known
 * @param {Past} news
 * @returns {Past}
 */
export function continued(known, news) {
  const first = Math.round((news.start - known.start) / known.step);
  if (news.step !== known.step || first < 0 || first > known.length) return known;
  const gone = Math.max(0, first + news.length - known.length);
  /** @template T @param {T[]} before @param {T[]} after */
  const joined = (before, after) => [...before.slice(gone, first), ...after];
  const start = known.start + gone * known.step;
  const begun = news.start;
  const bounds = [...new Set([...known.bounds, ...news.bounds])].sort((a, b) => a - b);
  return {
    ...known,
    start,
    values: Object.fromEntries(Object.entries(known.values).map(([name, values]) => [name, joined(values, news.values[name] ?? [])])),
    bounds,
    durations: joined(aligned(known, bounds), aligned(news, bounds)),
    bands: [...known.bands.filter((one) => one.end !== null && one.end > start && one.end < begun), ...news.bands],
    releases: [...known.releases.filter((one) => one.time >= start && one.time < begun), ...news.releases],
  };
}

/**
 * The distributions of the steps over other bounds, among which are their own.
 * @param {Past} past
 * @param {number[]} bounds
 */
function aligned(past, bounds) {
  if (past.bounds.length === bounds.length) return past.durations;
  const places = past.bounds.map((bound) => bounds.indexOf(bound));
  return past.durations.map((counts) => {
    if (counts === null) return null;
    const row = bounds.map(() => 0);
    counts.forEach((count, bucket) => {
      row[places[bucket] ?? 0] = count;
    });
    return row;
  });
}
