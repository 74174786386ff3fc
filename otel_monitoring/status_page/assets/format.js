// Numbers and times as people say them. The exact value stands in the title of its element and in the tables.

const SPACE = "\u00a0";
const NONE = "–";

/** @typedef {number | null | undefined} Figure */

/**
 * Two or three significant digits, without trailing zeros behind the point.
 * @param {number} value
 */
function digits(value) {
  const size = Math.abs(value);
  if (size >= 100 || size === 0) return String(Math.round(value));
  const places = size >= 10 ? 0 : size >= 1 ? 1 : Math.min(6, 1 - Math.floor(Math.log10(size)));
  return String(Number(value.toFixed(places)));
}

/** @param {Figure} value */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits(value / 1e9)}${SPACE}G`;
  if (size >= 1e6) return `${digits(value / 1e6)}${SPACE}M`;
  if (size >= 1e4) return `${digits(value / 1e3)}${SPACE}k`;
  return digits(value);
}

/** @param {Figure} value in a second */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 1000) return `${digits(value / 1000)}${SPACE}k/s`;
  return `${digits(value)}${value >= 1000 ? "" : "/s"}`;
}

/** @param {Figure} value in percent */
export function percent(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return `0${SPACE}%`;
  return `${value < 0.1 ? digits(value) : value < 99.95 ? value.toFixed(1) : "100"}${SPACE}%`;
}

/** @param {Figure} value in seconds, of something short */
export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return `0${SPACE}ms`;
  if (value < 1) return `${digits(value * 1000)}${SPACE}ms`;
  return value < 60 ? `${digits(value)}${SPACE}s` : duration(value);
}

/** @param {Figure} value in MiB */
export function mebibytes(value) {
  if (value === null || value === undefined) return NONE;
  return value >= 1024 ? `${digits(value / 1024)}${SPACE}GiB` : `${digits(value)}${SPACE}MiB`;
}

const UNITS = /** @type {const} */ ([["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]);

/** A span of time in its two largest units: `6 min`, `2 h 5 min`. @param {number} value in seconds */
export function duration(value) {
  let rest = Math.max(0, Math.round(value));
  if (rest >= 300) rest = Math.round(rest / 60) * 60;
  /** @type {string[]} */
  const parts = [];
  for (const [name, size] of UNITS) {
    const number = Math.floor(rest / size);
    rest -= number * size;
    if (number > 0 && parts.length < 2) parts.push(`${number}${SPACE}${name}`);
    else if (parts.length > 0) break;
  }
  return parts.join(" ") || `0${SPACE}s`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const CLOCK_SECONDS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const WEEKDAY = new Intl.DateTimeFormat("en", { weekday: "short" });
const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short" });
const ZONE = new Intl.DateTimeFormat("en", { timeZoneName: "short" });

/** `14:31` @param {number} time Unix seconds */
export function clock(time) {
  return CLOCK.format(time * 1000);
}

/** `14:31:07` @param {number} time Unix seconds */
export function clockSeconds(time) {
  return CLOCK_SECONDS.format(time * 1000);
}

/** `29 Nov` @param {number} time Unix seconds */
export function day(time) {
  return DAY.format(time * 1000);
}

/** `14:31`, `Tue 14:02` or `24 Nov 14:02`, whichever is clear now. @param {number} time @param {number} now Unix seconds */
export function moment(time, now) {
  if (new Date(time * 1000).toDateString() === new Date(now * 1000).toDateString()) return clock(time);
  if (Math.abs(now - time) < 6 * 86400) return `${WEEKDAY.format(time * 1000)} ${clock(time)}`;
  return `${day(time)} ${clock(time)}`;
}

/** `2026-11-28 18:49:25 UTC` @param {number} time Unix seconds */
export function exact(time) {
  return `${new Date(time * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** The name of the reader's time zone, as `CET` or `GMT+1`. */
export function zone() {
  return ZONE.formatToParts(Date.now()).find((part) => part.type === "timeZoneName")?.value ?? "local time";
}

/** Unix seconds of an RFC 3339 text. @param {string} text */
export function unix(text) {
  return Date.parse(text) / 1000;
}

/** `1 error`, `2 errors` @param {number} number @param {string} noun */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** `high_error_rate` for people: `high error rate`. @param {string} name */
export function words(name) {
  return name.replaceAll("_", " ");
}
