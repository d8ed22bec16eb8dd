"""Where a library's time goes: each dispatch timed by the device itself (timestamp queries), under WebLLM's own tvmjs.

The page's WebGPU is wrapped before WebLLM comes: the device is asked for `timestamp-query`, each compute pass (tvmjs makes one a
dispatch) writes its begin and end, and a dispatch is known by its kernel, its grid and the largest buffer it binds, which for a
product is the weights. Chromium rounds timestamps to 100 us unless it is told not to: hence FLAGS.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import library_desk
from hybr_testing import launch
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FLAGS = ["--enable-dawn-features=allow_unsafe_apis,disable_timestamp_query_conversion"]
MOST = 4096
"""Timestamps in a query set, WebGPU's bound: two a dispatch."""

SCRIPT = """
const names = new WeakMap(), sizes = new WeakMap(), held = new WeakMap();
let device, set, at = 0, seen = [];
const wrap = (type, name, made) => {
  const before = type.prototype[name];
  type.prototype[name] = function (...args) { return made.call(this, before, args); };
};
wrap(GPUAdapter, 'requestDevice', async function (before, [asked = {}]) {
  const requiredFeatures = [...(asked.requiredFeatures ?? []), 'timestamp-query'];
  device = await before.call(this, {...asked, requiredFeatures});
  set = device.createQuerySet({type: 'timestamp', count: MOST});
  return device;
});
wrap(GPUDevice, 'createComputePipeline', function (before, [asked]) {
  const made = before.call(this, asked);
  names.set(made, asked.compute.entryPoint);
  return made;
});
wrap(GPUDevice, 'createComputePipelineAsync', async function (before, [asked]) {
  const made = await before.call(this, asked);
  names.set(made, asked.compute.entryPoint);
  return made;
});
wrap(GPUDevice, 'createBindGroup', function (before, [asked]) {
  const made = before.call(this, asked);
  sizes.set(made, Math.max(...asked.entries.map(({resource}) => resource.buffer.size)));
  return made;
});
wrap(GPUCommandEncoder, 'beginComputePass', function (before, [asked = {}]) {
  if (at + 2 > MOST) return before.call(this, asked);
  const timestampWrites = {querySet: set, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1};
  const pass = before.call(this, {...asked, timestampWrites});
  held.set(pass, (seen[at / 2] = {kernel: '', grid: [], bytes: 0}));
  at += 2;
  return pass;
});
wrap(GPUComputePassEncoder, 'setPipeline', function (before, [pipeline]) {
  if (held.has(this)) held.get(this).kernel = names.get(pipeline);
  return before.call(this, pipeline);
});
wrap(GPUComputePassEncoder, 'setBindGroup', function (before, args) {
  if (held.has(this)) held.get(this).bytes = sizes.get(args[1]);
  return before.apply(this, args);
});
wrap(GPUComputePassEncoder, 'dispatchWorkgroups', function (before, grid) {
  if (held.has(this)) held.get(this).grid = grid;
  return before.apply(this, grid);
});
// Every dispatch since the last call, in order: {kernel, grid, bytes, ns}.
window.dispatches = async () => {
  const count = at, found = seen;
  [at, seen] = [0, []];
  if (!count) return [];
  const {QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ} = GPUBufferUsage;
  const buffer = (usage) => device.createBuffer({size: count * 8, usage});
  const [made, read] = [buffer(QUERY_RESOLVE | COPY_SRC), buffer(COPY_DST | MAP_READ)];
  const encoder = device.createCommandEncoder();
  encoder.resolveQuerySet(set, 0, count, made, 0);
  encoder.copyBufferToBuffer(made, 0, read, 0, count * 8);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  const stamps = new BigUint64Array(read.getMappedRange().slice(0));
  for (const one of [made, read]) one.destroy();
  return found.map((one, i) => ({...one, ns: Number(stamps[2 * i + 1] - stamps[2 * i])}));
};
""".replace("MOST", str(MOST))


@dataclass
class Spent:
    """What one kernel took in one shape.

    Attributes:
        kernel: the shader's entry point.
        grid: its workgroups, as `48x1`.
        bytes: the largest buffer bound, which for a product is the weights.
        count: dispatches.
        ms: all of them together.

    """

    kernel: str
    grid: str
    bytes: int
    count: int = 0
    ms: float = 0.0


def spent(dispatches: Sequence[dict[str, Any]]) -> list[Spent]:
    """Gather dispatches (as the page's `dispatches()` tells them) by kernel and shape, the dearest first."""
    found: dict[tuple[str, str, int], Spent] = {}
    for one in dispatches:
        grid = "x".join(str(n) for n in one["grid"][:2])
        kept = found.setdefault((one["kernel"], grid, one["bytes"]), Spent(one["kernel"], grid, one["bytes"]))
        kept.count += 1
        kept.ms += one["ns"] / 1e6
    return sorted(found.values(), key=lambda one: -one.ms)


class Timed:
    """A library in the page whose dispatches are timed."""

    def __init__(self, library: library_desk.Library) -> None:
        self.library = library
        self.page = library.page

    def step(self, tokens: Sequence[int]) -> list[dict[str, Any]]:
        """Append tokens and return the dispatches that took."""
        self.page.evaluate("window.dispatches()")
        self.library.forward(tokens)
        made: list[dict[str, Any]] = self.page.evaluate("window.dispatches()")
        return made


@contextlib.contextmanager
def timed(artifact: Path, library: str, chunk: int) -> Iterator[Timed]:
    """Load a built model's folder with one of its libraries in a browser of its own."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        model = Path(folder) / "model"
        model.mkdir()
        for file in artifact.iterdir():
            (model / ("library.wasm" if file.name == library else file.name)).symlink_to(file)
        browser = launch(driver, extra=FLAGS)
        with library_desk.desk(Path(folder), browser, script=SCRIPT) as page:
            yield Timed(library_desk.Library(page, "model", chunk))
        browser.close()
