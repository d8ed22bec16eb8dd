"""What transformers says, for tests to compare with: asked now, or written down once for machines that have no torch.

`python tests/support/parity.py` writes it down for the small checkpoints of `families.py`, after a change there. The weights it
is given are those that a library computes with, quantised and back: a difference is a fault of ours, never of rounding them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybr.mlc_build.model.config import ModelConfig
    from hybr.mlc_build.reference import Reference

F32 = npt.NDArray[np.float32]
TORCH, TRANSFORMERS = "2.13.0", "5.23.0"
KEPT = HERE.parent / "unit" / "mlc_build" / "transformers.json"
PROMPT = [int(i) for i in np.random.Generator(np.random.PCG64(62)).integers(4, 260, 150)]
"""Past longrope's and Llama 3's original window of 64."""
SHARE = 16
"""Of a row of logits every sixteenth is written down, of the next row their neighbours: all are, in sixteen rows."""
PROMPTS, COUNT = 20, 64
NEAR = 1e-3
"""Two logits this close may change places between two ways to sum: prompts whose answers come as close are not asked."""
FORM = "q4e8f32_1"


@dataclass(frozen=True)
class Said:
    """What transformers said: see torch_says.py. `logits` has one array a sequence, a row for each position asked for."""

    logits: list[F32]
    behind: list[list[float]]
    gaps: list[list[float]]


def interpreter() -> Path:
    """Return a Python that has torch and transformers: an environment of its own in the cache, outside our lock, made once."""
    from hybr.server.paths import home

    place = home() / "bench" / f"torch-{TORCH}"
    if not (place / "whole").exists():
        wanted = [f"torch=={TORCH}", f"transformers=={TRANSFORMERS}"]
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(place)],
            [str(place / "bin/python"), "-m", "pip", "install", "-q", *wanted],
        ):
            subprocess.run(command, check=True)
        (place / "whole").touch()
    return place / "bin/python"


def put(folder: Path, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]]) -> None:
    """Write the question beside a checkpoint."""
    (folder / "asked.json").write_text(json.dumps({"sequences": sequences, "positions": positions}))


def ask(*folders: Path) -> list[Said]:
    """Let transformers read the checkpoints, each with its question."""
    subprocess.run([str(interpreter()), str(HERE / "torch_says.py"), *map(str, folders)], check=True)
    return [_said(folder) for folder in folders]


def _said(folder: Path) -> Said:
    told = json.loads((folder / "said.json").read_text())
    return Said([np.load(folder / f"logits-{number}.npy") for number in range(len(told["gaps"]))], **told)


def write(folder: Path, told: dict[str, Any], config: ModelConfig, weights: dict[str, F32]) -> None:
    """Write a checkpoint of a library's own weights, dequantised, under transformers' names; `told` is its config.json."""
    from families import write_safetensors

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(told))
    write_safetensors(folder / "model.safetensors", theirs(config, weights))


def theirs(config: ModelConfig, weights: dict[str, F32]) -> dict[str, F32]:
    """Return weights under transformers' names: stacked ones apart but for Phi-3, Gemma's normalisations less one."""
    found = {}
    cuts = [config.attention_size, config.attention_size + config.key_value_size]
    for name, array in weights.items():
        stem = name.rpartition(".")[0]
        if stem.endswith("qkv_proj") and config.family != "phi3":
            parts = zip("qkv", np.split(array, cuts), strict=True)
            found |= {name.replace("qkv_proj", f"{letter}_proj"): part for letter, part in parts}
        elif stem.endswith("gate_up_proj") and config.family != "phi3":
            halves = zip(("gate", "up"), np.split(array, 2), strict=True)
            found |= {name.replace("gate_up_proj", f"{word}_proj"): part for word, part in halves}
        else:
            found[name] = array - np.float32(1) if config.sandwich_norms and stem.endswith("norm") else array
    return found


def prompt(name: str, seed: int) -> list[int]:
    """Return a prompt for a family: from two tokens to more than a window or a chunk; for longrope, past its original window.

    Within that window transformers takes other divisors than past it; a library, like llama.cpp, has those of its context.
    """
    source = np.random.Generator(np.random.PCG64([63, seed]))
    least = 66 if name == "phi3-long" else 2
    return [int(i) for i in source.integers(4, 260, int(source.integers(least, least + 62)))]


def shares(rows: Sequence[F32]) -> list[list[float]]:
    """Return what is written down of rows of logits."""
    return [[round(float(x), 5) for x in row[number % SHARE :: SHARE]] for number, row in enumerate(rows)]


def off(told: dict[str, Any], logits: Sequence[Sequence[F32]]) -> float:
    """Return the largest difference of a walk's logits from those that were written down for it."""
    ours = shares([row for rows in logits for row in rows])
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(told["logits"], ours, strict=True))


