/**
 * Runs the bundle's Python as the page does, without a browser: boots Pyodide from the bundle, imports Panel from panel.zip, draws our
 * views for the facts given, and prints what crossed to the shell as JSON lines.
 *
 *     node panel.mjs ASSETS_FOLDER SCRIPT.py
 */
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [assets, script] = process.argv.slice(2);
globalThis.XMLHttpRequest = class {}; // Panel's Pyodide part takes its name from the browser at import
const { loadPyodide } = await import(pathToFileURL(`${assets}/vendor/pyodide/pyodide.mjs`).href);
const python = await loadPyodide({ indexURL: `${assets}/vendor/pyodide` });
for (const name of ['core', 'panel'])
  python.unpackArchive(new Uint8Array(readFileSync(`${assets}/py/${name}.zip`)), 'zip', { extractDir: '/app' });
python.runPython("import sys; sys.path.insert(0, '/app')");
python.globals.set('send', (line) => console.log(line));
try {
  await python.runPythonAsync(readFileSync(script, 'utf8'));
} catch (error) {
  console.error(String(error).slice(-2000));
  process.exit(1);
}
process.exit(0);
