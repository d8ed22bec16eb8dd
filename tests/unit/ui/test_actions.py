"""What a person does in a view becomes exactly one call of the orchestrator's."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from hybr.webapp.ui.actions import act


class Recorder:
    """Takes any call, plain or awaited, and remembers it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def set_mode(self, mode: object, *, manual: bool) -> bool:
        """As HybridLLMProvider's."""
        self.calls.append(("set_mode", (mode,), {"manual": manual}))
        return True

    def set_egress(self, policy: object) -> bool:
        """As Chat's."""
        self.calls.append(("set_egress", (policy,), {}))
        return True

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> bool:
            self.calls.append((name, args, {}))
            return True

        return call


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ({"action": "set-mode", "mode": "local"}, ("set_mode", ("local",), {"manual": True})),
        ({"action": "set-egress", "policy": "ask"}, ("set_egress", ("ask",), {})),
        ({"action": "load", "model": "tiny"}, ("init", ("tiny",), {})),
        ({"action": "cancel"}, ("discard", (), {})),
        ({"action": "pause"}, ("pause", (), {})),
        ({"action": "unload"}, ("unload", (), {})),
        ({"action": "delete", "model": "tiny"}, ("delete", ("tiny",), {})),
    ],
)
async def test_each_action_is_one_call(message: dict[str, Any], call: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    """The person's own hand: set_mode says manual, so that the wish is remembered."""
    recorder = Recorder()
    await act(SimpleNamespace(hybrid=recorder, local=recorder, place=recorder, chat=recorder), message)  # type: ignore[arg-type]
    assert recorder.calls == [call]


@pytest.mark.parametrize("message", [None, "load", {}, {"action": "format-disk"}, {"action": None}, []])
async def test_anything_else_is_ignored_with_a_warning(message: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A message from a newer or damaged view does nothing."""
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        await act(SimpleNamespace(hybrid=recorder, local=recorder, place=recorder, chat=recorder), message)  # type: ignore[arg-type]
    assert recorder.calls == []
    assert "unknown" in caplog.text


async def test_a_failing_call_is_logged_and_the_views_live_on(caplog: pytest.LogCaptureFixture) -> None:
    """An exception ends in the log, not in the task that carries the views."""

    def fails(mode: object, *, manual: bool) -> bool:
        raise RuntimeError("no")

    await act(SimpleNamespace(hybrid=SimpleNamespace(set_mode=fails), local=None), {"action": "set-mode"})  # type: ignore[arg-type]
    assert "set-mode failed" in caplog.text
