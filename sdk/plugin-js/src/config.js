// A step's `with`, checked against the fields that the plugin declares. The host hands it over as JSON when the plugin
// starts; an error here is shown to the pipeline's author, in the words that a plugin in Rust would use.

/** One field's type. `optional()` and `default(value)` make it one that may be left out. */
class Field {
  constructor(expected, read) {
    this.expected = expected;
    this.read = read;
    /** What stands for the field when it is left out; one that may not be has none. */
    this.absent = null;
  }

  /** May be left out, or `null`; is then `undefined`. */
  optional() {
    return this.#withAbsent((value, path) => (value === null ? undefined : this.read(value, path)), undefined);
  }

  /** May be left out; is then `value`. */
  default(value) {
    return this.#withAbsent(this.read, value);
  }

  #withAbsent(read, value) {
    const copy = new Field(this.expected, read);
    copy.absent = { value };
    return copy;
  }
}

/** The types that a configuration's fields can have. */
export const field = {
  string: () => new Field('a string', (value, path) => (typeof value === 'string' ? value : wrong(path, value, 'a string'))),

  boolean: () => new Field('a boolean', (value, path) => (typeof value === 'boolean' ? value : wrong(path, value, 'a boolean'))),

  /** A whole number; with bounds, they are included. */
  integer: (bounds = {}) => {
    const expected = `an integer${range(bounds)}`;
    return new Field(expected, (value, path) => {
      if (!Number.isSafeInteger(value)) wrong(path, value, expected);
      return within(bounds, value) ? value : out(path, value, expected);
    });
  },

  /** Any number; with bounds, they are included. */
  number: (bounds = {}) => {
    const expected = `a number${range(bounds)}`;
    return new Field(expected, (value, path) => {
      if (typeof value !== 'number') wrong(path, value, expected);
      return within(bounds, value) ? value : out(path, value, expected);
    });
  },

  /** One of these texts. */
  oneOf: (...values) =>
    new Field('a string', (value, path) => {
      if (typeof value !== 'string') wrong(path, value, 'a string');
      return values.includes(value) ? value : fail(path, `unknown variant \`${value}\`, expected ${alternatives(values)}`);
    }),

  list: (of) =>
    new Field('a sequence', (value, path) =>
      Array.isArray(value) ? value.map((item, i) => of.read(item, [...path, i])) : wrong(path, value, 'a sequence'),
    ),

  /** Any names, with values of one type. */
  map: (of) =>
    new Field('a map', (value, path) =>
      isMap(value)
        ? Object.fromEntries(Object.entries(value).map(([name, item]) => [name, of.read(item, [...path, name])]))
        : wrong(path, value, 'a map'),
    ),

  object: (fields) =>
    new Field('a map', (value, path) => (isMap(value) ? readFields(fields, value, path) : wrong(path, value, 'a map'))),

  /** Whatever is there, unchecked. */
  any: () => new Field('a value', (value) => value),
};

/** @internal Reads a configuration; a step without one (`null`) counts as one without fields. */
export function readConfig(fields, value) {
  const given = value ?? {};
  if (fields === null) {
    if (isMap(given) && Object.keys(given).length === 0) return undefined;
    throw new Error('config: this plugin takes no configuration');
  }
  if (!isMap(given)) wrong([], given, 'a map');
  return readFields(fields, given, []);
}

function readFields(fields, value, path) {
  const names = Object.keys(fields);
  const unknown = Object.keys(value).find((name) => !Object.hasOwn(fields, name));
  if (unknown !== undefined) {
    const expected = names.length === 0 ? 'there are no fields' : `expected ${alternatives(names)}`;
    fail(path, `unknown field \`${unknown}\`, ${expected}`);
  }
  const read = {};
  for (const name of names) {
    const known = fields[name];
    if (Object.hasOwn(value, name)) read[name] = known.read(value[name], [...path, name]);
    else if (known.absent !== null) read[name] = known.absent.value;
    else fail(path, `missing field \`${name}\``);
  }
  return read;
}

function isMap(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function alternatives(names) {
  const quoted = names.map((name) => `\`${name}\``);
  return quoted.length <= 2 ? quoted.join(' or ') : `one of ${quoted.join(', ')}`;
}

function range({ min, max }) {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  if (min !== undefined) return ` of at least ${min}`;
  return max === undefined ? '' : ` of at most ${max}`;
}

function within({ min = -Infinity, max = Infinity }, value) {
  return value >= min && value <= max;
}

/** The kind of a JSON value and the value itself, where it is short. */
function describe(value) {
  switch (typeof value) {
    case 'string':
      return `string ${JSON.stringify(value)}`;
    case 'boolean':
      return `boolean \`${value}\``;
    case 'number':
      return Number.isInteger(value) ? `integer \`${value}\`` : `floating point \`${value}\``;
    default:
      if (value === null) return 'null';
      return Array.isArray(value) ? 'sequence' : 'map';
  }
}

function wrong(path, value, expected) {
  fail(path, `invalid type: ${describe(value)}, expected ${expected}`);
}

function out(path, value, expected) {
  fail(path, `invalid value: ${describe(value)}, expected ${expected}`);
}

function fail(path, message) {
  const where = path.length === 0 ? '' : `${path.join('.')}: `;
  throw new Error(`config: ${where}${message}`);
}
