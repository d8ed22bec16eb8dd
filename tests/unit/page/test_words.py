"""The catalogue of words: every language says all of it, and Python asks for nothing that it does not say."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hybr.mlc_build.build import LIBRARIES
from hybr.webapp.hybrid import simpler, trim
from hybr.webapp.hybrid.auto import AutoConfig, Side, Wants, decide
from hybr.webapp.hybrid.errors import OptionError
from hybr.webapp.page.request import checked

ROOT = Path(__file__).parents[3]
WORDS = ROOT / "static/js/words"
AGE = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"properties": {"age": {"type": "nonsense"}}}}}
READ = """
const [path, name] = process.argv.slice(1);
const catalogue = (await import(path))[name];
const asked = new Proxy({}, { get: (_, key) => (key === Symbol.toPrimitive ? () => '{}' : '{}') });
const called = (make) => {
  try { return make(...Array.from({ length: make.length }, () => 3)); } catch { return make(asked, asked, asked); }
};
const plain = (value) => {
  if (typeof value === 'function') return `f:${value.length}:${called(value)}`;
  if (Array.isArray(value)) return value.map(plain);
  if (!value || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
};
console.log(JSON.stringify(plain(catalogue)));
"""


def _read(language: str) -> dict[str, Any]:
    command = ["node", "--input-type=module", "-e", READ, (WORDS / f"{language}.js").as_uri(), language]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout))


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        return {name: text for key, each in value.items() for name, text in _flat(each, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {name: text for key, each in enumerate(value) for name, text in _flat(each, f"{path}.{key}").items()}
    return {path: str(value)}


@pytest.fixture(scope="module")
def english() -> dict[str, str]:
    """The catalogue that the others are measured by, flat."""
    return _flat(_read("en"))


@pytest.mark.parametrize("language", sorted(path.stem for path in WORDS.glob("*.js") if path.stem != "en"))
def test_a_language_says_all_of_it(language: str, english: dict[str, str]) -> None:
    """The same names, functions of as many arguments, nothing empty, and nothing left in English but names."""
    theirs = _flat(_read(language))
    assert sorted(theirs) == sorted(english)
    for name, text in english.items():
        assert theirs[name].startswith(text[:4]) if text.startswith("f:") else not theirs[name].startswith("f:"), name
        assert bool(text.strip()) == bool(theirs[name].strip()), name
    same = {name: text for name, text in theirs.items() if text == english[name]}
    assert not {name: text for name, text in same.items() if len(re.findall(r"[a-z]{3,}", text)) > 2}, "still English"


def test_every_static_sentence_is_in_the_catalogue(english: dict[str, str]) -> None:
    """Each data-say attribute of index.html names a word, and the page's English text is that word."""
    page = (ROOT / "static/index.html").read_text()
    said = re.findall(r"data-say(?:-label|-placeholder|-prompt)?=\"(\w+)\"", page)
    assert said
    assert {name for name in said if f".page.{name}" not in english} == set()
    for name, text in re.findall(r"data-say=\"(\w+)\"[^>]*>([^<]+)<", page):
        assert text == english[f".page.{name}"], name


def test_what_is_told_by_a_code_is_in_the_catalogue(english: dict[str, str]) -> None:
    """Why no model runs here, what the start is doing and why it ended: each code has its sentence, and its remedy."""
    read = {
        name: (ROOT / name).read_text()
        for name in ("static/js/preflight.js", "webapp/hybrid/device.py", "static/js/python.worker.js")
    }
    preflight, device, worker = read.values()
    reasons = {*re.findall(r"code: '(\w+)'", preflight), *re.findall(r"wasmCode = simd \? '(\w+)' : '(\w+)'", preflight)[0]}
    reasons |= {"elsewhere", *re.findall(r"return \(?\"(\w+)\", (?:\{|args)", device)}
    assert {f".reasons.{code}" for code in reasons} == {name for name in english if name.startswith(".reasons.")}
    assert {f".steps.{step}" for step in re.findall(r"status\('(\w+)'", worker)} == {
        name for name in english if name.startswith(".steps.")
    }
    ends = {*re.findall(r"'(\w+_(?:failed|unreachable))'", worker), *re.findall(r"code: '(\w+)'", worker), "python_worker"}
    assert {f".remedies.{code}" for code in ends} == {name for name in english if name.startswith(".remedies.")}
    assert {code for code in ends if f".errors.{code}" not in english} == set()


def test_what_the_server_builds_is_in_the_catalogue(english: dict[str, str]) -> None:
    """Each step of a build has its words: the server's own text is English."""
    sources = [*(ROOT / "mlc_build").glob("*.py"), ROOT / "server/models.py"]
    steps = {name for path in sources for name in re.findall(r"(?:\.step\(|\"step\": )\"(\w+)\"", path.read_text())}
    steps |= set(LIBRARIES)
    assert {f".models.builds.{step}" for step in steps} == {name for name in english if name.startswith(".models.builds.")}


SAYS = (
    "globalThis.document = {documentElement: {lang: 'de'}}; const {sayError} = await import(process.argv[1]);"
    "console.log(JSON.stringify(JSON.parse(process.argv[2]).map((error) => sayError(error))));"
)


def test_a_refused_setting_is_told_in_german() -> None:
    """Each setting that a person can get wrong says what it may be; a schema says where it is wrong."""
    wrong = {"temperature": 9, "top_p": 0, "max_output_tokens": 0.5, "seed": 1.5, "stop": [""], "response_format": {"type": "x"}}
    errors = []
    for change in [*({name: value} for name, value in wrong.items()), {"response_format": AGE}]:
        with pytest.raises(OptionError) as refused:
            checked(change)
        errors.append(refused.value.to_dict())
    strings = (ROOT / "static/js/strings.js").as_uri()
    command = ["node", "--input-type=module", "-e", SAYS, strings, json.dumps(errors)]
    german = json.loads(subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout)
    assert len(set(german)) == len(errors)
    assert all(text.startswith("Das ") for text in german)
    assert "properties.age.type" in german[-1]


def test_what_python_says_is_in_the_catalogue(english: dict[str, str]) -> None:
    """Each sentence that the page's Python asks for by name exists."""
    asked = {
        name
        for path in (ROOT / "webapp").rglob("*.py")
        for name in re.findall(r"(?:_tell\(\"\w+\", |\"say\": )\"([\w.-]+)\"", path.read_text())
    }
    assert asked
    assert {name for name in asked if f".shell.toasts.{name}" not in english} == set()


def in_german(kind: str, sentences: list[str]) -> list[str]:
    """Python's sentences as the German page says them."""
    said = "const { de } = await import(process.argv[1]);"
    said += "console.log(JSON.stringify(JSON.parse(process.argv[3]).map((one) => de.shell[process.argv[2]](one))));"
    command = ["node", "--input-type=module", "-e", said, (WORDS / "de.js").as_uri(), kind, json.dumps(sentences)]
    german: list[str] = json.loads(subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout)
    return german


def test_every_note_is_said_in_german() -> None:
    """Each sentence on how a model was asked otherwise; what a schema wants stays in the schema's words."""
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "minProperties": 1}}}
    notes = [
        trim.said(1, 975, 300),
        trim.said(4, 975, 0),
        simpler.said(schema, schema),
        simpler.said(schema, {"type": "json_object"}),
    ]
    notes += [simpler.checked(text, schema) for text in ('{"a": 1}', "{")]
    for note, text in zip(notes, in_german("note", notes), strict=True):
        assert not re.search(r"\b(the|it|its|was|were|tokens|local|departs)\b", text), (note, text)
    assert in_german("note", [simpler.checked("{}", schema)])[0].startswith("Sie weicht vom Schema ab: answer is {}; it must be")


