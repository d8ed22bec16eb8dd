"""What the server says of itself: every route stands in the description, and answers as described whatever it is asked."""

from __future__ import annotations

import asyncio
import queue
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from fakes import openai
from fakes.gateway import parts_of
from fakes.wire import wired
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import InvalidArgument, Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance
from serving import asking, listening, parts_in
from starlette.applications import Starlette

from hybr.server import app, chat
from hybr.server.openapi.paths import OPERATIONS, document
from hybr.server.surfaces import messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENT = document("0")


def routes(folder: Path) -> set[tuple[str, str]]:
    """Return the server's routes as the description writes them."""
    found: Any = app.create(parts_in(folder))
    while not isinstance(found, Starlette):
        found = found.app
    return {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in found.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }


def test_every_route_is_described(tmp_path: Path) -> None:
    """No route is missing from the description, and the description has none that is not there."""
    described = {(one.method, one.path) for one in OPERATIONS}
    assert described == routes(tmp_path)


def test_every_field_is_described() -> None:
    """The document's questions have the fields that are taken, no more and no fewer."""
    schemas = document("0")["components"]["schemas"]
    assert set(schemas["Chat"]["properties"]) == chat.CHECKS.keys() - chat.INNER
    assert set(schemas["Messages"]["properties"]) == messages.KNOWN - messages.IGNORED | {"metadata"}


async def test_for_programs_and_people(tmp_path: Path) -> None:
    """The document is served as JSON, and as a page without a script, under a policy that would allow none."""
    async with asking(parts_in(tmp_path)) as client:
        raw = await client.get("/openapi.json")
        page = await client.get("/docs")
    assert raw.json()["paths"].keys() == DOCUMENT["paths"].keys()
    assert not re.search(r"<script|\bon\w+=|src=|https?:", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert all(one.path.replace("&", "&amp;") in page.text for one in OPERATIONS)


OPERATIONS_MADE = [found.ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]
CHECKS: list[Any] = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
UNREADY = {"/healthz", "/readyz"}  # 503 until there is a page: these parts have none


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server with a provider behind it, in a thread of its own: the requests below are blocking ones."""
    ready, told = threading.Event(), queue.SimpleQueue[Any]()

    async def serve() -> None:
        done = asyncio.Event()
        async with wired(openai.answer) as wire:
            parts = parts_of(tmp_path_factory.mktemp("openapi"), "openai", wire.address, openai.KEY)
            async with listening(parts) as found:
                told.put((found, done, asyncio.get_running_loop()))
                ready.set()
                await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(120)
    found, done, loop = told.get()
    yield found
    loop.call_soon_threadsafe(done.set)
    thread.join(120)


def run(operation: Any, mode: GenerationMode, address: str, count: int) -> None:
    """Ask one operation `count` generated requests, and check each answer against its description."""
    strategy = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=count, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(case=strategy)
    def asked(case: Any) -> None:
        answer = case.call(base_url=address, allow_redirects=False, timeout=120)
        case.validate_response(answer, checks=CHECKS[1:] if operation.path in UNREADY else CHECKS)

    try:
        asked()
    except (Unsatisfiable, InvalidArgument):  # nothing to get wrong: this operation takes nothing
        assert mode is GenerationMode.NEGATIVE


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS_MADE, ids=lambda operation: operation.label)
def test_as_described(operation: Any, mode: GenerationMode, address: str) -> None:
    """Requests made from the description, good ones and bad ones, are answered as described and never with a defect of ours."""
    run(operation, mode, address, 12)


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS_MADE, ids=lambda operation: operation.label)
def test_as_described_at_length(operation: Any, address: str) -> None:
    """The same many times."""
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        run(operation, mode, address, 300)
