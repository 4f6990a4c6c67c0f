// What can be a key, a value or a header's value: text, bytes, a number (as the shortest decimal text that is exactly it,
// as RFC 8785 writes numbers; a whole one below 10^21 keeps all its digits), or `null`.

/** Beyond this, whole numbers are written with an exponent. */
const WHOLE_MAX = 1e21;

/** The part as a string or bytes; throws for what can't be one. */
export function partOf(what, part) {
  if (part === null) return null;
  switch (typeof part) {
    case 'string':
      // An encoder would put U+FFFD in its place without a word.
      if (!part.isWellFormed()) throw new TypeError(`a ${what} can't be text with a lone surrogate`);
      return part;
    case 'bigint':
      return String(part);
    case 'number':
      if (!Number.isFinite(part)) throw new TypeError(`a ${what} can't be ${part}`);
      return Number.isInteger(part) && Math.abs(part) < WHOLE_MAX ? String(BigInt(part)) : String(part);
    case 'object':
      if (part instanceof Uint8Array) return part;
      if (ArrayBuffer.isView(part)) return new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
      if (part instanceof ArrayBuffer) return new Uint8Array(part);
      throw new TypeError(`a ${what} can't be ${Array.isArray(part) ? 'an array' : 'an object'}: use text, bytes, a number or null`);
    case 'undefined':
      throw new TypeError(`a ${what} can't be undefined: is a field missing? none at all is \`null\``);
    default:
      throw new TypeError(`a ${what} can't be a ${typeof part}: use text, bytes, a number or null`);
  }
}
