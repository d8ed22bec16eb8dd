"""The engine alone: what a delta costs on its way to Python's thread, and how fast the built models load and run."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import encoders
import numpy as np
from engine_desk import Bench, Desk, Handler, Model
from harness import Figure, bench
from hybr_testing import Watch, launch
from llamacpp import LlamaCpp
from playwright.sync_api import sync_playwright

from hybr.mlc_build import catalogue, sources
from hybr.mlc_build.build import LIBRARIES
from hybr.server.paths import home

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 20_000
FLOORS = {("smollm2-135m", "prefill"): 15.0, ("smollm2-135m", "decode"): 2.0}
"""Tokens a second on a software adapter that must be reached; TVM's schedules give 2.3 and 0.165."""
PROMPT = "What is the capital of France?"
QUESTION = "Tell me a long story about a lighthouse keeper, the sea, a lost ship and the people of the village. " * 8
TEXTS = {"questions": [PROMPT, "Why does it rain?"] * 4, "paragraphs": [QUESTION[:500]] * 4}
OPTIONS = {"temperature": 0, "max_tokens": 64}


@contextlib.contextmanager
def _page(worker: str = "") -> Iterator[tuple[Bench, Desk]]:
    desk = Desk()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"desk": desk}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with sync_playwright() as driver:
        browser = launch(driver)
        page = browser.new_page()
        page.set_default_timeout(0)
        page.goto(url + "/pages/blank.html")
        page.evaluate("async () => { window.bench = await import('/pages/bench.js'); }")
        if worker:
            page.evaluate("(worker) => bench.begin(worker)", worker)
        yield Bench(page, Watch(url)), desk
        browser.close()
    server.shutdown()
    server.server_close()


@bench
def engine_deltas() -> Iterator[Figure]:
    """Deltas a second through worker, port and client, against bare postMessage."""
    with _page("/pages/scripted.worker.js") as (page, desk):
        script = {"mlc-chat-config.json": b"{}", "tensor-cache.json": b'{"records": []}', "tokenizer.json": b"{}"}
        loaded = page.call("load", {"model": desk.add(Model("toy", {**script, "model.wasm": b"x", "model-software.wasm": b"x"}))})
        assert "failed" not in loaded, loaded
        bare = max(page.page.evaluate("(n) => bench.bare(n)", COUNT) for _ in range(3))
        best = max(page.page.evaluate("(n) => bench.deltasPerSecond(n)", COUNT) for _ in range(3))
        yield Figure("engine.deltas", best, "1/s", "bare postMessage", bare, "scripted WebLLM, JSON out; floor 2000/s")


@bench
def engine_models() -> Iterator[Figure]:
    """Load and rates of each built model on the software adapter."""
    for name in ("tiny", "smollm2-135m"):
        if model := _built(name):
            yield from _rates(name, model)


def _built(name: str) -> Model | None:
    """Return a model of this machine's shelf, to be served; None, and say so, where it is not built."""
    folder = home() / "models" / name
    state = json.loads((folder / "state.json").read_text()) if (folder / "state.json").exists() else {}
    if state.get("state") != "built":
        print(f"   {name} is not built: skipped")
        return None
    listed = json.loads((folder / state["rev"] / "manifest.json").read_text())["files"]
    return Model(name, {file["path"]: (folder / state["rev"] / file["path"]).read_bytes() for file in listed}, state["rev"])


@bench
def engine_embeddings() -> Iterator[Figure]:
    """Texts and tokens a second of the embedding model on the software adapter, against numpy on the same weights as floats."""
    name = "all-minilm-l6-v2"
    if not (model := _built(name)):
        return
    numpy = encoders.numpys(home() / "models" / name / model.rev)
    with _page() as (page, desk):
        desk.add(model)
        page.page.evaluate("async () => { window.embedder = await import('/pages/embed.js'); }")
        page.page.evaluate("([base, library]) => embedder.load(base, library)", [model.base, LIBRARIES["software"]])
        for kind, texts in TEXTS.items():
            made, rates, theirs = [], [], []
            for _ in range(3):
                made = page.page.evaluate("(texts) => embedder.embed(texts)", texts)
                rates.append(len(texts) / made["seconds"])
                began = time.perf_counter()
                wanted = [numpy(text) for text in texts]
                theirs.append(len(texts) / (time.perf_counter() - began))
            assert np.abs(np.array(made["vectors"]) - wanted).max() < 2e-3
            conditions = f"{len(texts)} texts, {made['usage']['prompt_tokens']} tokens, software library in q8f32_1"
            yield Figure(f"engine.{name}.{kind}", max(rates), "texts/s", "numpy, floats", max(theirs), conditions)


