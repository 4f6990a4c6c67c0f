// What a plugin's author imports: `plugin` makes one of a function, the rest is what that function uses.
export { plugin } from './plugin.js';
export { field } from './config.js';
export { Reject } from './failure.js';
export { Record } from './record.js';
export { Output, Emit } from './output.js';
export { count, log, now } from './report.js';
