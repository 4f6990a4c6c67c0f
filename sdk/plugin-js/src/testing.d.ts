import type { Part, Plugin } from './index.js';

/** An input record for `run`. */
export interface Input {
  key(key: Part): this;
  header(name: string, value: Part): this;
  timestamp(timestamp: number | bigint): this;
}

/** A record that the transform wrote. */
export interface Emitted {
  /** The output's name; "" is the main one. */
  to: string;
  /** Index of the input record it was made from. */
  from: number;
  key: Uint8Array | null;
  value: Uint8Array | null;
  headers: [name: string, value: Uint8Array | null][];
  timestamp: number;
  /** The key as text; `null` without a key. */
  readonly keyText: string | null;
  /** The value as text. A tombstone is `"<tombstone>"`. */
  readonly text: string;
  /** The value as JSON. */
  json<T = any>(): T;
}

export type Level = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** What came of a batch. */
export interface Outcome {
  /** Records of the main output in order, then those of each other output. */
  outputs: Emitted[];
  rejected: { index: number; message: string }[];
  logs: [level: Level, message: string][];
  counters: [name: string, sum: number | bigint][];
  /** Values of the main output, as text. A tombstone is `"<tombstone>"`. */
  readonly values: string[];
  /** Values of a named output, as text. */
  valuesOf(output: string): string[];
  /** The counter's sum; 0 when it was never counted. */
  counter(name: string): number | bigint;
}

/** An input record with this value, without key or headers, at timestamp 0. */
export function record(value: Part): Input;

/** Runs a plugin over one batch; an input's offset is its index. A plugin without configuration takes `null`. */
export function run<C>(plugin: Plugin<C>, config: unknown, inputs: Iterable<Input>): Outcome;

/** Checks a configuration as a starting component does; throws with the message that the pipeline's author would see. */
export function config<C>(plugin: Plugin<C>, value: unknown): C;

/** Bytes of a text, for comparing. */
export function bytes(text: string): Uint8Array;
