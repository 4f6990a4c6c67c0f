// What the contract's table can't say: configurations of every type, parts that are refused, the harness itself.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { count, field, log, now, plugin, Reject } from 'millstream-plugin';
import { bytes, config, record, run } from 'millstream-plugin/testing';

const shout = plugin((input, out) => out.like(input).value(input.text().toUpperCase()));

test('a plugin is called for each record', () => {
  const got = run(shout, null, [record('hello').key('k').header('h', 'x').timestamp(5), record(new Uint8Array([255]))]);
  assert.deepEqual(got.values, ['HELLO']);
  assert.equal(got.outputs[0].keyText, 'k');
  assert.deepEqual(got.outputs[0].headers, [['h', bytes('x')]]);
  assert.equal(got.outputs[0].timestamp, 5);
  assert.deepEqual(got.rejected, [{ index: 1, message: 'the value is not UTF-8 text' }]);
});

test('what is no plugin is told', () => {
  assert.throws(() => plugin({}), /a plugin is `plugin/);
  assert.throws(() => plugin(), /a plugin is `plugin/);
  assert.throws(() => plugin(async () => {}), /not async/);
  const promising = plugin(() => Promise.resolve());
  assert.match(run(promising, null, [record('x')]).rejected[0].message, /not async/);
});

test('messages of whatever is thrown', () => {
  const check = (thrown, expected) => {
    const failing = plugin(() => {
      throw thrown;
    });
    assert.equal(run(failing, null, [record('x')]).rejected[0].message, expected);
  };
  check(new Reject('no text'), 'no text');
  check(new TypeError('x is null'), 'x is null');
  check(new Reject('outer', { cause: new Error('middle', { cause: 'inner' }) }), 'outer: middle: inner');
  check('a text', 'a text');
  check(undefined, 'the transform threw nothing');
  check(new RangeError(), 'RangeError');
  const own = new Error('its own cause');
  own.cause = own;
  const failing = plugin(() => {
    throw own;
  });
  assert.ok(run(failing, null, [record('x')]).rejected[0].message.length < 1_000);
});

test('parts are text, bytes, numbers or null', () => {
  const check = (part, expected) => {
    const writing = plugin((_, out) => out.value(part));
    const got = run(writing, null, [record('x')]);
    assert.equal(got.values[0] ?? got.rejected[0].message, expected);
  };
  check('ü', 'ü');
  check(bytes('b'), 'b');
  check(bytes('abc').buffer, 'abc');
  check(new DataView(bytes('abc').buffer, 1, 1), 'b');
  check(16.0, '16');
  check(-0, '0');
  check(1e21, '1e+21');
  check(2 ** 68, '295147905179352825856');
  check(0.1, '0.1');
  check(2n ** 64n, '18446744073709551616');
  check(null, '<tombstone>');
  check(undefined, "a value can't be undefined: is a field missing? none at all is `null`");
  check(NaN, "a value can't be NaN");
  check(true, "a value can't be a boolean: use text, bytes, a number or null");
  check({}, "a value can't be an object: use text, bytes, a number or null");
  check([1], "a value can't be an array: use text, bytes, a number or null");
  check('\ud800', "a value can't be text with a lone surrogate");
});

test('JSON keeps the digits of integers', () => {
  const copying = plugin((input, out) => out.json(input.json()));
  const check = (text, expected = text) => assert.deepEqual(run(copying, null, [record(text)]).values, [expected]);
  check('{"id":9007199254740993,"text":"9007199254740993","list":[-9223372036854775808,0.1234567890123456]}');
  check('123456789012345678901234567890');
  check('9007199254740991');
  check('"millstream-integer:9007199254740993 \\"9007199254740993\\" "');
  check('[9007199254740993,"\\u0000millstream-integer:1"]');
  const adding = plugin((input, out) => out.json(input.json() + 1));
  assert.match(run(adding, null, [record('9007199254740993')]).rejected[0].message, /BigInt/);
});

test('values without a JSON form are told', () => {
  const check = (value, expected) => {
    const writing = plugin((_, out) => out.json(value));
    const got = run(writing, null, [record('x')]);
    assert.deepEqual(got.outputs, []);
    assert.match(got.rejected[0].message, expected);
  };
  check(undefined, /^the output has no JSON form: undefined$/);
  check(() => {}, /^the output has no JSON form: function$/);
  const circle = {};
  circle.circle = circle;
  check(circle, /^the output has no JSON form: .*circular/i);
});

test('a record is written once, to an output by its name', () => {
  const twice = plugin((_, out) => {
    const emit = out.key('k');
    emit.value('1');
    emit.value('2');
  });
  const got = run(twice, null, [record('x')]);
  assert.deepEqual(got.outputs, []);
  assert.match(got.rejected[0].message, /written already/);
  assert.match(run(plugin((_, out) => out.to(undefined)), null, [record('x')]).rejected[0].message, /named by a string/);
  assert.match(run(plugin((_, out) => out.header(1, 'x')), null, [record('x')]).rejected[0].message, /named by a string/);
  assert.match(run(plugin((_, out) => out.timestamp(1.5)), null, [record('x')]).rejected[0].message, /whole number of milliseconds, not 1.5/);
});

