"""A failed check in the runtime reaches the page as an Error with its message, and the library goes on working."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hybr_testing import launch

from hybr.server import paths

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Playwright, Route

BUNDLE = paths.package("static") / "node_modules/@mlc-ai/web-llm/lib/index.js"
ORIGIN = "http://127.0.0.1:9/"

ASK = """
async () => {
  const { tvmjs } = await import("./bundle.js");
  const library = await (await fetch("model.wasm")).arrayBuffer();
  const tvm = await tvmjs.instantiate(library, tvmjs.createPolyfillWASI(), () => {});
  const said = [];
  const three = tvm.scalar(3, "int32");
  for (const [name, ...args] of [
    ["vm.builtin.tensor_cache.get", 1, 2],
    ["vm.builtin.tensor_cache.get", 7],
    ["vm.builtin.param_module_from_cache", "param", three],
  ]) {
    tvm.beginScope();
    try { tvm.getGlobalFunc(name)(...args); said.push("nothing"); }
    catch (error) { said.push(error instanceof Error ? error.message : `no Error: ${error}`); }
    tvm.endScope();
  }
  tvm.beginScope();
  const sum = tvm.getGlobalFunc("tvmjs.testing.add_one")(tvm.scalar(41, "int32"));
  tvm.endScope();
  return { said, sum };
}
"""


@pytest.mark.models
def test_errors_reach_the_page(playwright_driver: Playwright, tiny: Path) -> None:
    """Three failures, three messages; the instance answers the next call. Through the tvmjs inside web-llm's own bundle."""
    source = BUNDLE.read_text()
    found = re.search(
        r"(libExports\$?\d*)\.instantiate\(wasm\.buffer", source
    )  # tvmjs is not exported: the place that uses it names it
    assert found
    bodies = {
        "": ("text/html", b"<!doctype html>"),
        "bundle.js": ("text/javascript", f"{source}\nexport {{ {found[1]} as tvmjs }};\n".encode()),
        "model.wasm": ("application/wasm", (tiny / "model.wasm").read_bytes()),
    }

    def answer(route: Route) -> None:
        kind, body = bodies.get(route.request.url.removeprefix(ORIGIN), ("text/plain", b""))
        route.fulfill(content_type=kind, body=body)

    browser = launch(playwright_driver, webgpu=False)
    try:
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto(ORIGIN)
        told = page.evaluate(ASK)
    finally:
        browser.close()
    arity, kind, cache = told["said"]
    assert "Expected 1 but got 2 arguments" in arity
    assert "Mismatched type" in kind
    assert "Cannot find param_0 in cache" in cache
    assert told["sum"] == 42
