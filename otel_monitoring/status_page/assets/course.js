// The course of a figure, as small as a word. It repeats what a chart or table says, so nobody hears it.

const WIDTH = 108;
const HEIGHT = 20;
const SVG = "http://www.w3.org/2000/svg";
/** @type {WeakMap<Element, (number | null)[] | null>} */
const shown = new WeakMap();

/**
 * @param {HTMLElement} cell
 * @param {(number | null)[] | null} values null: unknown
 * @param {boolean} fromZero
 */
export function showCourse(cell, values, fromZero) {
  if (shown.get(cell) === values) return;
  shown.set(cell, values);
  const known = (values ?? []).filter((value) => value !== null);
  if (values === null || known.length === 0) {
    cell.replaceChildren();
    return;
  }
  const most = known.reduce((a, b) => Math.max(a, b), 0);
  const least = fromZero ? 0 : known.reduce((a, b) => Math.min(a, b), Infinity);
  const step = WIDTH / values.length;
  const parts = values.map((value, index) => {
    if (value === null || (fromZero && value === 0)) return "";
    const height = most > least ? 1.5 + ((value - least) / (most - least)) * (HEIGHT - 1.5) : HEIGHT / 3;
    return `M${(index * step).toFixed(1)} ${HEIGHT}v-${height.toFixed(1)}h${Math.max(1, step - 1).toFixed(1)}V${HEIGHT}z`;
  });
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", parts.join(""));
  picture.append(path);
  cell.replaceChildren(picture);
}
