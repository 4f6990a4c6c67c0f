// Where a transform's records go: builders whose terminal call writes into the output's columns.
//
// Every record gets the input's timestamp unless given another, and no key unless given one: keeping a key must be said
// (`like`, `forward`), since a new value seldom belongs to it.
import { Rows } from './columns.js';
import { stringifyJson } from './json.js';
import { partOf } from './part.js';

const NO_LENS = [];
const I64_MAX = 2n ** 63n - 1n;

/** The outputs of a transform. Any number of records may be written per input record; those of one that fails are taken back. */
export class Output {
  /** The main output first, named "". */
  #outputs = [{ name: '', rows: new Rows(), begin: null }];
  #offset = 0n;
  #timestamp = 0n;

  /** Starts a record with this key on the main output. */
  key(key) {
    return this.#emit(0).key(key);
  }

  /** Starts a record with this header on the main output. */
  header(name, value) {
    return this.#emit(0).header(name, value);
  }

  /** Starts a record with this timestamp (milliseconds since the epoch) on the main output. */
  timestamp(timestamp) {
    return this.#emit(0).timestamp(timestamp);
  }

  /** Starts a record with the key, headers and timestamp of `record` on the main output. */
  like(record) {
    return this.#emit(0).like(record);
  }

  /** Starts a record on another output, which the plugin declares in its package.json. */
  to(output) {
    if (typeof output !== 'string') throw new TypeError(`an output is named by a string, not by ${typeof output}`);
    let index = this.#outputs.findIndex(({ name }) => name === output);
    if (index < 0) index = this.#outputs.push({ name: output, rows: new Rows(), begin: null }) - 1;
    return this.#emit(index);
  }

  /** Writes a value without key or headers to the main output. */
  value(value) {
    this.#emit(0).value(value);
  }

  /** Writes a value as JSON, without key or headers, to the main output. */
  json(value) {
    this.#emit(0).json(value);
  }

  /** Passes a record on to the main output as it is: key, value, headers, timestamp. */
  forward(record) {
    this.#emit(0).forward(record);
  }

  #emit(index) {
    return new Emit(this.#outputs[index].rows, this.#offset, this.#timestamp);
  }

  /** @internal The input record that the following outputs are made from. */
  beginRecord(offset, timestamp) {
    this.#offset = offset;
    this.#timestamp = timestamp;
    for (const named of this.#outputs) named.begin = named.rows.mark();
  }

  /** @internal Takes back what was written since `beginRecord`. */
  rollBack() {
    for (const named of this.#outputs) named.rows.truncate(named.begin);
  }

  /** @internal Hands over the batch of each output that has records, in order of first use, and forgets them. */
  drain(emit) {
    for (const { name, rows } of this.#outputs) {
      if (rows.length > 0) emit(name, rows.take());
    }
  }

  /** @internal Drops what a batch left that did not come to its end. */
  clear() {
    for (const { rows } of this.#outputs) rows.truncate(null);
  }
}

/** A record being built. It counts once its value is given: `value`, `json`, `tombstone`, `forward`. */
export class Emit {
  #rows; #offset; #timestamp;
  #key = null;
  #headers = null;
  #done = false;

  /** @internal */
  constructor(rows, offset, timestamp) {
    this.#rows = rows;
    this.#offset = offset;
    this.#timestamp = timestamp;
  }

  /** Gives the key. `null` is no key. */
  key(key) {
    this.#key = partOf('key', key);
    return this;
  }

  /** Adds a header. A value of `null` is a null value. */
  header(name, value) {
    if (typeof name !== 'string') throw new TypeError(`a header is named by a string, not by ${typeof name}`);
    (this.#headers ??= []).push({ name: partOf("header's name", name), value: partOf("header's value", value) });
    return this;
  }

  /** Gives the event time, in milliseconds since the epoch. */
  timestamp(timestamp) {
    const fits = typeof timestamp === 'bigint' ? timestamp <= I64_MAX && timestamp >= -I64_MAX - 1n : Number.isSafeInteger(timestamp);
    if (!fits) throw new TypeError(`a timestamp is a whole number of milliseconds, not ${String(timestamp)}`);
    this.#timestamp = BigInt(timestamp);
    return this;
  }

  /** Takes over key, headers and timestamp of a record; headers given before stay. */
  like(record) {
    this.#key = record.key;
    const { timestamp, headerLens, headers } = record.raw;
    this.#timestamp = timestamp;
    if (headerLens.length > 0) (this.#headers ??= []).push({ headerLens, headers });
    return this;
  }

  /** Writes the record with this value. `null` is a tombstone. */
  value(value) {
    this.#write(partOf('value', value));
  }

  /** Writes the record with a value in JSON. */
  json(value) {
    let text;
    try {
      text = stringifyJson(value);
    } catch (error) {
      throw new Error('the output has no JSON form', { cause: error });
    }
    if (text === undefined) throw new Error(`the output has no JSON form: ${typeof value}`);
    this.#write(text);
  }

  /** Writes the record without a value: its key is deleted from a compacted topic. */
  tombstone() {
    this.#write(null);
  }

  /** Passes a record on as it is: key, value, headers, timestamp. */
  forward(record) {
    this.like(record).#write(record.value);
  }

  #write(value) {
    if (this.#done) throw new Error('this record was written already: begin the next one from `out`');
    this.#done = true;
    this.#rows.push(this.#offset, this.#timestamp, this.#key, value, this.#headers ?? NO_LENS);
  }
}
