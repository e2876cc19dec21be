"""A pass that two processes share: python shared_pass.py DIRECTORY RANK. Each writes what it saw to rank_N.pt."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from assl_lightning.base.interruption import OtherRankError
from assl_lightning.base.processes import ranks
from assl_lightning.learning.inference import evaluate
from assl_lightning.networks.small import SmallCNN

IMAGES = torch.randn(11, 1, 8, 8, generator=torch.Generator().manual_seed(0))
IMAGES[10] = IMAGES[1]  # an equal pair, in parts of different ranks
BATCH_SIZES = (2, 3, 6, 100)  # six parts, four, one for each rank, one for both


def make_network() -> SmallCNN:
    torch.manual_seed(0)
    return SmallCNN(3, width=4)


def run(directory: Path) -> None:
    """As many passes as there are sizes, and one in which the second process fails."""
    seen: list[int] = []

    def view(index: Tensor) -> Tensor:
        seen.extend(index.tolist())
        return IMAGES[index]

    found = {}
    for batch_size in BATCH_SIZES:
        seen.clear()
        logits, features = evaluate(make_network(), view, torch.arange(11), batch_size=batch_size, is_shared=True)
        found[batch_size] = {"logits": logits, "features": features, "seen": torch.tensor(seen)}
    torch.save(found, directory / f"rank_{ranks()[1]}.pt")

    def fails_at_three(index: Tensor) -> Tensor:
        if 3 in index:
            raise OSError("s3://bucket/3.png cannot be read")
        return view(index)

    try:
        evaluate(make_network(), fails_at_three, torch.arange(11), batch_size=2, is_shared=True)
    except (ValueError, OSError, OtherRankError) as error:
        (directory / f"error_{ranks()[1]}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    place, rank = Path(sys.argv[1]), int(sys.argv[2])
    torch.distributed.init_process_group("gloo", init_method=f"file://{place}/meeting", rank=rank, world_size=2)
    run(place)
    os._exit(0)  # torch 2.6 may wait for ever in destroy_process_group after a gather of objects over gloo
