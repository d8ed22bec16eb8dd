// Every WGSL module on standard input through Dawn, the WebGPU of Chromium: its compiler (Tint) and its pipeline checks, on the
// "null" backend, which has every feature, WebGPU's default limits and no graphics.
//
//     node validate.mjs PATH_OF_WEBGPU_INDEX_JS < modules.json > failures.json
//
// in:  [{"name", "code", "small"}], `small` where the module keeps to the default limits, so that a pipeline can be made of it
// out: [{"name", "message"}], one for each module that is refused
import {readFileSync} from 'node:fs';
import {pathToFileURL} from 'node:url';

const {create, globals} = await import(pathToFileURL(process.argv[2]).href);
Object.assign(globalThis, globals);

/** @type {{name: string, code: string, small: boolean}[]} */
const asked = JSON.parse(readFileSync(0, 'utf8'));
const gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const wanted = ['shader-f16', 'subgroups'].filter((name) => adapter.features.has(name));
const device = await adapter.requestDevice({requiredFeatures: wanted});

/** @type {{name: string, message: string}[]} */
const failures = [];
for (const {name, code, small} of asked) {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({code});
  const told = (await module.getCompilationInfo()).messages.find((message) => message.type === 'error');
  if (!told && small) device.createComputePipeline({layout: 'auto', compute: {module}});
  const refused = await device.popErrorScope();
  if (told || refused) failures.push({name, message: told ? `line ${told.lineNum}: ${told.message}` : refused.message});
}
// The instance must outlive the device, which does not hold it: collected in between, it takes the process down.
if (!gpu) throw new Error();
process.stdout.write(JSON.stringify(failures), () => process.exit(0));
