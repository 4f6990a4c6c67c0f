// What of JavaScript is not there in a component: without this, a use of it would end in a trap that names nothing, or in
// nothing. Imported for its effect, before a plugin's own modules; never in Node.js.
import { messageOf } from './failure.js';
import { log } from './report.js';

tame(globalThis);

function tame(scope) {
  // Some of these have a getter only.
  const put = (name, value) => Object.defineProperty(scope, name, { value, configurable: true, writable: true });
  const refuse = (cause) => () => {
    throw new Error(cause);
  };
  const clock = refuse('a plugin has no clock but record time: use `now()` of millstream-plugin');
  const chance = refuse('a plugin has no randomness: the same records must give the same results');
  const timers = refuse('a plugin does not wait: it has no timers');

  const lines = { debug: log.debug, info: log.info, log: log.info, trace: log.trace, warn: log.warn, error: log.error };
  put('console', Object.fromEntries(Object.entries(lines).map(([name, write]) => [name, (...parts) => write(parts.map(shown).join(' '))])));
  put('Date', withoutClock(scope.Date, clock));
  put('performance', { now: clock });
  put('setTimeout', timers);
  put('setInterval', timers);
  put('fetch', refuse('a plugin has no network: it sees its records only'));
  // What the engine would give is drawn once, when the component is made.
  put('crypto', { getRandomValues: chance, randomUUID: chance });
  scope.Math.random = chance;
}

/** `Date` for times that are given. */
function withoutClock(Clocked, clock) {
  const Date = function (...args) {
    if (args.length === 0 || new.target === undefined) clock();
    return Reflect.construct(Clocked, args, new.target);
  };
  Date.prototype = Clocked.prototype;
  Date.prototype.constructor = Date;
  return Object.assign(Date, { UTC: Clocked.UTC, parse: Clocked.parse, now: clock });
}

function shown(value) {
  if (typeof value === 'string') return value;
  if (value instanceof Error) return messageOf(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
