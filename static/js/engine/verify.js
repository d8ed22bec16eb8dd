/**
 * Is what this browser keeps of a model still what was downloaded? Every file is read and summed anew; a damaged one is dropped, and
 * fetched again where the caller gives the model's entry. The browser checks none of this by itself.
 */

/** @import {ModelEntry, ProgressEvent} from './wire.js' */
import {download} from './download.js';
import {EngineError} from './errors.js';
import {Progress} from './progress.js';
import {described} from './remote.js';
import {dropIfDamaged, plan, recorded} from './store.js';

/**
 * @param {{id: string, model?: ModelEntry|null}} args @param {string} origin @param {AbortSignal} signal
 * @param {(event: ProgressEvent) => void} onProgress of the checking; of the repair after it
 * @returns {Promise<{files: number, damaged: string[], repaired: boolean}>}
 */
export async function verify({id, model}, origin, signal, onProgress) {
  const kept = (await recorded(id)).filter(({partial}) => !partial);
  if (!kept.length) throw new EngineError('ModelNotCachedError', `Nothing of ${id} is whole in this browser: download it first.`, 'validate');
  const damaged = [];
  let [files, done] = [0, 0];
  const total = kept.reduce((sum, {bytes}) => sum + bytes, 0);
  for (const {urls} of kept) {
    for (const item of urls) {
      if (await dropIfDamaged(item)) damaged.push(item.path ?? item.url);
      files += 1;
      done += item.bytes ?? 0;
      onProgress({type: 'progress', phase: 'load', step: 'checking', text: 'Checking', loadedBytes: done, totalBytes: total,
        progress: total ? Math.min(1, done / total) : 1, bytesPerSecond: null, etaS: null});
    }
  }
  if (damaged.length && model)
    for (const {profile} of kept) {
      const needed = plan(await described(model, origin, signal), profile, origin);
      await download(needed, new Progress(needed.bytes, onProgress), signal);
    }
  return {files, damaged, repaired: Boolean(damaged.length && model)};
}
