// JSON without loss: an integer that a number can't hold becomes a BigInt, and is written with all its digits.

/** Whether a text may hold such an integer: the largest that is safe has 16 digits. */
const LONG = /\d{16}/;
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Parses a document. Integers beyond 2^53 come as BigInt, everything else as `JSON.parse` gives it. */
export function parseJson(text) {
  const value = JSON.parse(text);
  if (!LONG.test(text)) return value;
  // It is well-formed, as what follows takes for granted. Long integers become strings behind a mark.
  const mark = markFor(text);
  const marked = text.replace(TOKEN, (token) => (isLong(token) ? `"${mark.escaped}${token}"` : token));
  if (marked === text) return value;
  return JSON.parse(marked, (_, item) => (typeof item === 'string' && item.startsWith(mark.raw) ? BigInt(item.slice(1)) : item));
}

/** Writes a value; `undefined` when it has no JSON form. */
export function stringifyJson(value) {
  try {
    return JSON.stringify(value);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return withBigInts(value, error);
  }
}

function withBigInts(value, error) {
  let found = false;
  const writeMarked = (mark) =>
    JSON.stringify(value, (_, item) => {
      if (typeof item !== 'bigint') return item;
      found = true;
      return `${mark}${item}`;
    });
  const mark = markFor(writeMarked(''));
  // It was something else that has no JSON form.
  if (!found) throw error;
  return writeMarked(mark.raw).replaceAll(new RegExp(`"${mark.escaped.replace('\\', '\\\\')}(-?\\d+)"`, 'g'), '$1');
}

function isLong(token) {
  return /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));
}

/** A control character that no string of a document begins with: JSON holds them only as escapes. */
function markFor(json) {
  const escapes = json.toLowerCase();
  for (let code = 0; code < 32; code++) {
    const escaped = `\\u00${code.toString(16).padStart(2, '0')}`;
    // Some have an escape of their own, as `\n`.
    const named = '\b\t\n\f\r'.includes(String.fromCharCode(code));
    if (!named && !escapes.includes(escaped)) return { escaped, raw: String.fromCharCode(code) };
  }
  throw new Error('long integers beside strings of all control characters');
}
