// The engine's worker with its graphics memory counted.
import './weigh.js';
import '/js/engine/engine.worker.js';

self.addEventListener('message', ({data}) => {
  if (data.kind === 'weigh') self.postMessage({weighed: globalThis.weighed()});
});
