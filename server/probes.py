"""`/healthz` and `/readyz`: does the server live, and should it get traffic now. Both are for anybody and tell of nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from hybr.server.errors import HybrError

if TYPE_CHECKING:
    from starlette.requests import Request

    from hybr.server.boot import Boot
    from hybr.server.store.database import Database

log = logging.getLogger("hybr.probes")
FRESH = 1.0  # seconds for which an answer of the store is news enough: anybody may ask, as often as they like
PATIENCE = 3.0  # seconds for the store to answer


class Probes:
    """The two routes. `draining` is set when the server begins to stop."""

    def __init__(self, boot: Boot, database: Database) -> None:
        self.boot = boot
        self.database = database
        self.draining = False
        self._asking: asyncio.Task[str] | None = None
        self._asked = -FRESH

    async def health(self, request: Request) -> JSONResponse:  # noqa: ARG002
        """Answer `/healthz`: the process runs, and how its parts are. A restart would help when this is not 200."""
        report = self.boot.health()
        return JSONResponse(report, status_code=200 if report["status"] == "ok" else 503)

    async def ready(self, request: Request) -> JSONResponse:  # noqa: ARG002
        """Answer `/readyz`: 200 while the store answers and the server does not stop. Else wait, or ask another replica."""
        store = await self.store()
        ready = store == "ok" and not self.draining
        body: dict[str, Any] = {"status": "ready" if ready else "unready", "store": store, "draining": self.draining}
        return JSONResponse(body, status_code=200 if ready else 503, headers=None if ready else {"retry-after": "1"})

    async def store(self) -> str:
        """Return `ok`, or the code of why the store does not answer; one question at a time, however many ask."""
        if self._asking is None or (self._asking.done() and time.monotonic() - self._asked >= FRESH):
            self._asking = asyncio.create_task(self.ask())
        return await asyncio.shield(self._asking)

    async def ask(self) -> str:
        """Ask the store."""
        try:
            async with asyncio.timeout(PATIENCE), self.database.begin() as connection:
                await connection.exec_driver_sql("SELECT 1")
        except HybrError as error:
            return error.code
        except TimeoutError:
            return "store_slow"
        except Exception:  # a probe answers, whatever it finds
            log.exception("the store's probe failed")
            return "store_failed"
        else:
            return "ok"
        finally:
            self._asked = time.monotonic()
