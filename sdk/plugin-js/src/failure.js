// Why a record fails: whatever the transform throws. The pipeline's policy decides what becomes of the record, the
// message goes with it into the dead letter.

/** A record's failure with a message of one's own; any other error does as well. */
export class Reject extends Error {
  /**
   * @param {string} message
   * @param {{ cause?: unknown }} [options] what led to it; its message follows behind a colon
   */
  constructor(message, options) {
    super(message, options);
    this.name = 'Reject';
  }
}

/** Causes that are told, at most: an error may name itself as its cause. */
const CAUSES_MAX = 16;

/** The message of whatever was thrown, with its causes after colons. */
export function messageOf(thrown) {
  const messages = [];
  for (let error = thrown; error !== undefined && error !== null && messages.length < CAUSES_MAX; error = error.cause) {
    messages.push(error instanceof Error ? String(error.message || error.name) : String(error));
  }
  return messages.join(': ') || 'the transform threw nothing';
}
