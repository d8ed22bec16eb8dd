"""Every route: what it is for, what it takes and what it answers. A test fails for a route that does not stand here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from hybr.server.openapi.schemas import SCHEMAS, ref

JSON, EVENTS, BYTES, HTML = "application/json", "text/event-stream", "application/octet-stream", "text/html"


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    `takes` and `gives` name shapes of `schemas`, or media types; `queries` are the parameters behind the path, `also` further
    statuses that are no error; `open` means that nobody is asked who they are.
    """

    method: str
    path: str
    summary: str
    gives: str = ""
    takes: str = ""
    status: int = 200
    tag: str = "API"
    queries: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    also: tuple[int, ...] = ()
    streams: bool = False
    open: bool = False
    media: str = ""
    error: str = "Error"
    more: dict[str, Any] = field(default_factory=dict)


def gateway(method: str, path: str, summary: str, gives: str, takes: str = "", **fields: Any) -> Operation:
    """Return an operation of the gateway."""
    return Operation(method, path, summary, gives, takes, tag="Gateway", **fields)


def page(path: str, summary: str, media: str = HTML, status: int = 200, **fields: Any) -> Operation:
    """Return an operation that serves the page."""
    return Operation("GET", path, summary, media=media, status=status, tag="Page", **fields)


CONDITIONS = ("If-Match", "If-None-Match")
DAYS = ("from", "to", "group", "owner")
OPERATIONS = (
    gateway("GET", "/v1/models", "The models that the caller can ask for, the default first", "Models"),
    gateway("GET", "/v1/models/{id}", "One model", "Model"),
    gateway("POST", "/v1/chat/completions", "OpenAI's chat completions, streamed or whole", "Completion", "Chat", streams=True),
    gateway(
        "POST",
        "/v1/messages",
        "Anthropic's messages, in front of every provider",
        "Message",
        "Messages",
        streams=True,
        error="AnthropicError",
    ),
    gateway(
        "POST",
        "/v1/messages/count_tokens",
        "How many tokens a request to Anthropic's or Google's models is",
        "Counted",
        "Count",
        error="AnthropicError",
    ),
    gateway("POST", "/v1/embeddings", "OpenAI's embeddings", "Embeddings", "Embed"),
    Operation("GET", "/api/providers", "Who can answer, of the others why not, and how each one's breaker stands", "Providers"),
    Operation("GET", "/api/keys", "For which providers there is a key, and whose", "Keys"),
    Operation("GET", "/api/keys/{provider}", "Whether there is a key, and whose", "Key"),
    Operation("PUT", "/api/keys/{provider}", "Set the caller's own key, which is never shown again", "Key", "NewKey"),
    Operation("DELETE", "/api/keys/{provider}", "Forget the caller's own key", "Key"),
    Operation("GET", "/api/preferences", "The caller's preferences and their version", "Preferences"),
    Operation("PUT", "/api/preferences", "Replace them, from the version that was read", "Preferences", "Preferences"),
    Operation("GET", "/api/prices", "USD for a million tokens of each model whose price is known", "Prices"),
    Operation("GET", "/api/usage", "What was used and what it cost, by day, provider or model", "Spending", queries=DAYS),
    Operation("POST", "/api/telemetry", "A page's events: figures and kinds, never a text", "Taken", "Events", status=202),
    Operation("DELETE", "/api/telemetry", "Remove the caller's telemetry", status=204),
    Operation("GET", "/api/telemetry/summary", "Counts, medians and errors by day, provider or model", "Summary", queries=DAYS),
    Operation("GET", "/api/telemetry/export", "The caller's rows", queries=("format",), media="application/x-ndjson, text/csv"),
    Operation("DELETE", "/api/me/data", "Remove all that is kept of the caller", "Forgotten"),
    Operation("GET", "/api/blobs", "What was written and deleted since a version", "Blobs", queries=("since", "limit")),
    Operation("GET", "/api/blobs/{name}", "One blob's bytes", media=BYTES, also=(304,)),
    Operation(
        "PUT", "/api/blobs/{name}", "Write one", "Blob", BYTES, status=201, also=(200,), headers=("If-Match", "If-None-Match")
    ),
    Operation("DELETE", "/api/blobs/{name}", "Delete one", "Blob", headers=("If-Match",)),
    Operation("POST", "/api/session", "Let this browser in", "Entered", "Entry", open=True),
    Operation("GET", "/api/session", "As whom it is in", "Session"),
    Operation("DELETE", "/api/session", "End the session and whatever runs on it", "Ended"),
    Operation("GET", "/healthz", "Whether page and cloud can be used", "Health", open=True, also=(503,)),
    Operation("GET", "/readyz", "Whether requests may be sent here", "Health", open=True, also=(503,)),
    Operation("GET", "/metrics", "Figures for Prometheus", media="text/plain", open=True),
    Operation("GET", "/openapi.json", "This description", media=JSON),
    page("/docs", "This description for people"),
    page("/", "The page"),
    page("/local", "The page for which nothing can leave the browser"),
    page("/favicon.ico", "Nothing: the page names its own", "", 204, open=True),
    page("/assets/{path}", "The page's files, which never change under their URL", "*/*", open=True, also=(304,)),
    page("/local/assets/{path}", "The same under the policy of `/local`", "*/*", open=True, also=(304, 307)),
    page("/remote/assets/{path}", "The engine under a policy with the hosts that its person allowed", "*/*", also=(308,)),
    Operation("GET", "/models/index.json", "The models for the browser", "Catalogue", tag="Page", open=True, also=(304,)),
    page("/models/{id}/{rev}/{path}", "One file of a model", "*/*", open=True, also=(206, 304)),
)


def document(version: str) -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = operation(one)
    secure = {"token": {"type": "http", "scheme": "bearer", "description": "`hybr tokens create`; x-api-key does the same"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "HYBR", "version": version, "description": __doc__},
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": {**secure, "key": KEY}},
        "security": [{"token": []}, {"key": []}],
    }


KEY = {"type": "apiKey", "in": "header", "name": "x-api-key"}


def operation(one: Operation) -> dict[str, Any]:
    """Return one operation's description."""
    said: dict[str, Any] = {"summary": one.summary, "tags": [one.tag], "responses": answers(one)}
    said["operationId"] = re.sub(r"\W+", "_", f"{one.method.lower()}{one.path}").strip("_")
    placed = [(name, "path", True) for name in re.findall(r"{(\w+)}", one.path)]
    placed += [(name, "query", False) for name in one.queries] + [(name, "header", False) for name in one.headers]
    if placed:
        said["parameters"] = [
            {"name": name, "in": place, "required": needed, "schema": {"type": "string"}} for name, place, needed in placed
        ]
    if one.takes:
        raw = one.takes == BYTES
        content = {BYTES: {"schema": {"type": "string", "format": "binary"}}} if raw else {JSON: {"schema": ref(one.takes)}}
        said["requestBody"] = {"required": True, "content": content}
    if one.open:
        said["security"] = []
    return said


def answers(one: Operation) -> dict[str, Any]:
    """Return the statuses of an operation and what they carry."""
    content: dict[str, Any] = {JSON: {"schema": ref(one.gives)}} if one.gives else {}
    content |= {media: {} for media in one.media.split(", ") if media}
    if one.streams:
        content[EVENTS] = {"schema": {"type": "string"}}
    good = {"description": one.summary} | ({"content": content} if content else {})
    found = {str(one.status): good}
    found |= {str(status): good if status < 300 or status == 503 else {"description": "see RFC 9110"} for status in one.also}
    return {**found, "default": {"description": "An error", "content": {JSON: {"schema": ref(one.error)}}}}
