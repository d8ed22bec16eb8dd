"""The few lines of other people's code that must differ in the page, each with its reason.

A patch that no longer finds its place fails the build: an upgrade must look at each of them again.
"""

from __future__ import annotations

import json
import re

from hybr.server.errors import BuildError


def replace(contents: bytes, old: str, new: str, why: str) -> bytes:
    """Replace `old`, which must occur exactly once, by `new`."""
    text = contents.decode()
    if text.count(old) != 1:
        raise BuildError(
            f"the patch for '{why}' does not fit any more ({text.count(old)} places found): see server/page/patches.py"
        )
    return text.replace(old, new).encode()


def no_eval(contents: bytes) -> bytes:
    """Patch panel/io/pyodide.py: its one evaluated JavaScript function would make the page's policy allow 'unsafe-eval'.

    It turns undefined into null on a road we do not take (our documents cross as JSON text, see webapp/ui/link.py).
    """
    text = contents.decode()
    patched, count = re.subn(
        r'_dict_converter = pyodide\.code\.run_js\("""\n.*?"""\)',
        "_dict_converter = js.Object.fromEntries",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        raise BuildError("the patch for 'no eval' does not fit panel/io/pyodide.py any more: see server/page/patches.py")
    return patched.encode()


def no_icon_font(contents: bytes) -> bytes:
    """Patch bokeh.min.js: its icon font would come from a content network; our components draw their own icons."""
    return replace(contents, "https://cdn.jsdelivr.net/npm/@tabler/icons-webfont@latest", "about:blank#", "no icon font")


def no_mathjax(contents: bytes) -> bytes:
    """Patch bokeh.min.js: MathJax must never be fetched from elsewhere."""
    return replace(contents, "https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-svg.js", "about:blank", "no MathJax from elsewhere")


def no_package_host(contents: bytes) -> bytes:
    """Patch pyodide.mjs: the address it would fetch packages from; none is ever asked for, and none could be reached."""
    return replace(contents, "https://cdn.jsdelivr.net/pyodide/", "about:blank#", "no package host")


def no_compat_host(contents: bytes) -> bytes:
    """Patch wllama: where it would fetch a build for old browsers; we never ask for it (static/js/engine/wasm.js)."""
    text, count = re.subn(r"https://cdn\.jsdelivr\.net/npm/@wllama/", "about:blank#", contents.decode())
    if count == 0:
        raise BuildError("the patch for 'no compat host' does not fit any more: see server/page/patches.py")
    return text.encode()


def one_font_format(contents: bytes) -> bytes:
    """Patch KaTeX's style sheet: only the fonts' WOFF2 is shipped, so no other is named."""
    text, count = re.subn(r',url\([^)]+\) format\("(?:woff|truetype)"\)', "", contents.decode())
    if count == 0:
        raise BuildError("the patch for 'one font format' does not fit any more: see server/page/patches.py")
    return text.encode()


def no_source_map(contents: bytes) -> bytes:
    """Drop the pointer to a source map that is not shipped, so that developer tools ask for nothing missing."""
    return re.sub(rb"\n?//# sourceMappingURL=\S+\s*$", b"\n", contents)


def no_packages(contents: bytes) -> bytes:
    """Empty Pyodide's list of packages: none is served here, and the list alone is 119 kB at every start."""
    lock = json.loads(contents)
    return json.dumps({**lock, "packages": {}}, sort_keys=True, separators=(",", ":")).encode()
