// Counts graphics memory, wherever it is imported before WebGPU is used: every buffer that is made, until it is destroyed.
const alive = new Map();
const told = {live: 0, peak: 0, largest: 0, buffers: 0, limits: {}};

const create = GPUDevice.prototype.createBuffer;
GPUDevice.prototype.createBuffer = function (descriptor) {
  const buffer = create.call(this, descriptor);
  alive.set(buffer, descriptor.size);
  told.live += descriptor.size;
  told.buffers = alive.size;
  told.peak = Math.max(told.peak, told.live);
  told.largest = Math.max(told.largest, descriptor.size);
  return buffer;
};

const destroy = GPUBuffer.prototype.destroy;
GPUBuffer.prototype.destroy = function () {
  told.live -= alive.get(this) ?? 0;
  alive.delete(this);
  return destroy.call(this);
};

const request = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = function (descriptor) {
  told.limits = {...descriptor?.requiredLimits};
  return request.call(this, descriptor);
};

globalThis.weighed = () => ({...told, sizes: [...alive.values()].sort((a, b) => b - a).slice(0, 60)});
