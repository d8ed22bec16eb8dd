"""static/js/interface.js says what webapp/page/rpc.py serves: each method, its arguments, and every field of its answers."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from lab.clock import virtual
from lab.desk import ASK
from lab.engine import Die, Fail
from played_shell import HYBRID, LOCAL, Shell

from hybr.webapp.hybrid import types
from hybr.webapp.hybrid.personas import checked
from hybr.webapp.page import convert, rpc

JS = Path(__file__).parents[3] / "static/js"
TEXT = (JS / "interface.js").read_text()
PROPERTY = re.compile(r"@property \{(?P<type>.+)\} (?P<optional>\[)?(?P<name>\w+)\]?")


def fields(name: str) -> dict[str, bool]:
    """Return a typedef's fields: whether each may be left out."""
    inline = re.search(r"@typedef \{\{(?P<fields>[^@]+?)\}\} " + name + r"\b", TEXT)
    if inline:
        pairs = re.findall(r"(\w+)(\??): ", re.sub(r"<[^>]*>|\*\s|\[more: string\]", "", inline["fields"]))
        return {field: bool(optional) for field, optional in pairs}
    block = re.search(r"@typedef \{object\} " + name + r"\b.*?\*/", TEXT, re.DOTALL)
    assert block, name
    return {found["name"]: bool(found["optional"]) for found in PROPERTY.finditer(block.group())}


def methods(name: str) -> dict[str, list[tuple[str, bool]]]:
    """Return an API's methods: for each argument its name and whether it may be left out."""
    block = re.search(r"@typedef \{object\} " + name + r"\b.*?\*/", TEXT, re.DOTALL)
    assert block, name
    found = {}
    for line in PROPERTY.finditer(block.group()):
        inner = re.sub(r"\{[^}]*\}|<[^>]*>", "", line["type"].split(") =>")[0])
        found[line["name"]] = [(arg, bool(opt)) for arg, opt in re.findall(r"(\w+)(\??):", inner)]
    return found


def listed(name: str) -> set[str]:
    """Return a list of names in facades.js."""
    block = re.search(rf"const {name} = \[(.*?)\]", (JS / "facades.js").read_text(), re.DOTALL)
    assert block, name
    return set(re.findall(r"'(\w+)'", block[1]))


def agrees(value: dict[str, Any], name: str) -> None:
    """Assert that an answer has the typedef's fields and no other."""
    known = fields(name)
    assert set(value) <= set(known), name
    assert {field for field, optional in known.items() if not optional} <= set(value), name


@virtual
async def test_every_method_is_served_typed_and_handed_out() -> None:
    """The typedef, the facade and Python's table name the same methods."""
    shell = Shell()
    table = set(shell.app.rpc._methods)
    streams = set(rpc.STREAMS)
    hybrid = (
        {method for module, method in table if module == HYBRID} | {convert.camel_name(name) for name in rpc.REQUESTS} | streams
    )
    assert set(methods("HybridApi")) == hybrid - {"init"} == listed("PLAIN") | listed("REQUESTS") | streams
    local = {method for module, method in table if module == LOCAL}
    assert set(methods("LocalApi")) == local == listed("LOCAL_METHODS")
    await shell.end()


@virtual
async def test_the_arguments_are_those_that_python_takes() -> None:
    """By name and in order; what the type demands, Python takes, and what it may be without has a default there."""
    shell = Shell()
    for (module, method), function in shell.app.rpc._methods.items():
        if (module, method) == (HYBRID, "init"):
            continue
        given = methods("HybridApi" if module == HYBRID else "LocalApi")[method]
        taken = list(inspect.signature(function).parameters.values())
        taken = [one for one in taken if one.kind is not one.KEYWORD_ONLY]
        names = ["messages" if one.name == "asked" else convert.camel_name(one.name) for one in taken]
        assert [name for name, _ in given] == names, method
        for (name, optional), one in zip(given, taken, strict=True):
            assert not optional or one.default is not one.empty, (method, name)
    await shell.end()


def test_the_options_are_those_that_are_checked() -> None:
    """Every option of a request, and the signal, which stays on the JavaScript side."""
    names = {convert.camel_name(name) for name in types.Options.__dataclass_fields__}
    assert set(fields("Options")) == names | {"signal"}
    assert all(fields("Options").values())


@virtual
async def test_the_answers_have_the_fields_that_are_typed() -> None:
    """Each method's real answer, after a handover and a fallback."""
    shell = Shell()
    await shell.call(LOCAL, "init", "tiny")
    await shell.call(HYBRID, "setMode", "local")
    shell.scripted.scripts.extend([["It ", Die()], [Fail()]])
    done = await shell.call(HYBRID, "complete", ASK, {"requestId": "a"})
    for name, value in {
        "Completion": done,
        "Usage": done["usage"],
        "Timings": done["timings"],
        "Receipt": done["egress"],
    }.items():
        agrees(value, name)
    for part in done["parts"]:
        agrees(part, "Part")
    assert set(fields("Change")) <= set(done["handover"])
    await shell.app.context.local.settled()
    done = await shell.call(HYBRID, "complete", ASK, {"requestId": "b", "mode": "auto"})
    agrees(done, "Completion")
    status, stats = await shell.call(HYBRID, "getStatus"), await shell.call(HYBRID, "getUsageStats")
    agrees(status, "Status")
    agrees(status["local"], "LocalStatus")
    agrees(await shell.call(LOCAL, "getStatus"), "LocalStatus")
    agrees(await shell.call(LOCAL, "getRuntimeInfo"), "RuntimeInfo")
    agrees(stats, "UsageStats")
    for side in ("local", "cloud"):
        agrees(stats[side], "Totals")
    agrees(stats["budget"], "Budget")
    agrees(await shell.call(HYBRID, "getBudget"), "Budget")
    for method in ("getAutoSwitchConfig", "setAutoSwitchConfig"):
        agrees(await shell.call(HYBRID, method, *([{"maxWaitS": 9}] if method[0] == "s" else [])), "AutoConfig")
    agrees(await shell.call(HYBRID, "estimate", ASK), "Estimate")
    agrees(await shell.call(HYBRID, "getRecovery"), "Recovery")
    agrees(await shell.call(HYBRID, "savePersona", "brief", {"system": "Be brief."}), "Persona")
    agrees(convert.persona_to_wire(checked({})), "Persona")
    (receipt, *_) = await shell.call(HYBRID, "getEgressLog")
    agrees(receipt, "Receipt")
    await shell.app.context.local.settled()
    await shell.end()
