// Records as columns, the shape in which they cross the plugin boundary (`record batch` in sdk/wit): one entry per
// record in every column, the bytes of all keys (values, headers) end to end, a length of -1 for an absent part.
import { Record } from './record.js';

const encoder = new TextEncoder();

/** Calls `visit(record, index, offset, timestamp)` for each record of a batch, in order. */
export function eachRecord(batch, visit) {
  const { offsets, timestamps, keyLens, valueLens, headerCounts, headerLens } = batch;
  let keyAt = 0, valueAt = 0, headersFrom = 0, headersAt = 0;
  for (let row = 0; row < offsets.length; row++) {
    visit(new Record(batch, row, keyAt, valueAt, headersFrom, headersAt), row, offsets[row], timestamps[row]);
    if (keyLens[row] > 0) keyAt += keyLens[row];
    if (valueLens[row] > 0) valueAt += valueLens[row];
    const end = headersFrom + 2 * headerCounts[row];
    for (; headersFrom < end; headersFrom++) if (headerLens[headersFrom] > 0) headersAt += headerLens[headersFrom];
  }
}

/** The records written to one output. */
export class Rows {
  #offsets = []; #timestamps = []; #keyLens = []; #valueLens = []; #headerCounts = []; #headerLens = [];
  #keys = new Bytes(); #values = new Bytes(); #headers = new Bytes();

  get length() {
    return this.#offsets.length;
  }

  /** Appends a record; `headers` are pairs of parts, or columns taken over from a record. */
  push(offset, timestamp, key, value, headers) {
    this.#offsets.push(offset);
    this.#timestamps.push(timestamp);
    this.#keyLens.push(this.#keys.append(key));
    this.#valueLens.push(this.#values.append(value));
    let count = 0;
    for (const header of headers) {
      if (header.headerLens === undefined) {
        this.#headerLens.push(this.#headers.append(header.name), this.#headers.append(header.value));
        count++;
      } else {
        for (const length of header.headerLens) this.#headerLens.push(length);
        this.#headers.append(header.headers);
        count += header.headerLens.length / 2;
      }
    }
    this.#headerCounts.push(count);
  }

  /** Lengths to which the columns can be cut back. */
  mark() {
    return [this.#offsets.length, this.#keys.length, this.#values.length, this.#headerLens.length, this.#headers.length];
  }

  /** Cuts back to an earlier `mark`; to nothing without one. */
  truncate(mark) {
    const [rows, keys, values, headerLens, headers] = mark ?? [0, 0, 0, 0, 0];
    for (const column of [this.#offsets, this.#timestamps, this.#keyLens, this.#valueLens, this.#headerCounts]) column.length = rows;
    this.#headerLens.length = headerLens;
    this.#keys.length = keys;
    this.#values.length = values;
    this.#headers.length = headers;
  }

  /** The batch, valid until the next record is pushed; the rows begin anew. */
  take() {
    const batch = {
      offsets: BigInt64Array.from(this.#offsets),
      timestamps: BigInt64Array.from(this.#timestamps),
      keyLens: Int32Array.from(this.#keyLens),
      keys: this.#keys.view(),
      valueLens: Int32Array.from(this.#valueLens),
      values: this.#values.view(),
      headerCounts: Uint32Array.from(this.#headerCounts),
      headerLens: Int32Array.from(this.#headerLens),
      headers: this.#headers.view(),
    };
    this.truncate(null);
    return batch;
  }
}

/** Bytes that grow; what they were given once is kept for the next batch. */
class Bytes {
  #bytes = new Uint8Array(1024);
  length = 0;

  /** Appends text or bytes; the length in bytes, -1 for `null`. */
  append(part) {
    if (part === null) return -1;
    if (typeof part === 'string') {
      // A UTF-16 unit takes three bytes at most.
      this.#reserve(3 * part.length);
      const { written } = encoder.encodeInto(part, this.#bytes.subarray(this.length));
      this.length += written;
      return written;
    }
    this.#reserve(part.length);
    this.#bytes.set(part, this.length);
    this.length += part.length;
    return part.length;
  }

  view() {
    return this.#bytes.subarray(0, this.length);
  }

  #reserve(more) {
    const needed = this.length + more;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    grown.set(this.view());
    this.#bytes = grown;
  }
}
