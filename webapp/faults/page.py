"""The lab in the real page: scripts out of the address bar, in JSON, and the parts that play them.

    ?faults={"local": [["The ", {"die": true}]], "cloud": [["end."]]}&model=scripted&load=1

`pace` is how many seconds a text takes. `local` and `cloud` are lists of scripts, one for each question that reaches that side,
and `loads` one for each load of the model; afterwards each does as it does by default. A step is a text or an object of one name:
`sleep` (s), `again` ([text, times]), `fail` ([name, message, phase]), `die`, `lost`, `stall`, `silent`, `end` (reason); `refuse`
([status, code, headers]), `raw` (bytes, in hex), `event` (an object), `unreachable`, `cut`. There is one local model, `scripted`,
on any adapter.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from hybr.webapp.faults.engine import Die, End, Fail, Lost, ScriptedEngine, Silent, Sleep, Stall
from hybr.webapp.faults.upstream import Cut, Event, Refuse, ScriptedUpstream, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

MODEL: dict[str, Any] = {
    "id": "scripted",
    "name": "Scripted",
    "state": "built",
    "quantisation": "q0f32",
    "bytes": 1000,
    "context": 2048,
    "vision": True,
    "tools": True,
    "files": [],
    "base": "/models/scripted/",
    "gguf": {"bytes": 1000, "files": []},
}
STEPS: dict[str, Callable[[Any], Any]] = {
    "sleep": lambda s: Sleep(float(s)),
    "fail": lambda said: Fail(*map(str, said)),
    "die": lambda _: Die(),
    "lost": lambda _: Lost(),
    "stall": lambda _: Stall(),
    "silent": lambda _: Silent(),
    "end": lambda reason: End(str(reason)),
    "refuse": lambda said: Refuse(int(said[0]), str(said[1]), headers=dict(*said[2:])),
    "raw": bytes.fromhex,
    "event": lambda said: Event(dict(said)),
    "unreachable": lambda _: Unreachable(),
    "cut": lambda _: Cut(),
}


def step(told: Any) -> Any:
    """One step of a script. Raises ValueError for what is none."""
    if isinstance(told, str):
        return told
    if isinstance(told, dict) and len(told) == 1:
        ((name, value),) = told.items()
        if name in STEPS:
            return STEPS[name](value)
    raise ValueError(f"{told!r} is no step; there are texts and {', '.join(STEPS)}")


def steps(told: Any) -> list[Any]:
    """A whole script. Raises ValueError."""
    made: list[Any] = []
    for one in told:
        if isinstance(one, dict) and list(one) == ["again"]:
            text, times = one["again"]
            made += [str(text)] * int(times)
        else:
            made.append(step(one))
    return made


def parts(script: str) -> tuple[ScriptedEngine, ScriptedUpstream]:
    """The engine and the transport that play `script`. Raises ValueError."""
    told = json.loads(script)
    engine, upstream = ScriptedEngine(), ScriptedUpstream()
    if isinstance(told, dict):
        engine.scripts.extend(map(steps, told.get("local") or ()))
        engine.loads.extend(map(steps, told.get("loads") or ()))
        upstream.scripts.extend(map(steps, told.get("cloud") or ()))
        if "pace" in told:
            engine.pace = upstream.pace = float(told["pace"])
    upstream.files["/models/index.json"] = {"schema": 1, "models": [MODEL]}
    log.warning("this page plays a script: neither engine nor server is real")
    return engine, upstream