def test_every_decision_is_said_in_german() -> None:
    """Each reason that auto mode can give has its German sentence, and nothing English is left in it."""
    slow, able, small = Side(seconds=90.0), Side(images=True, tools=True), Side(context=10)
    config, long = AutoConfig(budget=1.0), Wants(tokens=99)
    paid = Side(cost=1.0, images=True)
    made = [
        decide(Side(ready=False), Side(), Wants(), config),
        decide(Side(), Side(), Wants(), config, offline=True),
        decide(Side(), Side(ready=False), Wants(), config),
        *(decide(one, other, Wants(images=True), config) for one, other in ((able, Side()), (Side(), able))),
        decide(Side(), able, Wants(tools=True), config),
        decide(Side(schema=False), Side(), Wants(schema=True), config),
        decide(small, Side(), long, config),
        decide(Side(), small, long, config),
        decide(Side(), Side(), Wants(), config, broke=True),
        decide(Side(), paid, Wants(), config, spent=2.0),
        decide(slow, Side(), Wants(), config),
        decide(Side(), Side(), Wants(), AutoConfig(weights={"cost": 1.0})),
        decide(Side(), paid, Wants(), AutoConfig()),
    ]
    reasons = [f"{decision.first}: {decision.reason}" for decision in made]
    german = in_german("decision", reasons)
    assert len(set(reasons)) == len(reasons), "each sentence once"
    for reason, text in zip(reasons, german, strict=True):
        assert not re.search(r"\b(the|is|are|takes|take|score|scores|longer|local|cloud|budget of)\b", text), (reason, text)
