// The present: asks for updates as long as somebody looks, and goes on where it was after a lost connection.

import { lacksEndpoints, wantsEveryEndpoint } from "./endpoints.js";
import { Refused, get } from "./http.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./types.js").Update} Update */

const LONGEST_PAUSE = 60;

/** @param {Store} store */
export function createUpdates(store) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let failures = 0;
  let asking = false;

  const isPaused = () => store.get().connection.state === "paused";

  async function ask() {
    clearTimeout(timer);
    if (asking || isPaused()) return;
    asking = true;
    try {
      const every = wantsEveryEndpoint(store.get());
      const update = await get(`status/update?endpoints=${every ? "all" : "first"}`);
      if (isPaused()) return; // since it was asked: what the reader looks at stays
      show(update);
      failures = 0;
      // The reader may want to see all of them since it was asked.
      next(!every && lacksEndpoints(store.get()) ? 0 : (store.get().update?.interval ?? 2));
    } catch (error) {
      if (isPaused()) return;
      if (error instanceof Refused && error.status < 500 && error.status !== 429 && error.status !== 404) {
        refuse(error);
        return;
      }
      failures += 1;
      const pause = Math.min(LONGEST_PAUSE, 2 ** failures) * (0.8 + 0.4 * Math.random());
      const problem = error instanceof Refused ? error.message : navigator.onLine ? "The service does not answer." : "This device is offline.";
      store.set({ connection: { state: "lost", retryAt: Date.now() + pause * 1000, problem } });
      next(pause);
    } finally {
      asking = false;
    }
  }

  /** @param {Update} update */
  function show(update) {
    const connection = store.get().connection.state === "live" ? store.get().connection : { state: /** @type {const} */ ("live"), retryAt: 0, problem: "" };
    store.set({ update, receivedAt: Date.now(), connection, door: null });
  }

  /** @param {Refused} error */
  function refuse(error) {
    const asks = error.status === 401 && /^bearer/i.test(error.scheme);
    const wrong = store.get().door !== null;
    store.set({ door: { detail: error.message, asks, wrong } });
  }

  /** @param {number} pause seconds */
  function next(pause) {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(ask, pause * 1000);
  }

  const askAgain = () => {
    if (store.get().door === null) void ask();
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : askAgain()));
  addEventListener("online", askAgain);
  addEventListener("offline", askAgain);

  return {
    ask,
    pause() {
      clearTimeout(timer);
      store.set({ connection: { state: "paused", retryAt: 0, problem: "" } });
    },
    resume() {
      store.set({ connection: { state: "connecting", retryAt: 0, problem: "" } });
      void ask();
    },
  };
}
