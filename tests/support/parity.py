"""`python tests/support/parity.py`: transformers' logits for the small checkpoints of `families.py`, as the tests compare with.

Needs torch and transformers (2.13 and 5.x made these numbers), which nothing else here does: run it in an environment that has
them beside this project, after a change of `families.py`, and keep what it writes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

KEPT = HERE.parent / "unit" / "mlc_build" / "transformers.json"
PROMPT = [int(i) for i in np.random.Generator(np.random.PCG64(62)).integers(4, 260, 150)]
"""Past longrope's and Llama 3's original window of 64."""
POSITIONS = (0, 40, 100, 149)
TOKENS = slice(4, 260, 8)


def main() -> None:
    """Write the logits at some positions for every eighth token, and the likeliest token at every position."""
    import families
    import torch
    from transformers import AutoModelForCausalLM

    found = {}
    for name in families.CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            families.write_folder(Path(folder), name)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
            with torch.no_grad():
                logits = model(torch.tensor([PROMPT])).logits[0].numpy()
        found[name] = {
            "logits": [[round(float(x), 6) for x in logits[at, TOKENS]] for at in POSITIONS],
            "likeliest": [int(i) for i in logits.argmax(1)],
        }
    KEPT.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
