// The one store of state. Parts of the page say which keys they show, and are called when one of these is replaced.

/** @typedef {import("./types.js").State} State */

/**
 * @param {State} initial
 */
export function createStore(initial) {
  let state = initial;
  /** @type {{keys: (keyof State)[], show: (state: State) => void}[]} */
  const parts = [];
  return {
    /** @returns {Readonly<State>} */
    get: () => state,
    /**
     * Replace some keys, then have every part that shows one of them show it.
     * @param {Partial<State>} changes
     */
    set(changes) {
      const changed = /** @type {(keyof State)[]} */ (Object.keys(changes)).filter((key) => state[key] !== changes[key]);
      if (changed.length === 0) return;
      state = { ...state, ...changes };
      for (const part of parts) if (part.keys.some((key) => changed.includes(key))) part.show(state);
    },
    /**
     * @param {(keyof State)[]} keys
     * @param {(state: State) => void} show
     */
    on(keys, show) {
      parts.push({ keys, show });
    },
  };
}

/** @typedef {ReturnType<typeof createStore>} Store */
