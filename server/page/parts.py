"""What goes into the bundle, and from where: our own code, npm packages, wheels.

Everything is a list of entries (path below `assets/<hash>/`, contents). `python_*` are entries of an archive instead.
"""

from __future__ import annotations

import re
from pathlib import Path

from hybr.server import paths

from . import archive, digest, offers, patches

Entries = list[tuple[str, bytes]]

# Which of `webapp` the orchestrator is made of: it must answer before Panel is imported, so it comes in an archive of its own.
CORE = ("__init__", "page", "hybrid", "runtimes", "state")

# KaTeX's style sheet names each in three formats; every browser that runs the page takes the first.
FORMULA_FONTS = [
    f"fonts/KaTeX_{name}.woff2"
    for name in (
        "AMS-Regular",
        "Caligraphic-Bold",
        "Caligraphic-Regular",
        "Fraktur-Bold",
        "Fraktur-Regular",
        "Main-Bold",
        "Main-BoldItalic",
        "Main-Italic",
        "Main-Regular",
        "Math-BoldItalic",
        "Math-Italic",
        "SansSerif-Bold",
        "SansSerif-Italic",
        "SansSerif-Regular",
        "Script-Regular",
        "Size1-Regular",
        "Size2-Regular",
        "Size3-Regular",
        "Size4-Regular",
        "Typewriter-Regular",
    )
]

# npm package -> files of it, each with the name it gets in vendor/<package> (see static/types/vendor.d.ts).
NPM = {
    "web-llm": ("@mlc-ai/web-llm", {"lib/index.js": "index.js"}),
    "wllama": ("@wllama/wllama", {"esm/index.js": "index.js", "esm/wasm/wllama.wasm": "wllama.wasm"}),
    "wllama-compat": ("@wllama/wllama-compat", {f"wasm/{name}": name for name in ("wllama.js", "wllama.wasm")}),
    "marked": ("marked", {"lib/marked.esm.js": "marked.esm.js"}),
    "dompurify": ("dompurify", {"dist/purify.es.mjs": "purify.es.mjs"}),
    "highlight": ("@highlightjs/cdn-assets", {"es/highlight.min.js": "highlight.min.js"}),
    "katex": ("katex", {f"dist/{name}": name for name in ("katex.mjs", "katex.min.css", *FORMULA_FONTS)}),
    "mermaid": ("@mermaid-js/tiny", {"dist/mermaid.tiny.js": "mermaid.tiny.js"}),
    "pyodide": ("pyodide", {name: name for name in ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "pyodide-lock.json")}),
}
PATCHES = {
    "vendor/pyodide/pyodide.mjs": (patches.no_package_host, patches.no_source_map),
    "vendor/pyodide/pyodide-lock.json": (patches.no_packages,),
    "vendor/web-llm/index.js": (patches.no_source_map,),
    "vendor/wllama/index.js": (patches.no_compat_host, patches.no_source_map),
    "vendor/marked/marked.esm.js": (patches.no_source_map,),
    "vendor/dompurify/purify.es.mjs": (patches.no_source_map,),
    "vendor/katex/katex.min.css": (patches.one_font_format,),
    "vendor/panel/bokeh.min.js": (patches.no_icon_font, patches.no_mathjax),
    "panel/io/pyodide.py": (patches.no_eval,),
}

# Of the wheels: what a browser loads, and what Python in the page never imports or opens.
BROWSER = {
    "bokeh/server/static/js/bokeh.min.js": "vendor/panel/bokeh.min.js",
    "bokeh/server/static/js/bokeh-widgets.min.js": "vendor/panel/bokeh-widgets.min.js",
    "panel/dist/panel.min.js": "vendor/panel/panel.min.js",
}
STYLES = re.compile(r"panel/dist/(css/.*\.css|bundled/theme/.*\.css)$")
KEEP = re.compile(
    r".*\.py$|[^/]+\.dist-info/METADATA$|pyviz_comms/(notebook\.js|labextension/package\.json)$|panel/package\.json$"
    r"|panel/_templates/.*|bokeh/core/_templates/.*|panel/(layout|template|theme)/.*\.(css|html)$"
)
DROP = re.compile(
    r"panel/(tests|dist|examples|command)/|bokeh/(server|sphinxext|command|client)/|_yaml/|pyviz_comms/tests/"
    r"|tqdm/(contrib/|tk|rich|keras|notebook|dask)|packaging/(licenses|pylock|metadata)"
)
# Of the standard library: what needs a terminal, a process, a socket or a mail server, and the rarer encodings. 3 MB of 10.
ABSENT = re.compile(
    r"(multiprocessing|_pyrepl|pydoc_data|xmlrpc|wsgiref|sqlite3|ensurepip|venv|concurrent/futures/process)/"
    r"|(pdb|pydoc|doctest|bdb|cmd|mailbox|imaplib|smtplib|ftplib|poplib|socketserver|pickletools|trace"
    r"|modulefinder|pyclbr|tabnanny|wave|compileall|zipapp|turtle|antigravity|this|__phello__|optparse)\.py$"
    r"|encodings/(?!__init__|aliases|ascii|base64_codec|charmap|cp437|cp1252|hex_codec|idna|latin_1|iso8859_1\.|iso8859_15|punycode"
    r"|raw_unicode_escape|undefined|unicode_escape|utf_|mac_roman|zlib_codec)"
)


