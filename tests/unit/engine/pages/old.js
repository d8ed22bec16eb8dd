// A browser of yesterday: no 64-bit memory, no promise integration.
const {validate} = WebAssembly;
WebAssembly.validate = (bytes) => !(bytes.length < 20 && bytes[8] === 5) && validate(bytes); // a bare memory section is the probe
delete WebAssembly.Suspending;
