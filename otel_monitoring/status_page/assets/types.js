// The shapes of what the service answers and of what the page keeps. This module has types alone.

/** @typedef {"healthy" | "degraded" | "unhealthy" | "unknown"} Status */
/** @typedef {Record<string, string>} Labels */

/**
 * @typedef {object} Firing an alert that fires: an item of /alerts/firing
 * @property {string} rule
 * @property {string} type
 * @property {string} severity
 * @property {string} since
 * @property {number | null} value
 * @property {number} threshold
 * @property {Labels} labels
 * @property {string} message
 * @property {string} incident
 * @property {boolean} muted
 * @property {boolean} inhibited
 * @property {number} [times]
 * @property {boolean} [dry_run]
 * @property {{author: string, reason: string, at: string}} [acknowledged]
 * @property {Evidence} [evidence] of the first alerts
 */

/** @typedef {{trace_id: string, request: string, seconds?: number, status?: number | null, url?: string}} Trace */

/**
 * @typedef {object} Evidence what changed when an alert began
 * @property {{minutes: number, values: (number | null)[]}} [course]
 * @property {{kind: string, names: string[], text: string}[]} [culprits]
 * @property {Trace[]} [traces]
 * @property {{type: string, message?: string, place?: string}} [exception]
 * @property {{version: string}} [release]
 */

/**
 * @typedef {object} Mute
 * @property {string} id
 * @property {string | null} type
 * @property {string | null} rule
 * @property {string} until
 * @property {Labels} labels
 * @property {string} author
 * @property {string} reason
 */

/**
 * @typedef {object} Objective an item of /health/objectives
 * @property {string} name
 * @property {number} objective_percent
 * @property {string} good
 * @property {boolean} dry_run
 * @property {string} state
 * @property {string} text
 * @property {number | null} good_percent
 */

/**
 * @typedef {object} PlannedWindow an item of /alerts/maintenance
 * @property {string} id
 * @property {string | null} type
 * @property {string | null} rule
 * @property {Labels} labels
 * @property {string} author
 * @property {string} reason
 * @property {boolean} open
 * @property {string} opens
 * @property {string} closes
 * @property {object} [weekly]
 */

/** @typedef {[rate: number, p50: number | null, p95: number | null, errors: number]} EndpointFigures requests a second, s, s, percent */
/** @typedef {[name: string, methods: string, ...EndpointFigures]} EndpointRow */
/** @typedef {[name: string, rate: number, p50: number | null, p95: number | null, errors: number, course: (number | null)[]]} PastEndpointRow */
/**
 * @typedef {object} EndpointsPast the answer of /status/endpoints
 * @property {string} range
 * @property {number} step
 * @property {PastEndpointRow[]} endpoints
 */
/**
 * First and last are null where other processes alone have seen it.
 * @typedef {[type: string, route: string, count: number, first: string | null, last: string | null, isNew: boolean,
 *   version: string | null]} ErrorRow
 */
/** @typedef {[command: string, collection: string, rate: number, p95: number | null, errors: number]} CommandRow */
/** @typedef {[name: string, commands: number, seconds: number, share: number | null]} RouteRow */
/** @typedef {[kind: string, command: string, collection: string, shape: string, where: string, much: number]} FindingRow */
/** @typedef {[name: string, documents: number | null, indexes: number]} CollectionRow */
/**
 * @typedef {[host: string, pid: number, version: string, status: Status, uptime: number, age: number, leads: boolean,
 *   rate: number, inFlight: number, cpu: number | null, memory: number | null, lag: number | null, ping: number | null]} InstanceRow
 */

/**
 * @typedef {object} Database
 * @property {Status} status
 * @property {number | null} ping milliseconds
 * @property {number | null} age seconds since the ping
 * @property {string | null} error
 * @property {number | null} documents
 * @property {CollectionRow[]} collections
 * @property {number} collection_count
 * @property {CommandRow[]} commands
 * @property {RouteRow[]} routes
 * @property {FindingRow[]} findings
 */

/**
 * @typedef {object} Now the requests in the window
 * @property {number} seconds
 * @property {number} requests
 * @property {number} count
 * @property {number} error_rate
 * @property {number} p50
 * @property {number} p95
 * @property {number} p99
 * @property {number} in_flight
 */

/**
 * @typedef {object} Update the answer of /status/update
 * @property {number} time
 * @property {number} interval
 * @property {Status} status
 * @property {number | null} [since]
 * @property {string[]} reasons
 * @property {string | null} incomplete
 * @property {{name: string, version: string, environment: string}} service
 * @property {Record<string, number>} thresholds
 * @property {Now} now
 * @property {EndpointRow[]} endpoints those that are shown first, or all
 * @property {number} endpoint_count
 * @property {{count: number, groups: ErrorRow[]}} errors
 * @property {Database} database
 * @property {InstanceRow[]} instances
 * @property {number} instance_count
 * @property {Firing[]} firing
 * @property {number} firing_count
 * @property {Mute[]} mutes
 * @property {number} mute_count
 * @property {string} event
 * @property {string | null} store_problem
 */

/** @typedef {{time: number, end: number | null, type: string, severity: string}} Band an alert that fired; null: it still does */
/** @typedef {{time: number, version: string}} Release */
/** @typedef {(number | null)[]} Values */

/**
 * @typedef {object} Past several metrics of the past, by step
 * @property {number} start Unix seconds of the first step
 * @property {number} step seconds
 * @property {number} length number of steps
 * @property {string | null} endpoint
 * @property {Record<string, Values>} values by metric
 * @property {number[]} bounds upper bounds of the distribution of durations, in seconds
 * @property {(number[] | null)[]} durations the distribution of each step
 * @property {Band[]} bands
 * @property {Release[]} releases
 */

/**
 * @typedef {object} View what the URL says
 * @property {string} range
 * @property {string | null} endpoint
 * @property {string} sort
 * @property {string} filter
 * @property {"now" | "range"} figures which time the figures of the endpoints are of
 */

/**
 * @typedef {object} Connection
 * @property {"connecting" | "live" | "paused" | "lost"} state
 * @property {number} retryAt milliseconds, as of Date.now()
 * @property {string} problem
 */

/** @typedef {{detail: string, asks: boolean, wrong: boolean}} Door why the service lets nobody in, and whether a token helps */

/**
 * @typedef {object} State
 * @property {View} view
 * @property {Connection} connection
 * @property {Door | null} door
 * @property {Update | null} update
 * @property {number} receivedAt milliseconds, as of Date.now()
 * @property {boolean} whole whether the list of endpoints is shown to its end
 * @property {Past | null} requests
 * @property {Past | null} database
 * @property {Past | null} resources
 * @property {EndpointsPast | null} endpoints
 * @property {Objective[]} objectives
 * @property {PlannedWindow[]} windows
 * @property {Record<string, (number | null)[]>} documents the course of each collection
 * @property {string} pastProblem
 */

export {};
