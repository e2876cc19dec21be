"""A training on pairs of views, as one process or as several: python tests/learning/pairs_run.py OUTPUT DEVICES."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from assl_lightning.data.pool import Pool
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.view_pairs import ViewPairDataModule
from tests.learning.contract import make_network
from tests.stripes import CLASSES, POOL_SIZE, SGD, make_datamodule

STEPS, BATCH_SIZE = 6, 8


def make_data(module: SimCLR) -> ViewPairDataModule:
    """Pairs of views of every second stripe."""
    data = make_datamodule(Pool(POOL_SIZE, CLASSES), seed=1)
    index = torch.arange(0, POOL_SIZE, 2)
    return ViewPairDataModule(data, index, steps=module.steps, batch_size=module.batch_size)


def main(output: Path, devices: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    module = SimCLR(make_network(), optimizer=SGD, steps=STEPS, batch_size=BATCH_SIZE)
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=make_data(module))
    assert trainer.global_step == STEPS
    if module.global_rank == 0:
        torch.save(module.state_dict(), output / f"{devices}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
