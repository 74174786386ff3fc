// What changed when an alert began: the course of its value, what stands out, and where to look.

import { showCourse } from "./course.js";
import { element, fill } from "./dom.js";

/** @typedef {import("./types.js").Evidence} Evidence */

/** @type {WeakMap<Element, string>} */
const shown = new WeakMap();

/** @param {Element} place @param {Evidence | undefined} evidence */
export function showEvidence(place, evidence) {
  const text = JSON.stringify(evidence ?? null);
  if (shown.get(place) === text) return;
  shown.set(place, text);
  if (evidence === undefined) {
    fill(place);
    return;
  }
  const course = element("span", { class: "course", title: `${evidence.course?.minutes ?? 0} minutes` });
  if (evidence.course) showCourse(course, evidence.course.values, true);
  const [first, ...others] = (evidence.culprits ?? []).map((one) => one.text);
  const { exception, release } = evidence;
  fill(
    place,
    element("p", { class: "line" }, evidence.course && course, first && element("b", {}, first)),
    ...others.map((one) => element("p", { class: "muted" }, one)),
    exception && element("p", {}, [exception.message ?? exception.type, exception.place && `(${exception.place})`].filter(Boolean).join(" ")),
    release && element("p", {}, `Release ${release.version}`),
    ...(evidence.traces ?? []).map((one) => element("p", {}, trace(one))),
  );
}

/** @param {import("./types.js").Trace} one */
function trace(one) {
  const text = ["trace", one.trace_id.slice(0, 8), one.seconds && `${one.seconds.toPrecision(3)} s`, one.request, one.status].filter(Boolean).join(" · ");
  return one.url?.startsWith("http") ? element("a", { href: one.url, target: "_blank", rel: "noreferrer" }, text) : text;
}
