// `npm test`: columns become records and records become the same columns again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Output, records } from './columns.js';

const bytes = (text) => new TextEncoder().encode(text);
const batch = {
  offsets: BigInt64Array.of(7n, 8n, 9n),
  timestamps: BigInt64Array.of(1n, 2n, 3n),
  keyLens: Int32Array.of(1, -1, 0),
  keys: bytes('k'),
  valueLens: Int32Array.of(2, 3, -1),
  values: bytes('abcde'),
  headerCounts: Uint32Array.of(0, 2, 0),
  headerLens: Int32Array.of(1, 2, 1, -1),
  headers: bytes('n12m'),
};

test('records are read and passed on', () => {
  const out = new Output();
  const texts = [];
  for (const record of records(batch)) {
    out.forward(record);
    texts.push(record.value && record.text());
  }
  assert.deepEqual(texts, ['ab', 'cde', null]);
  assert.deepEqual(out.batch(), batch);
});

test('a new value keeps key, headers and timestamp', () => {
  const out = new Output();
  const [, second] = records(batch);
  out.write(second, { value: 'ü', key: 'q' });
  assert.deepEqual(out.batch(), {
    offsets: BigInt64Array.of(8n), timestamps: BigInt64Array.of(2n),
    keyLens: Int32Array.of(1), keys: bytes('q'), valueLens: Int32Array.of(2), values: bytes('ü'),
    headerCounts: Uint32Array.of(2), headerLens: Int32Array.of(1, 2, 1, -1), headers: bytes('n12m'),
  });
});
