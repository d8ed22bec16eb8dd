"""The shelf and the message view as Python's side of the page meets them (static/js/shelf.js and view.js are tested in e2e)."""

from __future__ import annotations

import copy
from typing import Any


class PlayedShelf:
    """Rows and messages of one browser. `failing`: a code that every write is answered with."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.nodes: dict[str, dict[str, dict[str, Any]]] = {}
        self.failing = ""
        self.writes = 0

    def answer(self, op: str, args: list[Any]) -> dict[str, Any]:
        """`{value}` or `{error}`."""
        if op == "read":
            return self.read(args[0])
        if self.failing:
            return {"error": {"name": "ShelfError", "code": self.failing, "message": f"no: {self.failing}"}}
        self.write(args[0])
        return {"value": None}

    def read(self, conversation: str) -> dict[str, Any]:
        """Copies, as they would come over a thread."""
        if conversation not in self.rows:
            return {"error": {"name": "ShelfError", "code": "not_found", "message": "it is not there"}}
        nodes = list(self.nodes.get(conversation, {}).values())
        return {"value": copy.deepcopy({"conversation": self.rows[conversation], "nodes": nodes})}

    def write(self, change: dict[str, Any]) -> None:
        """Lay a change over what there is."""
        self.writes += 1
        row = copy.deepcopy(change["conversation"])
        name = row["id"]
        blank = {"v": 1, "title": "", "leaf": None, "deletedAt": None, "settings": {}}
        self.rows[name] = {**blank, **self.rows.get(name, {}), **row}
        mine = self.nodes.setdefault(name, {})
        for node in copy.deepcopy(change["nodes"]):
            if node["id"] in mine or "role" in node:
                mine[node["id"]] = {**mine.get(node["id"], {}), **node}
        for node in change["drop"]:
            mine.pop(node, None)

    def changed(self, change: dict[str, Any], by: str) -> dict[str, Any]:
        """What the others are told of it."""
        name = change["conversation"]["id"]
        nodes = [self.nodes[name][node["id"]] for node in change["nodes"] if node["id"] in self.nodes[name]]
        told = {"change": "written", "conversation": name, "row": self.rows[name], "nodes": nodes, "drop": change["drop"]}
        return {"kind": "shelf-changed", "by": by, **copy.deepcopy(told)}


class PlayedView:
    """What is on the screen: messages by id, in order, as the ops make them."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, Any]] = {}
        self.conversation: dict[str, Any] = {}
        self.asked: set[str] = set()  # whose fate the person is asked about

    def op(self, op: dict[str, Any]) -> None:
        """One view op."""
        kind = op["type"]
        if kind == "open":
            self.shown = {one["id"]: dict(one) for one in op["messages"]}
            self.asked = set()
        elif kind == "message":
            self.shown.pop(op["id"], None)
            self.shown[op["id"]] = dict(op)
            self.asked.discard(op["id"])
        elif kind == "remove":
            for one in op["ids"]:
                del self.shown[one]
        elif kind == "finish" and op["id"] in self.shown:
            self.shown[op["id"]] |= op
            self.asked.discard(op["id"])
        elif kind == "siblings":
            self.shown[op["id"]]["siblings"] = {"index": op["index"], "count": op["count"]}
        elif kind == "interrupted":
            self.asked.add(op["id"])
        if kind in {"open", "conversation"}:
            self.conversation = op["conversation"]

    def delta(self, message_id: str, delta: str, *, restart: bool = False) -> None:
        """One delta."""
        if message_id in self.shown:
            self.shown[message_id]["text"] = delta if restart else self.shown[message_id]["text"] + delta

    @property
    def texts(self) -> list[str]:
        """What is read from top to bottom."""
        return [one["text"] for one in self.shown.values()]

    @property
    def places(self) -> list[str]:
        """The `2/3` of each message."""
        return [f"{one['siblings']['index'] + 1}/{one['siblings']['count']}" for one in self.shown.values()]
