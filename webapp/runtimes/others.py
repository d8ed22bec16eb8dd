"""Models of other hosts: those a person added by their address, and WebLLM's own list, of which some may have been taken.

Nothing here asks another host. The list is a file of the page's own bundle; the engine alone fetches, and only from hosts that
the person allowed (`model_hosts`, which the server writes into the engine's policy). A model that was taken is remembered in this
browser with all that is needed to load it again, so that it is found without the list and without a network.

An entry has the form of the server's index, with `source` (`web` or `own`), `hosts`, and `remote` for the engine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybr.webapp.hybrid.errors import LocalError, OptionError
from hybr.webapp.runtimes.base import UnreachableError
from hybr.webapp.runtimes.http import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybr.webapp.runtimes.base import Transport
    from hybr.webapp.state.preferences import Preferences

MOST = 100  # taken and added
WINDOW = 4096  # tokens, where the list states none: WebLLM's own default
QUANTISATION = re.compile(r"q(\d+)f(\d+)(?:_\d)?")
PARAMETERS = re.compile(r"(?:^|[-_])(?:E)?(\d+(?:[._]\d+)?)\s?([bm])(?=[-_]|$)", re.IGNORECASE)
FAMILIES = (
    *("SmolLM2", "TinyLlama", "Hermes", "DeepSeek", "WizardMath"),  # before those whose names they have in theirs
    *("Llama", "Qwen3.5", "Qwen3", "Qwen2.5", "Qwen2", "Phi", "Gemma", "Ministral", "Mistral", "OLMo", "StableLM", "RedPajama"),
)
SHORTEST_BYTES = 0.56  # bytes a parameter at four bits, with the scales of its groups


class Others:
    """See the module. `path` is the list's, in the bundle; `closed` where no other host can be asked (`/local`)."""

    def __init__(self, transport: Transport, preferences: Preferences, path: str = "", *, closed: bool = False) -> None:
        self._transport = transport
        self._preferences = preferences
        self._path = path
        self.closed = closed
        self.offers: list[dict[str, Any]] = []
        self._sends_on: dict[str, list[str]] = {}

    # -- what there is

    async def ask(self) -> list[dict[str, Any]]:
        """WebLLM's list, read once. Raises LocalError when it cannot be had."""
        if not self.offers and self._path:
            try:
                response = await self._transport.request("GET", self._path)
                body = await read_json(response)
                hosts, models = body["hosts"], body["models"]
                self.offers = [offered(model, hosts) for model in models]
                self._sends_on = hosts
            except (UnreachableError, ValueError, KeyError, TypeError) as error:
                raise LocalError(f"WebLLM's list cannot be read: {error}.", code="no_list", kind="capability") from None
        return self.offers

    def kept(self) -> list[dict[str, Any]]:
        """The models that were added, and those taken from the list, oldest first; what is damaged is left out."""
        stored = self._preferences.get("own_models")
        return [entry for entry in stored if _whole(entry)] if isinstance(stored, list) else []

    def find(self, model_id: object) -> dict[str, Any] | None:
        """The entry of that id."""
        return next((entry for entry in [*self.kept(), *self.offers] if entry["id"] == model_id), None)

    # -- what a person does

    def keep(self, entry: dict[str, Any]) -> None:
        """Remember it, in place of one of that id. Raises OptionError when there are too many."""
        others = [one for one in self.kept() if one["id"] != entry["id"]]
        if len(others) >= MOST:
            raise OptionError(f"There are {MOST} models of other hosts already: remove one first.", field="model")
        self._preferences.set("own_models", [*others, entry])

    def forget(self, model_id: str) -> bool:
        """Forget one; False if there was none."""
        left = [one for one in self.kept() if one["id"] != model_id]
        if len(left) == len(self.kept()):
            return False
        self._preferences.set("own_models", left)
        return True

    # -- which hosts may be asked

    def hosts(self, *addresses: str | None) -> list[str]:
        """The hosts of these addresses, with those that they are known to send a browser on to."""
        asked = list(dict.fromkeys(origin(one) for one in addresses if one))
        return [*asked, *(more for one in asked for more in self._sends_on.get(one, ()))]

    @property
    def allowed(self) -> list[str]:
        """The hosts that the person allowed."""
        stored = self._preferences.get("model_hosts")
        return [str(host) for host in stored] if isinstance(stored, list) else []

    def may(self, entry: dict[str, Any]) -> bool:
        """Whether all of its hosts are allowed."""
        return set(entry.get("hosts") or ()) <= set(self.allowed)

    async def allow(self, hosts: Iterable[str], *, instead: bool = False) -> None:
        """Allow these hosts as well (or these alone, `instead`), and have the server know. Raises LocalError when it does not."""
        if self.closed:
            raise LocalError("This page reaches no other host: leave it to change that.", code="closed", kind="policy")
        before = self.allowed
        wanted = list(dict.fromkeys([*([] if instead else before), *hosts]))
        self._preferences.set("model_hosts", wanted)
        if not await self._preferences.settled("model_hosts"):
            self._preferences.set("model_hosts", before)
            message = "The server could not be told which hosts are allowed, so the browser would still refuse: try again."
            raise LocalError(message, code="not_stored", kind="capability")


