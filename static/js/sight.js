/** Whether a model that may answer now sees pictures: by the mode, and by what Python knows of the models. */

/** @import {Sight} from './composer.js' */

/**
 * @param {{getStatus(): Promise<any>}} api HybridLLMProvider's
 * @returns {Promise<Sight|null>} null where Python does not say
 */
export async function sight(api) {
  const status = await api.getStatus().catch(() => null);
  const sees = status?.sees;
  if (!sees) return null;
  const may = { local: status.mode !== 'cloud-only', cloud: status.mode !== 'local-only' };
  return {
    able: (may.local && sees.local) || (may.cloud && sees.cloud),
    leaves: status.mode.startsWith('local') && !sees.local && may.cloud && sees.cloud,
  };
}
