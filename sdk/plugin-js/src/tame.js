// What of JavaScript is not there in a component: without this, a use of it would end in a trap that names nothing, or in
// nothing. Imported for its effect, before a plugin's own modules; never in Node.js.
import { messageOf } from './failure.js';
import { log } from './report.js';

tame(globalThis);

function tame(scope) {
  scope.console = { debug: log.debug, info: log.info, log: log.info, trace: log.trace, warn: log.warn, error: log.error };
  for (const name of Object.keys(scope.console)) {
    const write = scope.console[name];
    scope.console[name] = (...parts) => write(parts.map(shown).join(' '));
  }
  const clock = () => {
    throw new Error('a plugin has no clock but record time: use `now()` of millstream-plugin');
  };
  const Clocked = scope.Date;
  const Date = function (...args) {
    if (args.length === 0 || new.target === undefined) clock();
    return Reflect.construct(Clocked, args, new.target);
  };
  Date.prototype = Clocked.prototype;
  Date.prototype.constructor = Date;
  Object.assign(Date, { UTC: Clocked.UTC, parse: Clocked.parse, now: clock });
  scope.Date = Date;
  scope.Math.random = () => {
    throw new Error('a plugin has no randomness: the same records must give the same results');
  };
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
