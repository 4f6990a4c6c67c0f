// Turns readings in Fahrenheit into Celsius: {"sensor": "s1", "fahrenheit": 212} becomes {"sensor": "s1", "celsius": 100}.
// A reading of `null` goes to the output `unreadable`; whatever else is no number is rejected.
import { field, plugin, Reject } from 'millstream-plugin';

export default plugin({
  config: { decimals: field.integer({ min: 0, max: 9 }).default(1) },

  transform(record, { decimals }, out) {
    const { fahrenheit, ...rest } = record.json();
    if (fahrenheit === null) {
      out.to('unreadable').forward(record);
    } else if (typeof fahrenheit === 'number') {
      out.like(record).json({ ...rest, celsius: celsius(fahrenheit, decimals) });
    } else {
      throw new Reject('fahrenheit is not a number');
    }
  },
});

function celsius(fahrenheit, decimals) {
  const factor = 10 ** decimals;
  return Math.round(((fahrenheit - 32) / 1.8) * factor) / factor;
}
