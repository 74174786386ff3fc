// The one place that talks HTTP. The token lives in this module's memory and goes into a header: nowhere else.

const PATIENCE = 15_000;
let token = "";

/** An answer that is no success. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {string} scheme how to authenticate, as the answer says
   */
  constructor(status, detail, scheme) {
    super(detail || `HTTP ${status}`);
    this.status = status;
    this.scheme = scheme;
  }
}

/** @param {string} given */
export function useToken(given) {
  token = given;
}

/** @param {string} path relative to the page, so that a prefix and a root path stay @returns {Promise<any>} */
export function get(path) {
  return call("GET", path);
}

/** @param {string} path @param {object} body @returns {Promise<any>} */
export function post(path, body) {
  return call("POST", path, body);
}

/** @param {string} path @returns {Promise<any>} */
export function remove(path) {
  return call("DELETE", path);
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 */
async function call(method, path, body) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method,
    headers,
    body: body === undefined ? null : JSON.stringify(body),
    cache: "no-store",
    credentials: "same-origin",
    signal: AbortSignal.timeout(PATIENCE),
  });
  const isJson = (answer.headers.get("content-type") ?? "").includes("json");
  if (answer.status === 204) return null;
  const content = isJson ? await answer.json() : null;
  if (!answer.ok) throw new Refused(answer.status, textOf(content), answer.headers.get("www-authenticate") ?? "");
  if (!isJson) throw new Refused(401, "The answer is no JSON: sign in to the application, then reload this page.", "");
  return content;
}

/** @param {any} content the body of an error @returns {string} */
function textOf(content) {
  const detail = content?.detail;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) return detail.map((one) => `${(one.loc ?? []).join(".")}: ${one.msg}`).join("; ");
  return "";
}
