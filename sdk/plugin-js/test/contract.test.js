// The contract's table over the guest in JavaScript, natively; `.ci/languages` runs it over the component.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { register } from 'node:module';
import { test } from 'node:test';
import { config as configure, record, run } from 'millstream-plugin/testing';

const contract = new URL('../../contract/', import.meta.url);
// The guest finds the SDK here, installed or not.
register(`data:text/javascript,${encodeURIComponent(`export const resolve = (specifier, context, next) =>
  next(specifier === 'millstream-plugin' ? ${JSON.stringify(new URL('../src/index.js', import.meta.url).href)} : specifier, context);`)}`);
const { default: obey } = await import(new URL('javascript/src/plugin.js', contract));
const cases = JSON.parse(readFileSync(new URL('cases.json', contract), 'utf8'));

/** A part of the table as bytes. */
function part(given) {
  if (given === null || given === undefined) return null;
  if (typeof given === 'string') return Buffer.from(given);
  return given.hex === undefined ? Buffer.from(given.repeat.repeat(given.times)) : Buffer.from(given.hex, 'hex');
}

/** The table's numbers beyond 2^53 are texts; what comes out is a number. */
const stamp = (timestamp) => Number(timestamp ?? 0);

for (const { name, config, input = [], times = 1, refused, failure, ...expected } of cases) {
  // What ends an instance would end this process.
  if (failure !== undefined) continue;
  test(name, () => {
    if (refused !== undefined) {
      for (const words of refused) assert.throws(() => configure(obey, config), (error) => error.message.includes(words));
      return;
    }
    const inputs = [];
    for (let i = 0; i < times; i++) {
      for (const given of input) {
        let made = record(part(given.value)).key(part(given.key)).timestamp(given.timestamp ?? 0);
        for (const [header, value] of given.headers ?? []) made = made.header(header, part(value));
        inputs.push(made);
      }
    }
    const got = run(obey, config, inputs);
    for (const output of ['', 'other', 'refunds']) {
      const rows = (output === '' ? expected.output : expected.outputs?.[output]) ?? [];
      const wanted = [];
      for (let i = 0; i < times; i++) {
        for (const row of rows) {
          wanted.push({
            from: row.from + i * input.length,
            key: part(row.key),
            value: part(row.value),
            headers: (row.headers ?? []).map(([header, value]) => [header, part(value)]),
            timestamp: stamp(row.timestamp),
          });
        }
      }
      const plain = (bytes) => (bytes === null ? null : Buffer.from(bytes));
      const found = got.outputs
        .filter(({ to }) => to === output)
        .map(({ from, key, value, headers, timestamp }) => ({
          from, key: plain(key), value: plain(value), headers: headers.map(([header, bytes]) => [header, plain(bytes)]), timestamp,
        }));
      assert.deepEqual(found, wanted, `output \`${output}\``);
    }
    const rejected = [];
    for (let i = 0; i < times; i++) rejected.push(...(expected.rejected ?? []).map((one) => ({ ...one, index: one.index + i * input.length })));
    assert.deepEqual(got.rejected.map(({ index }) => index), rejected.map(({ index }) => index));
    got.rejected.forEach(({ message }, i) => {
      const { message: whole, begins } = rejected[i];
      if (whole !== undefined) assert.equal(message, whole);
      else assert.ok(message.startsWith(begins), `${message} begins with ${begins}`);
    });
    assert.deepEqual(got.logs, expected.logs ?? []);
    assert.deepEqual(Object.fromEntries(got.counters.map(([counter, sum]) => [counter, String(sum)])),
      Object.fromEntries(Object.entries(expected.counters ?? {}).map(([counter, sum]) => [counter, String(sum)])));
  });
}
