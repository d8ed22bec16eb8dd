"""llama.cpp as an independent opinion: how it splits a text, what it would say next."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import xllamacpp

if TYPE_CHECKING:
    from pathlib import Path


class LlamaCpp:
    """A model run by llama.cpp in this process, asked over loopback."""

    def __init__(self, weights: Path, *, threads: int | None = None) -> None:
        chosen = xllamacpp.CommonParams()
        chosen.model.path = str(weights)
        chosen.n_ctx, chosen.n_parallel = 512, 1
        if threads:
            chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = threads
        chosen.hostnames, chosen.port = ["127.0.0.1"], 0
        chosen.warmup, chosen.ui, chosen.offline, chosen.verbosity = False, False, True, -1
        self._server = xllamacpp.Server(chosen)

    def tokens(self, text: str) -> list[int]:
        """Return a text's ids; marks in it count as marks."""
        found: list[int] = self._ask("/tokenize", {"content": text, "parse_special": True, "add_special": False})["tokens"]
        return found

    def next(self, tokens: list[int], count: int) -> list[tuple[int, float]]:
        """Return the likeliest next tokens and their log-probabilities."""
        wanted = {"prompt": tokens, "n_predict": 1, "n_probs": count, "temperature": 0, "cache_prompt": False}
        ranked = self._ask("/completion", wanted)["completion_probabilities"][0]["top_logprobs"]
        return [(item["id"], item["logprob"]) for item in ranked]

    def rates(self, text: str, count: int) -> tuple[float, float]:
        """Return tokens per second of reading `text` and of making `count` tokens after it: the best of three."""
        best = (0.0, 0.0)
        for turn in range(3):
            wanted = {
                "prompt": f"{turn}. {text}",
                "n_predict": count,
                "temperature": 0,
                "cache_prompt": False,
                "ignore_eos": True,
            }
            timings = self._ask("/completion", wanted)["timings"]
            best = max(best[0], timings["prompt_per_second"]), max(best[1], timings["predicted_per_second"])
        return best

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        address = self._server.listening_address + path
        request = urllib.request.Request(address, json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
