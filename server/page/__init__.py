"""The page's bundle: everything a browser loads, built from sources and locked packages, served from our own origin.

    build(progress) -> Path      the folder for the sources as they are now, built when it is not there
    current() -> Path | None     the same without building
    use(folder)                  says that a server uses it, so that it stays for some days

The folder holds `index.html` and `assets/<hash>/...`; each file worth it has a `.br` sibling. `hybr page build` runs
it alone. Modules: `build` puts together, `parts` says what, `wheels` and `npm` fetch, `compiler`, `compress` and `archive`
make, `patches` are our changes to other people's code, `standins/` is what ships in place of compiled packages.
"""

from __future__ import annotations

from .build import build, current, use

__all__ = ["build", "current", "use"]
