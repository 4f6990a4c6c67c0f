// `npm test`: the transform in Node.js; fixtures/ has more, for the component.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { record, run } from 'millstream-plugin/testing';
import celsius from '../src/plugin.js';

test('readings are converted, the rest of the record stays', () => {
  const got = run(celsius, { decimals: 2 }, [
    record('{"sensor":"s1","fahrenheit":98.7}').key('s1').timestamp(7),
    record('{"sensor":"s2","fahrenheit":null}'),
    record('{"sensor":"s3"}'),
  ]);
  assert.deepEqual(got.values, ['{"sensor":"s1","celsius":37.06}']);
  assert.equal(got.outputs[0].keyText, 's1');
  assert.equal(got.outputs[0].timestamp, 7);
  assert.deepEqual(got.valuesOf('unreadable'), ['{"sensor":"s2","fahrenheit":null}']);
  assert.deepEqual(got.rejected, [{ index: 2, message: 'fahrenheit is not a number' }]);
});
