"""WebLLM and its tvmjs on a WebGPU device that no browser here has: a real GPU's, or Mesa's lavapipe, which has shader-f16.

Node runs `library_desk`'s script on Dawn (npm `webgpu`), over the Vulkan driver that `lavapipe` put into the cache, or another
that VK_DRIVER_FILES names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lavapipe
import library_desk
import numpy as np
import numpy.typing as npt

from hybr.mlc_build import validate

if TYPE_CHECKING:
    from collections.abc import Iterator

F32 = npt.NDArray[np.float32]


class Dawn:
    """A process with a device: what `library_desk.Library` is in a page. `features` is empty where there is no device."""

    def __init__(self, process: subprocess.Popen[str], told: Path, chunk: int) -> None:
        self.process, self.told, self.chunk = process, told, chunk
        self.features: list[str] = self._read() or []

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        made: dict[str, Any] = json.loads(line or json.dumps({"error": self.told.read_text()[-2000:] or "the process ended"}))
        if "error" in made:
            raise RuntimeError(made["error"])
        return made["made"]

    def call(self, name: str, *args: Any) -> Any:
        """Call one of the script's functions."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"call": name, "args": args}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def load(self, name: str, **record: Any) -> None:
        """Load a model; `record` is what else WebLLM's AppConfig says of it."""
        self.call("load", name, {}, record)

    def reset(self) -> None:
        """Start anew."""
        self.call("reset")

    def pop(self, count: int) -> None:
        """Forget the last tokens."""
        self.call("pop", count)

    def forward(self, tokens: list[int], chunk: int | None = None) -> F32:
        """Append tokens, in chunks, and return the last logits."""
        return np.array(self.call("forward", tokens, chunk or self.chunk), np.float32)


@contextlib.contextmanager
def dawn(models: Path, chunk: int) -> Iterator[Dawn]:
    """Start the process; every folder of `models` is served to it."""
    script = re.search(rb'<script type="module">(.*)</script>', library_desk.HTML, re.DOTALL)
    assert script is not None
    (models / "script.js").write_bytes(script[1])
    (models / "web-llm.mjs").write_bytes((library_desk.VENDOR / "index.js").read_bytes())
    told, here = models / "told.txt", Path(__file__).with_suffix(".mjs")
    with library_desk.serve(models) as origin, told.open("w") as errors:
        command = ["node", here, models / "web-llm.mjs", validate.validator()[0], origin, models / "script.js"]
        with subprocess.Popen(
            list(map(str, command)),
            env=os.environ | lavapipe.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            try:
                yield Dawn(process, told, chunk)
            finally:
                process.kill()
