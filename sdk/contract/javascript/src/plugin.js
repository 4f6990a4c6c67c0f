// Does what its configuration tells it: the JavaScript guest of ../../cases.json.
import { count, field, log, now, plugin, Reject } from 'millstream-plugin';

export default plugin({
  config: {
    program: field.list(field.list(field.any())),
    level: field.integer({ min: 0, max: 255 }).default(0),
  },
  transform: (record, config, out) => obey(config.program, { record, config, out }),
});

function obey(program, { record, config, out }) {
  let emit = null;
  const begun = () => (emit ??= out);
  const ended = () => {
    const all = emit ?? out;
    emit = null;
    return all;
  };
  for (const [word, first, second] of program) {
    switch (word) {
      case 'key': emit = begun().key(first); break;
      case 'header': emit = begun().header(first, second); break;
      case 'timestamp': emit = begun().timestamp(first); break;
      case 'keyof': emit = begun().key(record.field(first)); break;
      case 'like': emit = begun().like(record); break;
      case 'to': emit = out.to(first); break;
      case 'drop': emit = null; break;
      case 'value': ended().value(first); break;
      case 'json': ended().json(first); break;
      case 'tombstone': (emit ?? out.key(null)).tombstone(); emit = null; break;
      case 'forward': ended().forward(record); break;
      case 'echo': ended().value(record.value); break;
      case 'text': ended().value(record.text()); break;
      case 'parse': ended().json(record.json()); break;
      case 'field': ended().json(record.field(first) ?? absent(record, first)); break;
      case 'facts': ended().json(facts(record)); break;
      case 'now': ended().value(now()); break;
      case 'level': ended().value(config.level); break;
      case 'badjson': badJson(ended()); break;
      case 'count': count(first, typeof second === 'string' ? BigInt(second) : second); break;
      case 'log': log[first](second); break;
      case 'when': if (record.value !== null && record.text() === first) obey(second, { record, config, out }); break;
      case 'fail': throw new Reject(first, second === undefined ? {} : { cause: new Error(second) });
      case 'loop': for (;;);
      case 'exhaust': exhaust(); break;
      default: throw new Error(`unknown word ${word}`);
    }
  }
}

/** A field that is `null`, or none. */
function absent(record, path) {
  return record.field(path) === null ? null : 'none';
}

function facts(record) {
  const text = (bytes) => (bytes === null ? null : new TextDecoder().decode(bytes));
  const headers = record.headers.map(([name, value]) => [name, text(value)]);
  return [record.keyText, record.isTombstone, headers, text(record.header('h')), record.timestamp, record.offset];
}

function badJson(emit) {
  const bad = { toJSON() { throw new Error('bad'); } };
  let failed = false;
  try {
    emit.json(['half', bad]);
  } catch {
    failed = true;
  }
  if (!failed) throw new Error('a bad value was written');
}

function exhaust() {
  const kept = [];
  for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
}
