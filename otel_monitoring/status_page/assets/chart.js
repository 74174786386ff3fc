// One chart: lines over time with a readout, a keyboard cursor that speaks, and the same numbers as a table.
// Charts of the page share one time axis and one cursor.

import { element, fill, setText } from "./dom.js";
import { clock, clockSeconds, day, exact, moment } from "./format.js";

/** @typedef {import("./types.js").Past} Past */
/** @typedef {import("./types.js").Values} Values */
/** @typedef {{metric: string, label: string, style: "strong" | "plain" | "dashed"}} Line */
/** @typedef {{label: string, value: string}} Reading */

/**
 * @typedef {object} ChartOptions
 * @property {string} title
 * @property {Line[]} lines
 * @property {(value: number | null | undefined) => string} format
 * @property {string} axis what is measured, with its unit, for people who do not see the chart
 * @property {number} [least] the least upper end of the axis of values
 * @property {boolean} [fromZero] false: as narrow as the values
 * @property {(past: Past) => number | null} [limit] the threshold: a thin line
 * @property {(past: Past) => string} [window] the figure beside the last value
 * @property {string} [empty] what is said where there is no value
 * @property {Node} [tools] further controls in the head
 */

/** What a chart of another kind does in its own way. */
/**
 * @typedef {object} Drawing
 * @property {(chart: uPlot, past: Past) => void} draw
 * @property {(past: Past) => [number, number]} bounds of the axis of values
 * @property {(past: Past, index: number) => Reading[]} readings
 * @property {(past: Past, index: number) => string} sentence
 * @property {(past: Past) => {heads: string[], row: (index: number) => string[]}} table
 */

const SYNC = "time";
/** @type {Chart[]} */
const charts = [];

/** A custom property of the page's style. @param {string} name */
export function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Draw every chart again, as after a change of the theme. */
export function redrawAll() {
  for (const chart of charts) chart.rebuild();
}

export class Chart {
  /**
   * @param {ChartOptions} options
   * @param {Drawing | null} [drawing]
   */
  constructor(options, drawing = null) {
    this.options = options;
    this.drawing = drawing;
    this.log = false;
    /** @type {Past | null} */
    this.past = null;
    /** @type {uPlot | null} */
    this.plot = null;
    /** @type {number | null} */
    this.index = null;
    this.readout = element("p", { class: "readout" });
    this.message = element("p", { class: "message" });
    this.area = element(
      "div",
      {
        class: "plot loading",
        role: "slider",
        tabindex: 0,
        "aria-label": `${options.title}: ${options.axis}. Arrow keys move the cursor.`,
        "aria-valuemin": 0,
        "aria-valuemax": 0,
        "aria-valuenow": 0,
        "aria-valuetext": "loading",
        keydown: (/** @type {KeyboardEvent} */ event) => this.onKey(event),
        blur: () => this.moveTo(null),
      },
      this.message,
    );
    this.values = element("details", { class: "values", toggle: () => this.showTable() }, element("summary", {}, "Values"));
    this.root = element(
      "figure",
      { class: "chart" },
      element("figcaption", {}, element("h3", {}, options.title), options.tools, this.readout),
      this.area,
      this.values,
    );
    new ResizeObserver(() => this.fit()).observe(this.area);
    charts.push(this);
  }

  /** Show the past; null: it is being loaded. @param {Past | null} past */
  show(past) {
    this.past = past;
    this.area.classList.toggle("loading", past === null);
    if (past === null) {
      setText(this.message, "");
      fill(this.readout);
      this.plot?.destroy();
      this.plot = null;
      return;
    }
    setText(this.message, this.hasValues(past) ? "" : (this.options.empty ?? "No data in this time."));
    this.area.setAttribute("aria-valuemax", String(past.length - 1));
    if (this.plot === null) this.build();
    else {
      this.plot.setData(this.data(past), false);
      this.rescale(past);
    }
    this.read();
    this.showTable();
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    if (this.past !== null) this.build();
  }

  /** @param {boolean} log whether the axis of values is logarithmic */
  useLog(log) {
    this.log = log;
    this.rebuild();
  }

  // Data

  /** @param {Past} past */
  hasValues(past) {
    if (this.drawing !== null) return past.durations.some((one) => one !== null);
    return this.options.lines.some((line) => past.values[line.metric]?.some((value) => value !== null));
  }

  /** @param {Past} past @returns {uPlot.AlignedData} */
  data(past) {
    const times = Array.from({ length: past.length }, (_, index) => past.start + index * past.step);
    const nothing = Array.from({ length: past.length }, () => null);
    if (this.drawing !== null) return [times, nothing];
    const lines = this.options.lines.map((line) => past.values[line.metric] ?? nothing);
    return /** @type {uPlot.AlignedData} */ ([times, ...(this.log ? lines.map(positive) : lines)]);
  }

