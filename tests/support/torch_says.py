"""`python torch_says.py FOLDER...`: what transformers makes of checkpoints, in float32 and its own code.

Runs in an environment that has torch and transformers (`parity.interpreter` makes it), and knows nothing of ours. A FOLDER is a
checkpoint in Hugging Face's layout with asked.json beside it, `{"sequences": lists of tokens, "positions": for each the places
whose logits are wanted}`. It gets logits-N.npy for the Nth sequence, and said.json: for each sequence how far each next token's
logit lies under the largest one ("behind"), and at each place how far the second largest does ("gaps").
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def read(folder: Path) -> None:
    """Load, compute, write."""
    import torch
    from transformers import AutoModelForCausalLM

    asked = json.loads((folder / "asked.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    if model.num_parameters() < 1e6:  # threads would wait for each other longer than they work
        torch.set_num_threads(1)
    behind, gaps = [], []
    for number, (tokens, kept) in enumerate(zip(asked["sequences"], asked["positions"], strict=True)):
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0]
        first, second = logits.topk(2).values.unbind(1)
        chosen = logits[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
        behind.append((first[:-1] - chosen).tolist())
        gaps.append((first - second).tolist())
        np.save(folder / f"logits-{number}.npy", logits[kept].numpy())
    (folder / "said.json").write_text(json.dumps({"behind": behind, "gaps": gaps}))


for place in sys.argv[1:]:
    read(Path(place))
