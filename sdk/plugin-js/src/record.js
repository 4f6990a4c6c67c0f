// One input record: parts of its batch's columns, which are looked at when they are asked for.
import { Reject } from './failure.js';
import { parseJson } from './json.js';

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** An input record. Keys, values and header values are views into the batch: copy what has to outlive the call. */
export class Record {
  #batch; #row; #keyAt; #valueAt; #headersFrom; #headersAt;

  /** @internal Made by the batch loop, which knows where the row's parts begin. */
  constructor(batch, row, keyAt, valueAt, headersFrom, headersAt) {
    this.#batch = batch;
    this.#row = row;
    this.#keyAt = keyAt;
    this.#valueAt = valueAt;
    this.#headersFrom = headersFrom;
    this.#headersAt = headersAt;
  }

  /** The key, or `null`. */
  get key() {
    const length = this.#batch.keyLens[this.#row];
    return length < 0 ? null : this.#batch.keys.subarray(this.#keyAt, this.#keyAt + length);
  }

  /** The key as text; `null` without a key or when it is not UTF-8. */
  get keyText() {
    const key = this.key;
    return key === null ? null : textOrNull(key);
  }

  /** The value; `null` is a tombstone, which deletes its key from a compacted topic. */
  get value() {
    const length = this.#batch.valueLens[this.#row];
    return length < 0 ? null : this.#batch.values.subarray(this.#valueAt, this.#valueAt + length);
  }

  get isTombstone() {
    return this.#batch.valueLens[this.#row] < 0;
  }

  /** The value's bytes; throws for a tombstone. */
  bytes() {
    const value = this.value;
    if (value === null) throw new Reject('the record has no value (a tombstone)');
    return value;
  }

  /** The value as text; throws when it is not UTF-8, and for a tombstone. */
  text() {
    const bytes = this.bytes();
    try {
      return strict.decode(bytes);
    } catch {
      throw new Reject('the value is not UTF-8 text');
    }
  }

  /** The value, parsed as JSON; throws when it is not JSON, and for a tombstone. */
  json() {
    const bytes = this.bytes();
    try {
      return parseJson(strict.decode(bytes));
    } catch (error) {
      throw new Reject('the value is not the JSON expected', { cause: error });
    }
  }

  /** One field of a JSON value, by a path of names such as `user.address.city`; `undefined` when there is none. */
  field(path) {
    let found = this.json();
    for (const name of path.split('.')) {
      if (typeof found !== 'object' || found === null || Array.isArray(found) || !Object.hasOwn(found, name)) return undefined;
      found = found[name];
    }
    return found;
  }

  /** Event time in milliseconds since the epoch. */
  get timestamp() {
    return Number(this.#batch.timestamps[this.#row]);
  }

  /** The record's place in its input partition. */
  get offset() {
    return Number(this.#batch.offsets[this.#row]);
  }

  /** The headers in order, as pairs of name and value (`null` where it is null); names may repeat. */
  get headers() {
    const { headerLens, headers } = this.#batch;
    const end = this.#headersFrom + 2 * this.#batch.headerCounts[this.#row];
    const found = [];
    for (let i = this.#headersFrom, at = this.#headersAt; i < end; i += 2) {
      const name = headers.subarray(at, (at += headerLens[i]));
      const value = headerLens[i + 1] < 0 ? null : headers.subarray(at, (at += headerLens[i + 1]));
      found.push([textOrNull(name) ?? '\ufffd', value]);
    }
    return found;
  }

  /** The value of the last header of this name; `null` without one, and when that header's value is null. */
  header(name) {
    return this.headers.findLast(([found]) => found === name)?.[1] ?? null;
  }

  /** @internal What an output takes over: numbers as they are, headers as columns. */
  get raw() {
    const batch = this.#batch, row = this.#row, from = this.#headersFrom;
    const headerLens = batch.headerLens.subarray(from, from + 2 * batch.headerCounts[row]);
    let end = this.#headersAt;
    for (const length of headerLens) if (length > 0) end += length;
    return { timestamp: batch.timestamps[row], headerLens, headers: batch.headers.subarray(this.#headersAt, end) };
  }
}

function textOrNull(bytes) {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}
