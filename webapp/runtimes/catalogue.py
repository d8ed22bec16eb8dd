"""The server's list of local models, `/models/index.json`: what there is, how far a build is, which files a model has.

Models of other hosts (`others.Others`) that a person added or took stand behind the server's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybr.webapp.hybrid.errors import LocalError
from hybr.webapp.runtimes.base import UnreachableError
from hybr.webapp.runtimes.http import read_json

if TYPE_CHECKING:
    from hybr.webapp.runtimes.base import Transport
    from hybr.webapp.runtimes.others import Others

PATH = "/models/index.json"


class Catalogue:
    """The index as last read. An entry is passed on as it came: its keys are the wire's own."""

    def __init__(self, transport: Transport, others: Others | None = None) -> None:
        self._transport = transport
        self.others = others
        self.served: list[dict[str, Any]] = []
        self.read = False

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The server's, then those of other hosts; of one id the server's counts."""
        kept = self.others.kept() if self.others else []
        ids = {entry["id"] for entry in self.served} if kept else ()
        return [*self.served, *(entry for entry in kept if entry["id"] not in ids)]

    async def refresh(self) -> list[dict[str, Any]]:
        """Read the index. Raises LocalError (code `no_index`) when it cannot be had; the old list then stays."""
        try:
            response = await self._transport.request("GET", PATH)
            body = await read_json(response)
        except (UnreachableError, ValueError) as error:
            raise LocalError(f"The list of local models cannot be read: {error}.", code="no_index", kind="capability") from None
        if response.status != 200 or not isinstance(body, dict) or not isinstance(body.get("models"), list):
            raise LocalError(
                f"The server has no list of local models (it answered {response.status}).", code="no_index", kind="capability"
            )
        named = (entry for entry in body["models"] if isinstance(entry, dict) and isinstance(entry.get("id"), str))
        self.served = [entry for entry in named if entry.get("kind", "chat") == "chat"]  # nobody talks with an embedding model
        self.read = True
        return self.entries

    def find(self, model_id: object) -> dict[str, Any] | None:
        """The entry of that id, if the index as last read has one, or another host's model is called so."""
        found = next((entry for entry in self.served if entry["id"] == model_id), None)
        return found or (self.others.find(model_id) if self.others else None)

    def ids(self) -> list[str]:
        """All ids, in the server's order."""
        return [entry["id"] for entry in self.entries]