test('counters and logs are those of the batch', () => {
  const telling = plugin((input) => {
    count('seen');
    count('weight', 2);
    log.info(`at ${now()}`);
  });
  const got = run(telling, null, [record('a').timestamp(3), record('b').timestamp(8)]);
  assert.equal(got.counter('seen'), 2);
  assert.equal(got.counter('weight'), 4);
  assert.equal(got.counter('none'), 0);
  assert.deepEqual(got.logs, [['info', 'at 8'], ['info', 'at 8']]);
  const wrong = plugin(() => count('n', -1));
  assert.match(run(wrong, null, [record('x')]).rejected[0].message, /whole number, not by -1/);
});

const every = plugin({
  config: {
    text: field.string(),
    flag: field.boolean().default(true),
    size: field.integer({ min: 1 }).default(7),
    share: field.number({ min: 0, max: 1 }).optional(),
    mode: field.oneOf('mask', 'drop', 'hash').default('mask'),
    names: field.list(field.string()).default([]),
    rates: field.map(field.number()).optional(),
    nested: field.object({ deep: field.integer({ max: 9 }) }).optional(),
    rest: field.any().optional(),
  },
  transform: (_, settings, out) => out.json(settings),
});

test('configurations of every type are read', () => {
  const given = { text: 'a', flag: false, size: 3, share: 0.5, mode: 'hash', names: ['x'], rates: { eur: 1.5 }, nested: { deep: 9 }, rest: [1] };
  assert.deepEqual(config(every, given), given);
  assert.deepEqual({ ...config(every, { text: 'a', share: null }) }, {
    text: 'a', flag: true, size: 7, share: undefined, mode: 'mask', names: [], rates: undefined, nested: undefined, rest: undefined,
  });
});

test('mistakes in a configuration are told', () => {
  const check = (given, expected) => assert.throws(() => config(every, given), { message: `config: ${expected}` });
  check({ text: 1 }, 'text: invalid type: integer `1`, expected a string');
  check({ text: 'a', flag: 'yes' }, 'flag: invalid type: string "yes", expected a boolean');
  check({ text: 'a', flag: null }, 'flag: invalid type: null, expected a boolean');
  check({ text: 'a', size: 0 }, 'size: invalid value: integer `0`, expected an integer of at least 1');
  check({ text: 'a', share: 1.5 }, 'share: invalid value: floating point `1.5`, expected a number from 0 to 1');
  check({ text: 'a', mode: 'msak' }, 'mode: unknown variant `msak`, expected one of `mask`, `drop`, `hash`');
  check({ text: 'a', names: ['x', 2] }, 'names.1: invalid type: integer `2`, expected a string');
  check({ text: 'a', rates: { eur: true } }, 'rates.eur: invalid type: boolean `true`, expected a number');
  check({ text: 'a', nested: { deep: 10 } }, 'nested.deep: invalid value: integer `10`, expected an integer of at most 9');
  check({ text: 'a', nested: { dep: 1 } }, 'nested: unknown field `dep`, expected `deep`');
  check({ text: 'a', nested: {} }, 'nested: missing field `deep`');
  check([], 'invalid type: sequence, expected a map');
  check(null, 'missing field `text`');
  assert.throws(() => config(shout, { a: 1 }), { message: 'config: this plugin takes no configuration' });
  assert.equal(config(shout, null), undefined);
  assert.equal(config(shout, {}), undefined);
});

test('in a component, what is not there says so', () => {
  const tame = new URL('../src/tame.js', import.meta.url).href;
  const report = new URL('../src/report.js', import.meta.url).href;
  // In a process of its own, since it changes what is global.
  const check = (expression, expected) => {
    const script = `import ${JSON.stringify(tame)}; import { setSink } from ${JSON.stringify(report)};
      const lines = []; setSink((level, line) => lines.push(level + ' ' + line));
      let found; try { found = ${expression}; } catch (error) { found = error.message; }
      process.stdout.write(String(found ?? lines));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    assert.ok(stdout.includes(expected), `${expression}: ${stdout}${stderr}`);
  };
  check('Date.now()', 'no clock but record time');
  check('new Date()', 'no clock but record time');
  check('new Date(0).toISOString()', '1970-01-01T00:00:00.000Z');
  check('new Date(5) instanceof Date', 'true');
  check('new (class Day extends Date {})(0) instanceof Date', 'true');
  check('performance.now()', 'no clock but record time');
  check('Math.random()', 'no randomness');
  check('crypto.randomUUID()', 'no randomness');
  check('fetch("http://x")', 'no network');
  check('setTimeout(() => {}, 1)', 'no timers');
  check('console.log("a", { b: 1 }, new Error("c"))', 'info a {"b":1} c');
  check('console.warn("w")', 'warn w');
});
