// How long requests took, as a heatmap: a column a step, a row a bucket of durations, darker where there are more.

import { style } from "./chart.js";
import { plural, seconds } from "./format.js";

/** @typedef {import("./types.js").Past} Past */

const SHADES = [0.14, 0.3, 0.48, 0.7, 1];

/** @type {import("./chart.js").Drawing} */
export const heatmap = {
  bounds(past) {
    const [first, last] = used(past);
    return [lower(past.bounds, Math.max(0, first - 1)), past.bounds[Math.min(past.bounds.length - 1, last + 1)] ?? 1];
  },

  draw(chart, past) {
    const { ctx, bbox } = chart;
    const most = past.durations.reduce((best, one) => Math.max(best, ...(one ?? [0])), 1);
    const width = bbox.width / Math.max(1, past.length - 1);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = style("--line");
    past.durations.forEach((counts, index) => {
      const left = chart.valToPos(past.start + index * past.step, "x", true) - width / 2;
      counts?.forEach((count, bucket) => {
        if (count === 0) return;
        const bottom = chart.valToPos(lower(past.bounds, bucket), "y", true);
        const top = chart.valToPos(past.bounds[bucket] ?? 1, "y", true);
        const shade = Math.ceil(Math.sqrt(count / most) * SHADES.length) - 1;
        ctx.globalAlpha = SHADES[Math.max(0, shade)] ?? 1;
        ctx.fillRect(left, top, Math.ceil(width), Math.max(1, bottom - top - devicePixelRatio / 2));
      });
    });
    ctx.restore();
  },

  readings(past, index) {
    const found = busiest(past, index);
    return found === null ? [{ label: "", value: "–" }] : [{ label: "most", value: found.range }];
  },

  sentence(past, index) {
    const found = busiest(past, index);
    return found === null ? "no requests" : `${plural(found.total, "request")}, most of them ${found.range}`;
  },

  table(past) {
    const [first, last] = used(past);
    const buckets = Array.from({ length: Math.max(0, last - first + 1) }, (_, place) => first + place);
    return {
      heads: buckets.map((bucket) => `≤ ${seconds(past.bounds[bucket])}`),
      row: (index) => buckets.map((bucket) => String(past.durations[index]?.[bucket] ?? "–")),
    };
  },
};

/** The lower bound of a bucket. @param {number[]} bounds @param {number} bucket @returns {number} */
function lower(bounds, bucket) {
  const upper = bounds[bucket] ?? 1;
  const next = bounds[bucket + 1] ?? upper * 2;
  return bounds[bucket - 1] ?? (upper * upper) / next;
}

/** The first and the last bucket with a request. @param {Past} past @returns {[number, number]} */
function used(past) {
  let first = past.bounds.length - 1;
  let last = 0;
  for (const counts of past.durations) {
    counts?.forEach((count, bucket) => {
      if (count === 0) return;
      first = Math.min(first, bucket);
      last = Math.max(last, bucket);
    });
  }
  return first <= last ? [first, last] : [0, past.bounds.length - 1];
}

/** @param {Past} past @param {number} index @returns {{total: number, range: string} | null} */
function busiest(past, index) {
  const counts = past.durations[index] ?? null;
  if (counts === null) return null;
  const total = counts.reduce((a, b) => a + b, 0);
  if (total === 0) return null;
  const bucket = counts.indexOf(Math.max(...counts));
  return { total, range: `${seconds(lower(past.bounds, bucket))} to ${seconds(past.bounds[bucket])}` };
}
