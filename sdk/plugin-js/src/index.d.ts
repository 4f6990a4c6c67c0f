/** What can be a key, a value or a header's value: text, bytes, a number (as decimal text), or `null`. */
export type Part = string | Uint8Array | ArrayBuffer | ArrayBufferView | number | bigint | null;

/** An input record. Keys, values and header values are views into the batch: copy what has to outlive the call. */
export class Record {
  private constructor();
  /** The key, or `null`. */
  readonly key: Uint8Array | null;
  /** The key as text; `null` without a key or when it is not UTF-8. */
  readonly keyText: string | null;
  /** The value; `null` is a tombstone, which deletes its key from a compacted topic. */
  readonly value: Uint8Array | null;
  readonly isTombstone: boolean;
  /** Event time in milliseconds since the epoch. */
  readonly timestamp: number;
  /** The record's place in its input partition. */
  readonly offset: number;
  /** The headers in order, as pairs of name and value (`null` where it is null); names may repeat. */
  readonly headers: [name: string, value: Uint8Array | null][];
  /** The value of the last header of this name; `null` without one, and when that header's value is null. */
  header(name: string): Uint8Array | null;
  /** The value's bytes; throws for a tombstone. */
  bytes(): Uint8Array;
  /** The value as text; throws when it is not UTF-8, and for a tombstone. */
  text(): string;
  /**
   * The value, parsed as JSON; throws when it is not JSON, and for a tombstone. The type is a promise of the caller's:
   * check what matters. An integer beyond 2^53 comes as a BigInt, so that no digit is lost.
   */
  json<T = any>(): T;
  /** One field of a JSON value, by a path of names such as `user.address.city`; `undefined` when there is none. */
  field(path: string): unknown;
}

/** A record being built. It counts once its value is given: `value`, `json`, `tombstone`, `forward`. */
export class Emit {
  private constructor();
  /** Gives the key. `null` is no key. */
  key(key: Part): this;
  /** Adds a header. A value of `null` is a null value. */
  header(name: string, value: Part): this;
  /** Gives the event time, in milliseconds since the epoch. */
  timestamp(timestamp: number | bigint): this;
  /** Takes over key, headers and timestamp of a record; headers given before stay. */
  like(record: Record): this;
  /** Writes the record with this value. `null` is a tombstone. */
  value(value: Part): void;
  /** Writes the record with a value in JSON. */
  json(value: unknown): void;
  /** Writes the record without a value: its key is deleted from a compacted topic. */
  tombstone(): void;
  /** Passes a record on as it is: key, value, headers, timestamp. */
  forward(record: Record): void;
}

/**
 * The outputs of a transform. Any number of records may be written per input record; those of one that fails are taken
 * back. A record gets the input's timestamp unless given another, and no key unless given one.
 */
export class Output {
  private constructor();
  /** Starts a record with this key on the main output. */
  key(key: Part): Emit;
  /** Starts a record with this header on the main output. */
  header(name: string, value: Part): Emit;
  /** Starts a record with this timestamp (milliseconds since the epoch) on the main output. */
  timestamp(timestamp: number | bigint): Emit;
  /** Starts a record with the key, headers and timestamp of `record` on the main output. */
  like(record: Record): Emit;
  /** Starts a record on another output, which package.json declares: `"millstream": { "outputs": ["refunds"] }`. */
  to(output: string): Emit;
  /** Writes a value without key or headers to the main output. */
  value(value: Part): void;
  /** Writes a value as JSON, without key or headers, to the main output. */
  json(value: unknown): void;
  /** Passes a record on to the main output as it is: key, value, headers, timestamp. */
  forward(record: Record): void;
}

/** A record's failure with a message of one's own; any other error does as well. */
export class Reject extends Error {
  constructor(message: string, options?: { cause?: unknown });
}

/** The type of a configuration's field, which reads as `T`. */
export interface Field<T> {
  /** @internal */
  readonly read: (value: any, path: (string | number)[]) => T;
  /** May be left out, or `null`; is then `undefined`. */
  optional(): Field<T | undefined>;
  /** May be left out; is then `value`. */
  default(value: T): Field<T>;
}

export type Fields = { [name: string]: Field<any> };

/** The configuration that fields make. */
export type Config<F extends Fields> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };

interface Bounds {
  min?: number;
  max?: number;
}

/** The types that a configuration's fields can have. */
export const field: {
  string(): Field<string>;
  boolean(): Field<boolean>;
  /** A whole number; with bounds, they are included. */
  integer(bounds?: Bounds): Field<number>;
  /** Any number; with bounds, they are included. */
  number(bounds?: Bounds): Field<number>;
  /** One of these texts. */
  oneOf<const T extends string>(...values: T[]): Field<T>;
  list<T>(of: Field<T>): Field<T[]>;
  /** Any names, with values of one type. */
  map<T>(of: Field<T>): Field<{ [name: string]: T }>;
  object<F extends Fields>(fields: F): Field<Config<F>>;
  /** Whatever is there, unchecked. */
  any(): Field<any>;
};

/** What `plugin` makes; `C` is its configuration. */
export interface Plugin<C> {
  /** Checks a step's `with` and fills in defaults; throws with a message for the pipeline's author. */
  configure(value: unknown): C;
}

/**
 * Makes a plugin of a transform; a module has one, as its default export. What the transform throws is that record's
 * failure: its outputs are taken back, and the pipeline's policy decides what becomes of it.
 */
export function plugin(transform: (record: Record, out: Output) => void): Plugin<undefined>;
export function plugin<F extends Fields>(definition: {
  /** The step's `with`; what is not declared here is refused. */
  config: F;
  transform(record: Record, config: Config<F>, out: Output): void;
}): Plugin<Config<F>>;

/** Adds to a counter of this plugin, shown by `millstream pipeline describe`. A rejected record's counts stay. */
export function count(name: string, delta?: number | bigint): void;

/** Record time: the largest timestamp of the batch being processed, in milliseconds since the epoch. There is no other clock. */
export function now(): number;

/** Writes lines to the pipeline's log. */
export const log: {
  /** For following a single record. */
  trace(message: string): void;
  /** For whoever debugs the plugin. */
  debug(message: string): void;
  info(message: string): void;
  /** Something looks wrong, the record is handled nevertheless. */
  warn(message: string): void;
  /** Something is wrong. A record that fails needs no such line, its error is reported anyway. */
  error(message: string): void;
};
