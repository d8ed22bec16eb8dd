"""The page's fault lab as an archive, for tests of the real page: only where `HYBR_TEST_FAULTS=1` was set when the server began.

Without it there is no such path, and `?faults=` in the page's address changes nothing.
"""

from __future__ import annotations

import io
import os
import zipfile
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from hybr.server import paths

if TYPE_CHECKING:
    from starlette.requests import Request

PATH = "/faults.zip"


def routes() -> list[Route]:
    """Return the lab's route, or none."""
    return [Route(PATH, lab, methods=["GET"])] if os.environ.get("HYBR_TEST_FAULTS") == "1" else []


async def lab(request: Request) -> Response:  # noqa: ARG001
    """Answer with `webapp/faults`, named as the page imports it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for source in sorted((paths.package("webapp") / "faults").glob("*.py")):
            archive.write(source, f"hybr/webapp/faults/{source.name}")
    return Response(packed.getvalue(), media_type="application/zip", headers={"cache-control": "no-store"})