def kept(name: str) -> dict[str, Any]:
    """Return what was written down for a family, with its prompts."""
    found: dict[str, Any] = json.loads(KEPT.read_text())[name]
    return {**found, "prompts": [prompt(name, seed) for seed in found["seeds"]]}


def small(name: str, folder: Path) -> Reference:
    """Write a family's small checkpoint, quantised and back, for transformers; return our reference on the same weights."""
    import families

    from hybr.mlc_build import huggingface
    from hybr.mlc_build.quantise import quantise
    from hybr.mlc_build.reference import Reference, dequantised

    families.write_folder(folder / "source", name)
    opened = huggingface.open_folder(folder / "source", families.ENTRY)
    weights = dequantised({p.name: p.array for p in quantise(opened.tensors, opened.config, FORM)})
    write(folder, families.told(name), opened.config, weights)
    return Reference(opened.config, weights)


def clear(said: Said, asked: list[list[int]], answers: list[list[int]]) -> list[int]:
    """Return the prompts whose answers are transformers' own choice at every token, no second choice near, and varied."""
    found = []
    for number, (given, answer) in enumerate(zip(asked, answers, strict=True)):
        at = slice(len(given) - 1, len(given) + len(answer) - 1)
        own = max(said.behind[number + 2][at]) == 0 and min(said.gaps[number + 2][at]) > 2 * NEAR
        found += [number] if own and len(set(answer)) > 5 else []
    return found


def main() -> None:
    """Write down logits along the walk, the likeliest token at every place of a whole context, and greedy answers.

    The steps of the walk are our reference's greedy tokens. Its answers are taken where transformers, reading them, makes the
    same choice at every token.
    """
    import families
    from walk import Last, walk

    found = {}
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in families.CONFIGS]
        prompts = [[prompt(name, seed) for seed in range(50)] for name in families.CONFIGS]
        answers, walks = [], []
        for folder, asked in zip(folders, prompts, strict=True):
            reference = small(folder.name, folder)
            answers.append([reference.greedy(one, COUNT) for one in asked])
            walks.append(walk(Last(reference), PROMPT, families.ENTRY.context))
            both = [one + answer for one, answer in zip(asked, answers[-1], strict=True)]
            first, second = walks[-1].sequences
            put(folder, [first, second, *both], [walks[-1].positions[0], list(range(len(second))), *[[0]] * len(both)])
        for folder, said, asked, given, taken in zip(folders, ask(*folders), prompts, answers, walks, strict=True):
            seeds = clear(said, asked, given)[:PROMPTS]
            told = {
                "steps": taken.sequences[0][len(PROMPT) :],
                "logits": shares([*said.logits[0], *said.logits[1][taken.positions[1]]]),
                "likeliest": [int(i) for i in said.logits[1].argmax(1)],
                "seeds": seeds,
                "answers": [given[seed] for seed in seeds],
            }
            found[folder.name] = told
            print(f"{folder.name}: {len(seeds)} clear answers of {len({t for seed in seeds for t in given[seed]})} tokens")
    if any(len(told["seeds"]) < PROMPTS for told in found.values()):
        raise SystemExit("too few answers are clear; raise the number of seeds")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(told, separators=(',', ':'))}" for name, told in found.items())
    KEPT.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
