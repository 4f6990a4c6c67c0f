// A plugin: a function from a record to any number of records, its configuration, and the loop that calls it for every
// record of a batch. The same loop runs in a component and in tests.
import { eachRecord } from './columns.js';
import { readConfig } from './config.js';
import { messageOf } from './failure.js';
import { setNow } from './report.js';

const SHAPE = 'a plugin is `plugin((record, out) => { … })` or `plugin({ config: { … }, transform(record, config, out) { … } })`';

/** Makes a plugin of a transform. A module has one, as its default export. */
export function plugin(definition) {
  const { config = null, transform } = typeof definition === 'function' ? { transform: definition } : definition ?? {};
  if (typeof transform !== 'function') throw new TypeError(SHAPE);
  if (transform.constructor.name === 'AsyncFunction') throw new TypeError('a transform is not async: it has nothing to wait for');
  return new Plugin(config, config === null ? (record, _, out) => transform(record, out) : transform);
}

/** @internal What `plugin` makes. */
export class Plugin {
  #fields; #transform;

  constructor(fields, transform) {
    this.#fields = fields;
    this.#transform = transform;
  }

  /** Checks a step's `with` and fills in defaults; throws with a message for the pipeline's author. */
  configure(value) {
    return readConfig(this.#fields, value);
  }

  /** Runs the transform over one batch; `reject` gets each failing record's index and message. */
  run(config, batch, out, reject) {
    setNow(Number(latest(batch.timestamps)));
    eachRecord(batch, (record, index, offset, timestamp) => {
      out.beginRecord(offset, timestamp);
      try {
        const result = this.#transform(record, config, out);
        if (typeof result?.then === 'function') throw new TypeError('a transform is not async: it has nothing to wait for');
      } catch (error) {
        out.rollBack();
        reject(index, messageOf(error));
      }
    });
  }
}

function latest(timestamps) {
  if (timestamps.length === 0) return 0n;
  let max = timestamps[0];
  for (const timestamp of timestamps) if (timestamp > max) max = timestamp;
  return max;
}