def origin(address: str) -> str:
    """Scheme and host of an address. Raises OptionError for what a browser could not fetch from."""
    try:
        parts = urlsplit(address.strip())
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    host = parts.hostname or ""
    near = parts.scheme == "http" and host in {"127.0.0.1", "localhost"}
    if not (near or (parts.scheme == "https" and "." in host)) or parts.username or parts.query or parts.fragment:
        raise OptionError("The address must be https://host/path (http only on this machine), without a query.", field="address")
    return f"{parts.scheme}://{host}{port}"


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def addresses(name: object, address: object, library: object) -> tuple[str, str, str | None]:
    """What a person gave, checked. Raises OptionError naming the field."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise OptionError("A model's name must be 1 to 80 letters, digits, '.', '_' or '-'; a letter comes first.", field="name")
    for field, given in (("address", address), ("library", library)):
        if field == "library" and not given:
            continue
        if not isinstance(given, str):
            raise OptionError(f"The {field} must be a text.", field=field)
        try:
            origin(given)
        except OptionError as error:
            raise OptionError(error.message, field=field) from None
    return name, str(address).strip(), str(library).strip() if library else None


def offered(model: dict[str, Any], hosts: dict[str, list[str]]) -> dict[str, Any]:
    """The entry of a model of WebLLM's list. Its size is estimated: the list does not state it."""
    name = str(model["id"])
    asked = list(dict.fromkeys([origin(model["model"]), origin(model["library"])]))
    also = [more for one in asked for more in hosts.get(one, [])]
    quantisation = (QUANTISATION.search(name) or [""])[0]
    overrides = model.get("overrides") or {}
    return {
        **_common(name, model["model"], model["library"], manifest=False),
        "source": "web",
        "name": name.removesuffix("-MLC").replace("-MLC-", "-"),
        "family": family(name),
        "quantisation": quantisation,
        "bytes": weight(name, quantisation),
        "estimated": True,
        "vram_bytes": int(model.get("vram_bytes") or 0),
        "features": list(model.get("features") or ()),
        "context": int(overrides.get("context_window_size") or WINDOW),
        "overrides": overrides,
        "hosts": [*asked, *also],
        **{what: True for what in ("vision", "tools") if model.get(what) is True},
    }


def added(model_id: str, found: dict[str, Any], address: str, hosts: list[str]) -> dict[str, Any]:
    """The entry of a model that the engine has looked at (`inspect`)."""
    return {
        **_common(model_id, address, found.get("library"), manifest=bool(found.get("manifest"))),
        "source": "own",
        "name": str(found.get("name") or model_id),
        "family": str(found.get("family") or ""),
        "quantisation": str(found.get("quantisation") or ""),
        "bytes": int(found.get("bytes") or 0),
        "vram_bytes": int(found.get("vram_bytes") or 0),
        "features": [str(one) for one in found.get("features") or ()],
        "context": int(found.get("context") or WINDOW),
        "licence": str(found.get("licence") or ""),
        "hosts": hosts,
    }


def _common(model_id: str, address: str, library: str | None, *, manifest: bool) -> dict[str, Any]:
    base = address if address.endswith("/") else f"{address}/"
    remote = {"library": library, "manifest": manifest}
    return {"id": model_id, "state": "built", "base": base, "origin": address, "remote": remote, "libraries": {}, "files": []}


def _whole(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), str) and isinstance(entry.get("remote"), dict)


def family(name: str) -> str:
    """The family that a model's name states; "" where it is none that is known."""
    low = name.lower()
    return next((one for one in FAMILIES if one.lower() in low), "")


def weight(name: str, quantisation: str) -> int:
    """About how many bytes its files have, by the parameters and the quantisation in its name; 0 where it states none."""
    size, bits = PARAMETERS.search(name), QUANTISATION.fullmatch(quantisation)
    if not size or not bits:
        return 0
    parameters = float(size[1].replace("_", ".")) * (1e9 if size[2].lower() == "b" else 1e6)
    each = int(bits[2]) / 8 if bits[1] == "0" else int(bits[1]) / 4 * SHORTEST_BYTES
    return round(parameters * each)
