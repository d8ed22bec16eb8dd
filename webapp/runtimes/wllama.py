"""llama.cpp in WebAssembly (wllama) as the local runtime, for pages without WebGPU.

It lives in the same worker as WebLLM, behind the same operations (static/js/engine/wasm.js), and the engine reads from `load`
which of the two is meant. So all that `WebLLM` does about stops, deaths and errors holds here as it is.
"""

from __future__ import annotations

from hybr.webapp.runtimes.webllm import WebLLM


class Wllama(WebLLM):
    """The local runtime on the processor. Its models are the index's entries that have a `gguf`."""

    name = "wasm"
