/**
 * Text that might become a stop sequence waits until that is known.
 *
 * WebLLM looks for a stop sequence in the whole text and cuts it off there, but has by then streamed the tokens that the sequence
 * began with: what was shown would no longer be what was answered. So the longest end that begins some stop sequence is kept back;
 * what is still kept at the end is settled by the engine's final text.
 */

/**
 * @param {unknown} stop the request's `stop`: a string, a list of them, or nothing
 * @returns {(delta: string) => string} what may be shown now
 */
export function holdback(stop) {
  const stops = (Array.isArray(stop) ? stop : [stop]).filter((each) => typeof each === 'string' && each !== '');
  if (!stops.length) return (delta) => delta;
  let held = '';
  return (delta) => {
    const text = held + delta;
    const keep = Math.max(...stops.map((each) => overlap(text, each)));
    held = text.slice(text.length - keep);
    return text.slice(0, text.length - keep);
  };
}

/** @param {string} text @param {string} stop @returns {number} length of the longest end of `text` that `stop` begins with */
function overlap(text, stop) {
  for (let length = Math.min(text.length, stop.length); length > 0; length -= 1) if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
