"""OpenAI's embeddings: texts in, vectors out, through the same way as every answer."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

from hybr.server.body import decode
from hybr.server.errors import RequestError
from hybr.server.providers.base import Call

if TYPE_CHECKING:
    from hybr.server.errors import HybrError
    from hybr.server.providers.base import Ending

TEXTS = 2048
FIELDS = ("model", "input", "encoding_format", "dimensions", "user")


class Embeddings:
    """The surface."""

    def read(self, raw: bytes) -> tuple[Call, Vectors]:
        """Return the request and its voice."""
        body = decode(raw)
        if not isinstance(body, dict):
            raise RequestError("the body must be a JSON object", code="invalid_json")
        for name in body:
            if name not in FIELDS:
                text = f"this server has no field {name[:100]!r}; it has {', '.join(FIELDS)}"
                raise RequestError(text, code="unknown_field", field=name[:100])
        model, form, size = body.get("model"), body.get("encoding_format") or "float", body.get("dimensions")
        if not isinstance(model, str) or not 0 < len(model) <= 200:
            raise RequestError("model must be a text of 1 to 200 characters", field="model")
        if form not in ("float", "base64"):
            raise RequestError("encoding_format must be float or base64", field="encoding_format")
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 65536):
            raise RequestError("dimensions must be a whole number from 1 to 65536", field="dimensions")
        call = {"input": inputs(body.get("input"))} | ({"dimensions": size} if size else {})
        return Call(model, stream=False, body=call), Vectors(model, packed=form == "base64")

    def refusal(self, error: HybrError) -> dict[str, Any]:
        """Return the envelope."""
        return error.envelope()


def inputs(given: Any) -> list[Any]:
    """Return the texts, or lists of token ids, as a list. Raises RequestError."""
    if isinstance(given, list) and given and all(isinstance(one, int) and not isinstance(one, bool) for one in given):
        return [given]
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or not 1 <= len(found) <= TEXTS or not all(good(one) for one in found):
        raise RequestError(f"input must be a text, or a list of 1 to {TEXTS} texts, none of them empty", field="input")
    return found


def good(one: Any) -> bool:
    """Say whether one input is a text, or token ids."""
    if isinstance(one, str):
        return bool(one)
    return isinstance(one, list) and bool(one) and all(isinstance(token, int) and not isinstance(token, bool) for token in one)


class Vectors:
    """The voice; nothing here is streamed. `packed` gives base64 of 32-bit floats, which OpenAI's own client asks for."""

    beat = b""

    def __init__(self, model: str, *, packed: bool) -> None:
        self.model = model
        self.packed = packed

    def events(self, chunks: list[dict[str, Any]]) -> bytes:
        """Say nothing."""
        raise NotImplementedError

    def closing(self, ending: Ending, usage: dict[str, Any] | None) -> bytes:
        """Say nothing."""
        raise NotImplementedError

    def failure(self, error: HybrError) -> bytes:
        """Say nothing."""
        raise NotImplementedError

    def plain(self, chunks: list[dict[str, Any]], ending: Ending, usage: dict[str, Any] | None) -> dict[str, Any]:  # noqa: ARG002
        """Return the list of vectors, in the order of the texts."""
        data = [
            {"object": "embedding", "index": index, "embedding": self._form(vector)}
            for index, vector in enumerate(vector for chunk in chunks for vector in chunk["vectors"])
        ]
        told = usage or {}
        spent = {name: told[name] for name in ("prompt_tokens", "total_tokens", "cost") if name in told}
        return {"object": "list", "data": data, "model": self.model, "usage": spent}

    def _form(self, vector: list[float]) -> list[float] | str:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if self.packed else vector