  /** @param {Past} past @returns {[number, number]} */
  bounds(past) {
    if (this.drawing !== null) return this.drawing.bounds(past);
    const found = this.options.lines.flatMap((line) => past.values[line.metric] ?? []).filter((value) => value !== null);
    let most = found.reduce((a, b) => Math.max(a, b), 0);
    if (this.log) {
      const above = found.filter((value) => value > 0);
      const least = above.reduce((a, b) => Math.min(a, b), Infinity);
      return above.length > 0 ? [least / 1.3, most * 1.3] : [0.001, 1];
    }
    if (this.options.fromZero === false && found.length > 0) {
      const least = found.reduce((a, b) => Math.min(a, b), Infinity);
      const room = Math.max((most - least) * 0.1, most * 0.02, 1e-9);
      return [Math.max(0, least - room), most + room];
    }
    const limit = this.options.limit?.(past) ?? null;
    if (limit !== null && most > limit * 0.4) most = Math.max(most, limit);
    return [0, Math.max(most * 1.08, this.options.least ?? 0) || 1];
  }

  // Drawing

  fit() {
    if (this.past === null || this.area.clientWidth === 0) return;
    if (this.plot === null) this.build();
    else this.plot.setSize({ width: this.area.clientWidth, height: this.area.clientHeight });
  }

  /** @param {Past} past */
  rescale(past) {
    const [min, max] = this.bounds(past);
    this.plot?.batch(() => {
      this.plot?.setScale("x", { min: past.start, max: past.start + (past.length - 1) * past.step });
      this.plot?.setScale("y", { min, max });
    });
  }

