/**
 * Asks the browser not to clear away what this page keeps when room gets short: models are large, and conversations are the person's.
 *
 * Asked when a model has been loaded, so when the page is worth it to them: some browsers ask the person in turn, and others judge
 * by how a page is used. What it answers changes nothing but how safe the files are.
 */

/** @import {EventBus} from './events.js' */

/** @param {EventBus} bus */
export function keepWhatIsLoaded(bus) {
  const off = bus.on('local-llm:ready', () => {
    off();
    void navigator.storage?.persist?.().catch((error) => console.warn('the browser may clear this page away:', error));
  });
}
