/**
 * Compile a folder of .py files to .pyc with the very Python that will run them in the page.
 *
 *     node compile.mjs PYODIDE_FOLDER SOURCE_FOLDER TARGET_FOLDER PREFIX OPTIMIZE
 *
 * A .pyc is only good for the minor version that wrote it, and no such Python need be on the machine; Node can run
 * Pyodide itself. Unchecked-hash files carry no timestamp (the same source gives the same bytes) and Python does not look
 * for the source when it imports them. Each file is recorded under its path in the page (PREFIX), so that tracebacks read well. OPTIMIZE is Python's: 2 leaves docstrings out.
 */
import { pathToFileURL } from 'node:url';

const [pyodideFolder, source, target, prefix, optimize] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${pyodideFolder}/pyodide.mjs`).href);
const python = await loadPyodide({ indexURL: pyodideFolder });
for (const [name, root] of [['/source', source], ['/target', target]]) {
  python.FS.mkdirTree(name);
  python.FS.mount(python.FS.filesystems.NODEFS, { root }, name);
}
python.globals.set('prefix', prefix);
python.globals.set('optimize', Number(optimize));
const failures = python.runPython(`
import os, py_compile
from importlib.util import MAGIC_NUMBER

failures = []
for folder, folders, files in os.walk('/source'):
    folders.sort()
    for name in sorted(files):
        path = os.path.join(folder, name)
        inside = os.path.relpath(path, '/source')
        cfile = '/target/' + inside + 'c'
        os.makedirs(os.path.dirname(cfile), exist_ok=True)
        try:
            py_compile.compile(path, cfile, prefix + inside, doraise=True, optimize=optimize,
                               invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        except py_compile.PyCompileError as error:
            failures.append(f'{inside}: {error.exc_value}')
'\\n'.join(failures)
`);
if (failures) {
  console.error(failures);
  process.exit(1);
}
process.exit(0);
