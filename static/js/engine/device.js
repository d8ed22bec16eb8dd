/**
 * Notices that the GPU device under WebLLM is gone.
 *
 * WebLLM asks for its device itself and keeps it to itself; when the device is lost it unloads in silence, and what was under way
 * may never settle. So every device this worker gets is watched. `release` destroys them without calling that a loss; tvm destroys
 * the device on any allocation failure, which is a loss like any other.
 *
 * And each is asked for with the longest buffers its adapter has. WebLLM asks for 1 GiB, and where the adapter has less for no more
 * than WebGPU's default: a model that needs 300 MB would fail on an adapter of 512, though its manifest's limits fit.
 */

import {EngineError} from './errors.js';

/**
 * @param {(error: EngineError) => void} onLost
 * @returns {{release(): void, unlessLost<T>(work: Promise<T>): Promise<T>}}
 */
export function watchDevices(onLost) {
  /** @type {Set<GPUDevice>} */
  const live = new Set();
  /** @type {Set<(error: EngineError) => void>} */
  const waiting = new Set();

  /** @param {GPUDevice} device */
  const watch = async (device) => {
    live.add(device);
    const info = await device.lost;
    if (!live.delete(device)) return;
    const error = lost(info);
    for (const reject of waiting) reject(error);
    onLost(error);
  };

  patchRequestDevice(watch);
  return {
    release() {
      const devices = [...live];
      live.clear();
      for (const device of devices) device.destroy();
    },
    async unlessLost(work) {
      /** @type {(error: EngineError) => void} */
      let reject = () => {};
      const gone = new Promise((_, fail) => {
        reject = fail;
        waiting.add(fail);
      });
      try {
        return await /** @type {typeof work} */ (Promise.race([work, gone]));
      } finally {
        waiting.delete(reject);
      }
    },
  };
}

/** @param {(device: GPUDevice) => void} watch */
function patchRequestDevice(watch) {
  if (typeof GPUAdapter === 'undefined') return;
  const native = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function requestDevice(/** @type {GPUDeviceDescriptor|undefined} */ descriptor) {
    const {maxBufferSize, maxStorageBufferBindingSize} = this.limits;
    const requiredLimits = {...descriptor?.requiredLimits, maxBufferSize, maxStorageBufferBindingSize};
    const device = await native.call(this, {...descriptor, requiredLimits});
    watch(device);
    return device;
  };
}

/** @param {GPUDeviceLostInfo} info @returns {EngineError} */
const lost = ({reason, message}) =>
  new EngineError(
    'DeviceLostError',
    `The graphics device was lost (${message || reason || 'no reason given'}): out of memory, a driver reset or a sleeping machine. ` +
      'Load the model again, or a smaller one.',
    'worker',
    {reason: reason ?? null},
  );