def _rates(name: str, model: Model) -> Iterator[Figure]:
    with _page("/js/engine/engine.worker.js") as (page, desk):
        loaded = page.call("load", {"model": desk.add(model)})
        assert "failed" not in loaded, loaded
        conditions = f"{loaded['profile']} library, {loaded['gpu']['architecture'] or loaded['gpu']['vendor']}"
        yield Figure(f"engine.{name}.load", loaded["loadS"], "s", "download", loaded["downloadS"], conditions)
        best: dict[str, Any] = {}
        for i in range(2):
            options = {"temperature": 0, "max_tokens": 16}
            chat = {"requestId": f"r{i}", "messages": [{"role": "user", "content": PROMPT}], "options": options}
            result = page.call("chat", chat)
            assert "failed" not in result, result
            best = max(best, result["timings"], key=lambda each: each.get("decodeTps") or 0)
        for rate, value in {"prefill": best["prefillTps"], "decode": best["decodeTps"]}.items():
            floor = FLOORS.get((name, rate))
            yield Figure(f"engine.{name}.{rate}", value, "tokens/s", "at least" if floor else "none", floor, conditions)
        yield Figure(f"engine.{name}.ttft", best["ttftMs"] / 1000, "s", "none", None, conditions)
        yield from _kept(name, page, conditions)


def _kept(name: str, page: Bench, conditions: str) -> Iterator[Figure]:
    """What it costs that WebLLM keeps the answer while it is written (static/js/engine/kept.js), turn about with one not kept."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    for i in range(6):
        chat = {**_question(f"k{i}", i), "options": {"temperature": 1, "seed": i // 2, "max_tokens": 64}}
        chat |= {"journal": {"session": f"bench-{i}"}} if i % 2 else {}
        result = page.call("chat", chat)
        assert "failed" not in result, result
        rates[bool(i % 2)].append(result["timings"]["decodeTps"])
    yield Figure(f"engine.{name}.decode_kept", max(rates[True]), "tokens/s", "not kept", max(rates[False]), conditions)


@bench
def engine_wasm() -> Iterator[Figure]:
    """SmolLM2 in llama.cpp as WebAssembly, against llama.cpp itself on the same file with as many threads."""
    source = catalogue.find("smollm2-135m").source
    if not sources.present(source):
        print("   smollm2-135m has not been fetched: skipped")
        return
    path = sources.location(source)
    model = Model("smollm2-135m", {path.name: path.read_bytes()}, gguf=path.name)
    with _page("/js/engine/engine.worker.js") as (page, desk):
        entry = desk.add(model)
        entry["gguf"] |= {"sampling": {"temperature": 0.2, "top_p": 0.9}, "plain": True}
        loaded = page.call("load", {"model": {**entry, "context": 2048}, "runtime": "wasm"})
        assert "failed" not in loaded, loaded
        chats = [page.call("chat", _question(f"r{i}", i)) for i in range(3)]
    best = max((chat["timings"] for chat in chats), key=lambda each: each["decodeTps"])
    native = LlamaCpp(path, threads=loaded["threads"]).rates(QUESTION, 64)
    conditions = f"{loaded['threads']} threads, Q4_1, {chats[0]['usage']['promptTokens']} tokens of prompt"
    yield Figure("engine.wasm.load", loaded["loadS"], "s", "download", loaded["downloadS"], conditions)
    yield Figure("engine.wasm.prefill", best["prefillTps"], "tokens/s", "llama.cpp, native", native[0], conditions)
    yield Figure("engine.wasm.decode", best["decodeTps"], "tokens/s", "llama.cpp, native", native[1], conditions)
    yield Figure("engine.wasm.ttft", best["ttftMs"] / 1000, "s", "none", None, conditions)


def _question(request_id: str, turn: int) -> dict[str, Any]:
    """A prompt that begins otherwise each time, so that none of it is in the cache."""
    content = f"{turn}. {QUESTION}"
    return {"requestId": request_id, "messages": [{"role": "user", "content": content}], "options": OPTIONS}
