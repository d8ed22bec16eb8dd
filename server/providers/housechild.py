"""llama.cpp in a process of its own: a crash there is a restart, not the end of the server.

Started by `hybr.server.providers.llama`, which gives the task as one JSON argument, and told the news by JSON lines: any
number of `{"progress": text}`, one of them with `"state": "loading"` once the weights are here, then `{"address", "key"}` when
it serves, or `{"error", "remedy"}` and the end. The key is made here and goes through the pipe only: other programs of this
machine can reach the port but not use it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def main() -> None:
    """Fetch the weights if need be, load them, serve until killed."""
    task: dict[str, Any] = json.loads(sys.argv[1])
    tell = mouth()
    try:
        server, key = serve(task, tell)
    except Exception as error:  # noqa: BLE001  whatever it was, the server must be able to say it
        tell({"error": str(getattr(error, "message", error)), "remedy": getattr(error, "remedy", None)})
        sys.exit(1)
    tell({"address": server.listening_address, "key": key})
    threading.Event().wait()


def mouth() -> Any:
    """Return a function that sends one JSON line to the server; whatever the libraries print goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(news: dict[str, Any]) -> None:
        pipe.write(json.dumps(news) + "\n")
        pipe.flush()

    return tell


def serve(task: dict[str, Any], tell: Any) -> tuple[Any, str]:
    """Return the running llama.cpp server and its key."""
    weights = task.get("weights") or fetch(task["id"], tell)
    tell({"state": "loading", "progress": "loading"})
    import xllamacpp

    key = secrets.token_urlsafe(24)
    return xllamacpp.Server(parameters(xllamacpp.CommonParams(), task, str(weights), key)), key


def fetch(model: str, tell: Any) -> Path:
    """Return the path of the model's GGUF, downloading it when it is not there."""
    from hybr.mlc_build import sources

    shares = set()

    def progress(done: int, total: int) -> None:
        share = 100 * done // max(total, 1)
        if share not in shares:  # pip is watched twice a second, and nobody reads that fast
            shares.add(share)
            tell({"progress": f"fetching the weights: {done >> 20} of {total >> 20} MB"})

    return sources.fetch(model, progress)


def parameters(chosen: Any, task: dict[str, Any], weights: str, key: str) -> Any:
    """Fill in llama.cpp's parameters; the comments say where we differ from its defaults and why."""
    chosen.model.path = weights
    chosen.model_alias = {task["id"]}  # otherwise answers name the file's path
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = 0
    chosen.api_keys = [key]
    chosen.n_parallel = task["slots"]
    chosen.n_ctx = task["context"] * task["slots"]  # llama.cpp divides the window among the slots
    chosen.n_batch = 128  # between batches it hears new requests; 2048 would make them wait for a whole prompt
    chosen.use_jinja = True
    chosen.chat_template = task["template"]  # ours, not the checkpoint's: that one adds a system turn
    chosen.cache_ram_mib = 0  # default 8 GiB of other conversations' prompts
    chosen.warmup = False  # 0.1 s of every start; the first request pays 5 ms
    # Half the cores: the page's own model works beside us, and threads that wait for each other at every layer while others
    # hold the cores are ten times slower than one alone (measured on two busy cores: 50 tokens/s with one thread, 4 with two).
    for pool in (chosen.cpuparams, chosen.cpuparams_batch):
        pool.n_threads = max(1, (os.cpu_count() or 1) // 2)
        pool.poll = 0  # the default spins between requests
    chosen.ui = False
    chosen.cors_origins = ""
    chosen.endpoint_slots = True  # whether it still works for somebody who left; behind the key like the rest
    chosen.offline = True
    chosen.verbosity = -1
    return chosen


if __name__ == "__main__":
    main()
