// Columns to records and back. Batches cross the boundary as columns: one entry per record in every column, and the
// bytes of all keys (values, headers) end to end. See sdk/wit/plugin.wit.

const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

/** The records of a batch, in order; keys, values and headers are views into it, `null` where absent. */
export function* records(batch) {
  let key = 0, value = 0, header = 0, headerLen = 0;
  for (let index = 0; index < batch.offsets.length; index++) {
    const keyLen = batch.keyLens[index], valueLen = batch.valueLens[index];
    const headerLens = batch.headerLens.subarray(headerLen, headerLen + 2 * batch.headerCounts[index]);
    const headerBytes = headerLens.reduce((sum, len) => sum + Math.max(len, 0), 0);
    yield {
      index,
      offset: batch.offsets[index],
      timestamp: batch.timestamps[index],
      key: keyLen < 0 ? null : batch.keys.subarray(key, key + keyLen),
      value: valueLen < 0 ? null : batch.values.subarray(value, value + valueLen),
      headerLens,
      headers: batch.headers.subarray(header, header + headerBytes),
      text() {
        if (this.value === null) throw new Error('the record has no value (a tombstone)');
        return decoder.decode(this.value);
      },
    };
    key += Math.max(keyLen, 0);
    value += Math.max(valueLen, 0);
    header += headerBytes;
    headerLen += headerLens.length;
  }
}

/** The records written to one output. */
export class Output {
  #offsets = []; #timestamps = []; #headerCounts = []; #headerLens = [];
  #keys = new Part(); #values = new Part(); #headers = [];

  get rows() {
    return this.#offsets.length;
  }

  /** Writes a record made from `record`, whose key, headers and timestamp it keeps unless given others. */
  write(record, { value, key = record.key, timestamp = record.timestamp }) {
    this.#offsets.push(record.offset);
    this.#timestamps.push(timestamp);
    this.#keys.push(key);
    this.#values.push(value);
    this.#headerCounts.push(record.headerLens.length / 2);
    this.#headerLens.push(...record.headerLens);
    this.#headers.push(record.headers);
  }

  /** Passes a record on as it is. */
  forward(record) {
    this.write(record, { value: record.value });
  }

  batch() {
    return {
      offsets: BigInt64Array.from(this.#offsets),
      timestamps: BigInt64Array.from(this.#timestamps),
      keyLens: Int32Array.from(this.#keys.lens),
      keys: joined(this.#keys.parts),
      valueLens: Int32Array.from(this.#values.lens),
      values: joined(this.#values.parts),
      headerCounts: Uint32Array.from(this.#headerCounts),
      headerLens: Int32Array.from(this.#headerLens),
      headers: joined(this.#headers),
    };
  }
}

/** One column of bytes, with its lengths. */
class Part {
  lens = [];
  parts = [];

  push(part) {
    const bytes = typeof part === 'string' ? encoder.encode(part) : part;
    this.lens.push(bytes === null ? -1 : bytes.length);
    if (bytes !== null) this.parts.push(bytes);
  }
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
