// Runs a plugin in Node.js as a component would run it: `node --test` needs no broker and no WebAssembly.
import { eachRecord, Rows } from './columns.js';
import { Output } from './output.js';
import { partOf } from './part.js';
import { setSink, takeCounters } from './report.js';

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** An input record with this value, without key or headers, at timestamp 0. */
export function record(value) {
  return new Input(value);
}

class Input {
  #key = null;
  #value;
  #headers = [];
  #timestamp = 0n;

  constructor(value) {
    this.#value = partOf('value', value);
  }

  key(key) {
    this.#key = partOf('key', key);
    return this;
  }

  header(name, value) {
    this.#headers.push({ name: partOf("header's name", name), value: partOf("header's value", value) });
    return this;
  }

  timestamp(timestamp) {
    this.#timestamp = BigInt(timestamp);
    return this;
  }

  pushTo(rows, offset) {
    rows.push(offset, this.#timestamp, this.#key, this.#value, this.#headers);
  }
}

/** Runs a plugin over one batch; an input's offset is its index. A plugin without configuration takes `null`. */
export function run(plugin, config, inputs) {
  const rows = new Rows();
  [...inputs].forEach((input, index) => input.pushTo(rows, BigInt(index)));
  const outcome = new Outcome();
  const settings = plugin.configure(config);
  // What an earlier call outside of `run` counted is not this batch's.
  takeCounters();
  setSink((level, message) => outcome.logs.push([level, message]));
  try {
    const out = new Output();
    plugin.run(settings, rows.take(), out, (index, message) => outcome.rejected.push({ index, message }));
    out.drain((to, batch) => outcome.outputs.push(...emitted(to, batch)));
  } finally {
    setSink(() => {});
  }
  outcome.counters.push(...takeCounters());
  return outcome;
}

/** Checks a configuration as a starting component does; throws with the message that the pipeline's author would see. */
export function config(plugin, value) {
  return plugin.configure(value);
}

/** What came of a batch. */
export class Outcome {
  /** Records of the main output in order, then those of each other output. */
  outputs = [];
  rejected = [];
  logs = [];
  counters = [];

  /** Values of the main output, as text. A tombstone is `"<tombstone>"`. */
  get values() {
    return this.valuesOf('');
  }

  /** Values of a named output, as text. A tombstone is `"<tombstone>"`. */
  valuesOf(output) {
    return this.outputs.filter(({ to }) => to === output).map((emitted) => emitted.text);
  }

  /** The counter's sum; 0 when it was never counted. */
  counter(name) {
    return this.counters.find(([found]) => found === name)?.[1] ?? 0;
  }
}

/** A record that the transform wrote. */
class Emitted {
  constructor(to, record) {
    this.to = to;
    /** Index of the input record it was made from. */
    this.from = record.offset;
    this.key = copy(record.key);
    this.value = copy(record.value);
    this.headers = record.headers.map(([name, value]) => [name, copy(value)]);
    this.timestamp = record.timestamp;
  }

  /** The key as text; `null` without a key. */
  get keyText() {
    return this.key === null ? null : decoder.decode(this.key);
  }

  /** The value as text. A tombstone is `"<tombstone>"`. */
  get text() {
    return this.value === null ? '<tombstone>' : decoder.decode(this.value);
  }

  /** The value as JSON. */
  json() {
    return JSON.parse(this.text);
  }
}

/** Bytes of a text, for comparing. */
export function bytes(text) {
  return encoder.encode(text);
}

function copy(part) {
  return part === null ? null : Uint8Array.from(part);
}

function emitted(to, batch) {
  const found = [];
  eachRecord(batch, (record) => found.push(new Emitted(to, record)));
  return found;
}