  build() {
    const past = this.past;
    if (past === null || this.area.clientWidth === 0) return;
    const small = this.area.clientHeight < 100;
    /** @type {uPlot.Axis} */
    const axis = { stroke: style("--muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: style("--grid"), width: 1 };
    /** @type {uPlot.Options} */
    const options = {
      width: this.area.clientWidth,
      height: this.area.clientHeight,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      scales: { x: { time: true, auto: false }, y: { auto: false, distr: this.log || this.drawing !== null ? 3 : 1 } },
      cursor: { sync: { key: SYNC }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      axes: [
        { ...axis, show: !small, grid: { show: false }, size: 24, space: 64, values: (_, splits) => splits.map((at) => this.tick(at)) },
        {
          ...axis,
          show: !small,
          grid,
          size: 58,
          space: 28,
          ...(this.log || this.drawing !== null ? { splits: (_, __, min, max) => decades(min, max) } : {}),
          values: (_, splits) => splits.map((value) => (value === null ? "" : this.options.format(value))),
        },
      ],
      series: [{}, ...(this.drawing !== null ? [{ show: false }] : this.options.lines.map(seriesOf))],
      hooks: {
        drawClear: [(plot) => this.drawBands(plot)],
        draw: [(plot) => this.drawMarks(plot)],
        drawAxes: [
          (plot) => {
            if (this.past !== null) this.drawing?.draw(plot, this.past);
          },
        ],
        setCursor: [(plot) => this.onCursor(plot)],
      },
    };
    this.plot = new uPlot(options, this.data(past), this.area);
    this.rescale(past);
  }

  /** @param {number} at Unix seconds */
  tick(at) {
    const whole = this.past === null ? 0 : this.past.length * this.past.step;
    if (whole > 2 * 86400) return day(at);
    return clock(at);
  }

  /** Alerts that fired, behind the lines: a strip on top, and a tint where they lasted. @param {uPlot} plot */
  drawBands(plot) {
    const { ctx, bbox } = plot;
    const past = this.past;
    if (past === null) return;
    const end = past.start + past.length * past.step;
    const place = (/** @type {number} */ time) => Math.max(bbox.left, Math.min(bbox.left + bbox.width, plot.valToPos(time, "x", true)));
    ctx.save();
    for (const { from, to, isWorse } of merged(past.bands, past.start, end)) {
      const left = place(from);
      const width = Math.max(place(to) - left, 2 * devicePixelRatio);
      ctx.fillStyle = style(isWorse ? "--unhealthy" : "--degraded");
      ctx.globalAlpha = 1;
      ctx.fillRect(left, bbox.top, width, 3 * devicePixelRatio);
      if (to - from < past.step) continue;
      ctx.globalAlpha = 0.07;
      ctx.fillRect(left, bbox.top, width, bbox.height);
    }
    ctx.restore();
  }

  /** Releases and the threshold, before the lines. @param {uPlot} plot */
  drawMarks(plot) {
    const { ctx, bbox } = plot;
    const past = this.past;
    if (past === null) return;
    ctx.save();
    ctx.strokeStyle = style("--muted");
    ctx.fillStyle = style("--muted");
    ctx.lineWidth = devicePixelRatio;
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    let free = bbox.left;
    for (const release of past.releases) {
      const at = Math.round(plot.valToPos(release.time, "x", true));
      if (at < bbox.left || at > bbox.left + bbox.width) continue;
      ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
      line(ctx, at, bbox.top, at, bbox.top + bbox.height);
      const text = release.version.slice(0, 20);
      const width = ctx.measureText(text).width + 6 * devicePixelRatio;
      const left = Math.min(at + 4 * devicePixelRatio, bbox.left + bbox.width - width);
      if (left < free) continue;
      ctx.fillStyle = style("--card");
      ctx.fillRect(left - 2 * devicePixelRatio, bbox.top + 3 * devicePixelRatio, width, 12 * devicePixelRatio);
      ctx.fillStyle = style("--muted");
      ctx.fillText(text, left, bbox.top + 13 * devicePixelRatio);
      free = left + width;
    }
    const limit = this.options.limit?.(past) ?? null;
    const top = limit === null ? null : Math.round(plot.valToPos(limit, "y", true));
    if (top !== null && top >= bbox.top && top <= bbox.top + bbox.height) {
      ctx.setLineDash([]);
      ctx.strokeStyle = style("--degraded");
      line(ctx, bbox.left, top, bbox.left + bbox.width, top);
    }
    ctx.restore();
  }

  // The cursor

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const past = this.past;
    if (past === null || event.altKey || event.ctrlKey || event.metaKey) return;
    const here = this.index ?? this.last(past);
    const far = event.shiftKey ? 10 : 1;
    /** @type {Record<string, number | null>} */
    const places = {
      ArrowLeft: here - far,
      ArrowDown: here - far,
      ArrowRight: here + far,
      ArrowUp: here + far,
      PageDown: here - 10,
      PageUp: here + 10,
      Home: 0,
      End: past.length - 1,
      Escape: null,
    };
    const place = places[event.key];
    if (place === undefined) return;
    event.preventDefault();
    this.moveTo(place === null ? null : Math.max(0, Math.min(past.length - 1, place)));
  }

  /** Move the cursor of every chart. @param {number | null} index */
  moveTo(index) {
    const time = index === null || this.past === null ? null : this.past.start + index * this.past.step;
    for (const chart of charts) {
      const plot = chart.plot;
      if (plot === null) continue;
      const left = time === null ? -10 : plot.valToPos(time, "x");
      plot.setCursor({ left, top: time === null ? -10 : plot.over.clientHeight / 2 });
    }
  }

  /** @param {uPlot} plot */
  onCursor(plot) {
    const index = plot.cursor.idx ?? null;
    const inside = index !== null && (plot.cursor.left ?? -1) >= 0 ? index : null;
    if (inside === this.index) return;
    this.index = inside;
    this.read();
  }

  /** The last step with a value. @param {Past} past */
  last(past) {
    const first = this.options.lines[0];
    for (let index = past.length - 1; index >= 0; index -= 1) {
      if (this.drawing !== null ? past.durations[index] : (past.values[first?.metric ?? ""]?.[index] ?? null) !== null) return index;
    }
    return past.length - 1;
  }

  /** Say the values at the cursor; without one the last values, and the window's figure. */
  read() {
    const past = this.past;
    if (past === null) return;
    const index = this.index ?? this.last(past);
    const at = past.start + index * past.step;
    const readings = this.drawing !== null ? this.drawing.readings(past, index) : this.readings(past, index);
    const when = past.step < 60 ? clockSeconds(at) : moment(at, Date.now() / 1000);
    const window = this.index === null ? (this.options.window?.(past) ?? "") : when;
    fill(
      this.readout,
      ...readings.map(({ label, value }) => element("span", { class: "reading" }, label && element("small", {}, label), element("b", {}, value))),
      window && element("span", { class: "aside", title: exact(at) }, window),
    );
    this.area.setAttribute("aria-valuenow", String(index));
    this.area.setAttribute("aria-valuetext", `${when}: ${this.sentence(past, index)}`);
  }

  /** @param {Past} past @param {number} index @returns {Reading[]} */
  readings(past, index) {
    return this.options.lines.map(({ metric, label }) => ({
      label: this.options.lines.length > 1 ? label : "",
      value: this.options.format(past.values[metric]?.[index]),
    }));
  }

  /** @param {Past} past @param {number} index */
  sentence(past, index) {
    if (this.drawing !== null) return this.drawing.sentence(past, index);
    const now = Date.now() / 1000;
    return this.options.lines
      .map(({ metric, label }) => {
        const values = past.values[metric] ?? [];
        const value = values[index] ?? null;
        const highest = values.reduce((/** @type {number} */ best, one, place) => ((one ?? -1) > (values[best] ?? -1) ? place : best), 0);
        const most = values[highest] ?? null;
        const here = value === null ? `${label} unknown` : `${label} ${this.options.format(value)}`;
        return most === null ? here : `${here}, highest ${this.options.format(most)} at ${moment(past.start + highest * past.step, now)}`;
      })
      .join("; ");
  }

  // The table

  showTable() {
    const past = this.past;
    if (!this.values.open || past === null) return;
    const { heads, row } =
      this.drawing !== null
        ? this.drawing.table(past)
        : {
            heads: this.options.lines.map((line) => line.label),
            row: (/** @type {number} */ index) => this.options.lines.map((line) => this.options.format(past.values[line.metric]?.[index])),
          };
    const rows = Array.from({ length: past.length }, (_, place) => {
      const index = past.length - 1 - place;
      const at = past.start + index * past.step;
      const time = element("th", { scope: "row", title: exact(at) }, past.step >= 3600 ? `${day(at)} ${clock(at)}` : clockSeconds(at));
      return element("tr", {}, time, ...row(index).map((text) => element("td", {}, text)));
    });
    const table = element(
      "table",
      {},
      element("caption", {}, `${this.options.title}, ${this.options.axis}, newest first`),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Time"), ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows),
    );
    const [summary] = this.values.children;
    const scroll = this.values.querySelector(".scroll")?.scrollTop ?? 0;
    const box = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${this.options.title} as a table` }, table);
    if (summary !== undefined) fill(this.values, summary, box);
    box.scrollTop = scroll;
  }
}

/**
 * The times in which alerts fired, none over another: where several did, the worst counts.
 * @param {import("./types.js").Band[]} bands
 * @param {number} start
 * @param {number} end
 */
export function merged(bands, start, end) {
  const shown = bands.map((band) => ({ from: Math.max(band.time, start), to: Math.min(band.end ?? end, end), isWorse: band.severity === "critical" || band.severity === "error" }));
  const inside = shown.filter((one) => one.from <= one.to);
  const times = [...new Set(inside.flatMap((one) => [one.from, one.to]))].sort((a, b) => a - b);
  /** @type {typeof shown} */
  const found = inside.filter((one) => one.from === one.to);
  times.slice(1).forEach((to, index) => {
    const from = times[index] ?? to;
    const here = inside.filter((one) => one.from <= from && one.to >= to);
    const before = found.at(-1);
    const isWorse = here.some((one) => one.isWorse);
    if (here.length === 0) return;
    if (before !== undefined && before.from < before.to && before.to === from && before.isWorse === isWorse) before.to = to;
    else found.push({ from, to, isWorse });
  });
  return found;
}

/** 1 ms, 10 ms, 100 ms: where a logarithmic axis has lines. @param {number} min @param {number} max */
function decades(min, max) {
  const found = [];
  for (let power = Math.floor(Math.log10(min)); 10 ** power <= max; power += 1) {
    for (const step of max / min < 30 ? [1, 2, 5] : [1]) found.push(step * 10 ** power);
  }
  return found.filter((at) => at >= min && at <= max);
}

/** @param {Values} values */
function positive(values) {
  return values.map((value) => (value !== null && value > 0 ? value : null));
}

/** @param {Line} line @returns {uPlot.Series} */
function seriesOf(line) {
  const strong = line.style === "strong";
  return {
    stroke: style(strong ? "--line" : "--line-soft"),
    width: strong ? 1.75 : 1.25,
    ...(line.style === "dashed" ? { dash: [4, 3] } : {}),
    points: { show: true, size: 4, fill: style("--line"), filter: lonely },
  };
}

/** Values without neighbours, which no line shows. @param {uPlot} plot @param {number} series @param {boolean} show */
function lonely(plot, series, show) {
  if (!show) return null;
  const values = /** @type {Values} */ (/** @type {unknown} */ (plot.data[series] ?? []));
  const found = [];
  for (let index = 0; index < values.length; index += 1) {
    if (values[index] !== null && (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null) found.push(index);
  }
  return found;
}

/** @param {CanvasRenderingContext2D} ctx @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1 */
function line(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}
