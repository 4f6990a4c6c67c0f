// What a transform tells besides its records: log lines and counters; and the one clock it may read, record time. In a
// component these reach the host, natively the test harness collects them.

const U64_MAX = 2n ** 64n - 1n;

let counters = new Map();
let time = 0;
let sink = () => {};

/** Adds to a counter of this plugin, shown by `millstream pipeline describe`. A rejected record's counts stay. */
export function count(name, delta = 1) {
  if (typeof name !== 'string') throw new TypeError(`a counter is named by a string, not by ${typeof name}`);
  const fits = typeof delta === 'bigint' ? delta >= 0n && delta <= U64_MAX : Number.isSafeInteger(delta) && delta >= 0;
  if (!fits) throw new TypeError(`a counter grows by a whole number, not by ${String(delta)}`);
  const before = counters.get(name) ?? 0;
  let sum = typeof before === 'number' && typeof delta === 'number' ? before + delta : BigInt(before) + BigInt(delta);
  if (typeof sum === 'number' && !Number.isSafeInteger(sum)) sum = BigInt(before) + BigInt(delta);
  counters.set(name, sum > U64_MAX ? U64_MAX : sum);
}

/** Record time: the largest timestamp of the batch being processed, in milliseconds since the epoch. */
export function now() {
  return time;
}

const line = (level) => (message) => {
  sink(level, typeof message === 'string' ? message : String(message));
};

/** Writes lines to the pipeline's log. */
export const log = {
  /** For following a single record. */
  trace: line('trace'),
  /** For whoever debugs the plugin. */
  debug: line('debug'),
  info: line('info'),
  /** Something looks wrong, the record is handled nevertheless. */
  warn: line('warn'),
  /** Something is wrong. A record that fails needs no such line, its error is reported anyway. */
  error: line('error'),
};

/** @internal Where log lines go from now on: `(level, message)`. */
export function setSink(to) {
  sink = to;
}

/** @internal */
export function setNow(timestamp) {
  time = timestamp;
}

/** @internal Counters since the last call, as pairs: a call to the host per batch, not per record. */
export function takeCounters() {
  const taken = [...counters];
  counters = new Map();
  return taken;
}
