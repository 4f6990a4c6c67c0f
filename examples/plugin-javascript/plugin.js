// Turns readings in Fahrenheit into Celsius: {"sensor": "s1", "fahrenheit": 212} becomes {"sensor": "s1", "celsius": 100}.
// A reading of `null` goes to the output `unreadable`; whatever else is no number is rejected.
import { emit, log, reject } from 'millstream:plugin/host@0.1.0';
import { Output, records } from './columns.js';

let factor = 1;

export function init(text) {
  const config = JSON.parse(text) ?? {};
  const unknown = Object.keys(config).find((name) => name !== 'decimals');
  if (unknown !== undefined) throw `config: unknown field \`${unknown}\`, expected \`decimals\``;
  const { decimals = 1 } = config;
  if (!Number.isInteger(decimals) || decimals < 0 || decimals > 9) throw 'config: decimals: expected a number from 0 to 9';
  factor = 10 ** decimals;
  log('debug', `rounding to ${decimals} decimals`);
}

export function process(batch) {
  const readings = new Output();
  const unreadable = new Output();
  for (const record of records(batch)) {
    try {
      const { fahrenheit, ...rest } = JSON.parse(record.text());
      if (fahrenheit === null) {
        unreadable.forward(record);
        continue;
      }
      if (typeof fahrenheit !== 'number') throw new Error('fahrenheit is not a number');
      const celsius = Math.round(((fahrenheit - 32) / 1.8) * factor) / factor;
      readings.write(record, { value: JSON.stringify({ ...rest, celsius }) });
    } catch (error) {
      reject(record.index, `the value is not the JSON expected: ${error.message}`);
    }
  }
  if (readings.rows > 0) emit('', readings.batch());
  if (unreadable.rows > 0) emit('unreadable', unreadable.batch());
}
