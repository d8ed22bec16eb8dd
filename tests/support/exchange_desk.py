"""The page's import, export, search and merge modules in Node, asked from Python: one process, a line of JSON each way."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

DESK = Path(__file__).with_suffix(".mjs")


class ExchangeDesk:
    """Asks exchange_desk.mjs; `ask` raises AssertionError with the module's own error."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["node", str(DESK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    def ask(self, op: str, **more: Any) -> Any:
        """Return what `op` answers."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"op": op, **more}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def read(self, content: bytes | str | Any, **more: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the conversations found in a file, and the notes about it."""
        answer = self.ask("read", data=encoded(content), **more)
        return answer["found"], answer["notes"]

    def write(self, conversations: list[dict[str, Any]]) -> str:
        """Return our file of these conversations."""
        return str(self.ask("write", conversations=conversations))

    def take(self, *files: Any, before: list[dict[str, Any]] | None = None) -> tuple[list[str], dict[str, Any]]:
        """Import files over what is on the shelf `before`; return each conversation's outcome, and the shelf by id."""
        answer = self.ask("import", files=[encoded(one) for one in files], before=before or [])
        return answer["outcomes"], answer["shelf"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def encoded(content: bytes | str | Any) -> str:
    """Return a file's bytes in base64; what is neither text nor bytes is written as JSON."""
    text = content if isinstance(content, (bytes, str)) else json.dumps(content)
    return base64.b64encode(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text).decode()


def archive(files: dict[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP archive of those files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return packed.getvalue()


def conversation(identity: str, texts: list[tuple[str, str | None, str, str]], **fields: Any) -> dict[str, Any]:
    """Return one conversation's rows; `texts` are (id, parent, role, text), the last is the leaf."""
    row = {
        "id": identity,
        "v": 1,
        "title": f"Title of {identity}",
        "titled": True,
        "createdAt": 1_700_000_000_000,
        "updatedAt": 1_700_000_100_000,
        "pinned": False,
        "folder": None,
        "leaf": texts[-1][0] if texts else None,
        "egress": None,
        "persona": None,
        "settings": {},
        "deletedAt": None,
        **fields,
    }
    nodes = [
        {
            "conversation": identity,
            "id": node,
            "v": 1,
            "parent": parent,
            "role": role,
            "text": text,
            "state": "done",
            "createdAt": 1_700_000_000_000 + 1000 * index,
        }
        for index, (node, parent, role, text) in enumerate(texts)
    ]
    return {"conversation": row, "nodes": nodes}
