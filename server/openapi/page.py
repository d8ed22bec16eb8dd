"""`/openapi.json` and `/docs`: one description as JSON and as a plain document, with no script and nothing from elsewhere."""

from __future__ import annotations

import html
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, Response

from hybr.server.openapi.paths import JSON, OPERATIONS, Operation, document
from hybr.server.openapi.schemas import SCHEMAS

if TYPE_CHECKING:
    from starlette.requests import Request

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
h3 { font: 600 1rem ui-monospace, monospace; margin-bottom: 0 } pre { overflow: auto; font-size: .85rem }
b { display: inline-block; min-width: 4.5rem } details { margin-left: 4.5rem } p { margin: 0 0 0 4.5rem }
"""


@cache
def version() -> str:
    """Return the distribution's version."""
    from importlib import metadata

    try:
        return metadata.version("hybr")
    except metadata.PackageNotFoundError:  # run from its source tree
        return "0"


@cache
def raw() -> bytes:
    """Return the document's bytes."""
    return json.dumps(document(version())).encode()


async def described(request: Request) -> Response:  # noqa: ARG001
    """Answer `/openapi.json`."""
    return Response(raw(), media_type=JSON)


async def docs(request: Request) -> Response:  # noqa: ARG001
    """Answer `/docs`."""
    return HTMLResponse(rendered(), headers={"content-security-policy": POLICY})


@cache
def rendered() -> str:
    """Return the document for people."""
    parts = []
    for tag in dict.fromkeys(one.tag for one in OPERATIONS):
        parts += [f"<h2>{tag}</h2>", *(section(one) for one in OPERATIONS if one.tag == tag)]
    shapes = [f'<h3 id="{name}">{name}</h3>{shown(schema)}' for name, schema in SCHEMAS.items()]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>HYBR {version()}: the API</title><style>{STYLE}</style>'
        f'<h1>HYBR {version()}: the API</h1><p>For programs: <a href="/openapi.json">/openapi.json</a></p>'
        f"{''.join(parts)}<h2>Shapes</h2>{''.join(shapes)}</html>"
    )


def section(one: Operation) -> str:
    """Return one operation."""
    named = [("takes", one.takes), ("answers", one.gives), ("error", one.error)]
    links = ", ".join(f'{word} <a href="#{name}">{name}</a>' for word, name in named if name in SCHEMAS)
    streamed = ", or a stream of events" if one.streams else ""
    queries = f"; ?{'&amp;'.join(one.queries)}" if one.queries else ""
    return (
        f"<h3><b>{one.method}</b>{html.escape(one.path)}</h3>"
        f"<p>{html.escape(one.summary)}{queries}<br><small>{links}{streamed}</small></p>"
    )


def shown(schema: dict[str, Any]) -> str:
    """Return a shape."""
    return f"<pre>{html.escape(json.dumps(schema, indent=1))}</pre>"
