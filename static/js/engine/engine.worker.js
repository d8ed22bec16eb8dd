/**
 * The engine's worker: WebLLM, or llama.cpp in WebAssembly, and nothing else, apart from the page and from Python, so that it can be killed.
 *
 * Started by the shell with one `boot` message that brings the port to the Python worker and the name of the lock to hold. The
 * package is imported when a model is first loaded, from our own server.
 */

/** @import {ToEngine, FromEngine} from '../protocol.js' */
import {toWire} from './errors.js';
import {serve} from './host.js';

const webllm = () => import('../../vendor/web-llm/index.js');
const wllama = async () => {
  const [{wasm}, script] = await Promise.all([import('./wasm.js'), import('../../vendor/wllama/index.js')]);
  return wasm(script);
};

self.addEventListener('message', ({data}) => {
  const message = /** @type {ToEngine} */ (data);
  if (message.kind !== 'boot') return;
  serve(message.port, message.lock, webllm, wllama).catch((cause) => {
    /** @type {FromEngine} */
    const fatal = {kind: 'fatal', error: toWire(cause, 'worker')};
    self.postMessage(fatal);
  });
});