def patched(name: str, contents: bytes) -> bytes:
    """Apply the patches that belong to this file."""
    for patch in PATCHES.get(name, ()):
        contents = patch(contents)
    return contents


def shell() -> Entries:
    """Return our own JavaScript, styles and views."""
    static, views = paths.package("static"), paths.package("webapp") / "ui"
    found = [
        (path.relative_to(static).as_posix(), path.read_bytes()) for part in ("js", "css") for path in digest.files(static / part)
    ]
    return found + [(f"js/ui/{path.name}", path.read_bytes()) for path in digest.files(views) if path.suffix in {".js", ".css"}]


def vendored(modules: Path) -> Entries:
    """Return the npm packages' files; Pyodide's standard library is not among them (see `python_stdlib`)."""
    return [
        (target, patched(target, (modules / package / source).read_bytes()))
        for folder, (package, names) in NPM.items()
        for source, name in names.items()
        for target in (f"vendor/{folder}/{name}",)
    ]


def data(modules: Path) -> Entries:
    """Return the lists that the page reads."""
    return [("data/webllm.json", offers.listed(modules))]


def version(wheel: Path) -> str:
    """Return the version in a wheel's file name."""
    return wheel.name.split("-")[1]


def browser_side(fetched: list[Path]) -> Entries:
    """Return Panel's and Bokeh's JavaScript and styles, out of the wheels: they match the Python half by construction."""
    found: Entries = []
    for wheel in fetched:
        for name, contents in archive.read(wheel):
            if target := BROWSER.get(name):
                found.append((target, patched(target, contents)))
            elif STYLES.match(name):
                found.append((f"vendor/panel/{version(wheel)}/{name.removeprefix('panel/')}", contents))
    return found


def python_stdlib(modules: Path) -> Entries:
    """Return Pyodide's standard library without what cannot work in a page."""
    entries = archive.read(modules / "pyodide" / "python_stdlib.zip")
    return [(name, contents) for name, contents in entries if not ABSENT.match(name)]


def ours(*names: str) -> Entries:
    """Return these modules and packages of `webapp`, named as `hybr.webapp...`; a missing one is left out."""
    root = paths.package("webapp")
    found: Entries = []
    for name in names:
        path = root / name
        sources = digest.files(path) if path.is_dir() else [path.with_suffix(".py")]
        found += [
            (f"hybr/webapp/{source.relative_to(root).as_posix()}", source.read_bytes())
            for source in sources
            if source.suffix in {".py", ".json"} and source.exists()
        ]
    return found


def python_core() -> Entries:
    """Return the orchestrator: standard library only."""
    return ours(*CORE)


def python_panel(fetched: list[Path]) -> Entries:
    """Return Panel with what it imports, the stand-ins for compiled packages, and our views."""
    found: dict[str, bytes] = {}
    for wheel in fetched:
        hashes = f"bokeh/_sri/{version(wheel)}.json"  # bokeh reads its own at import, of all those it ships
        for name, contents in archive.read(wheel):
            if name == hashes or (KEEP.match(name) and not DROP.match(name)):
                found[name] = patched(name, contents)
    root = Path(__file__).with_name("standins")
    for package in ("numpy", "pandas", "nh3"):
        for source in digest.files(root / package):
            found[source.relative_to(root).as_posix()] = source.read_bytes()
    return [*found.items(), *ours("ui")]
