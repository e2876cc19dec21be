"""The whole loop from Python, without Hydra: factories in, records out. Run it: python examples/rounds_from_python.py

It ends in `runs/from_python`; the same command again finds the finished run and only prints it.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from assl_lightning import ASSL, FixMatch, HeldBackLabels, Pool, PoolDataModule, RoundSettings, run_rounds
from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.data import load_digits
from assl_lightning.networks import SmallCNN


def main(run_dir: Path = Path("runs/from_python"), steps_per_round: int = 100) -> None:
    digits = load_digits()
    pool = Pool(len(digits.pool_images), num_classes=10, sample_ids=digits.sample_ids)
    weak = WeakAugment(flip=False)
    datamodule = PoolDataModule(
        pool,
        pool_images=digits.pool_images,
        test_images=digits.test_images,
        test_labels=digits.test_labels,
        normalise=Normalise(mean=(0.3,), std=(0.34,)),
        weak=weak,
        strong=StrongAugment(weak=weak),
        batch_size=16,
        mu=7,
    )
    optimizer = functools.partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True)
    records = run_rounds(
        pool=pool,
        datamodule=datamodule,
        make_network=lambda: SmallCNN(num_classes=10, channels=1, width=16),
        make_algorithm=lambda network: FixMatch(network, optimizer=optimizer),
        make_trainer=functools.partial(Trainer, accelerator="cpu"),
        acquisition=ASSL(c_u=0.5, c_i=2.0),
        oracle=HeldBackLabels(digits.hidden_labels),
        settings=RoundSettings(
            rounds=2, initial_labels=20, labels_per_round=20, steps_per_round=steps_per_round, weight_ema=0.95
        ),
        run_dir=run_dir,
    )
    for record in records:
        print(f"round {record.round}: {record.labels} labels, test accuracy {record.test_accuracy_ema:.3f} (EMA)")


if __name__ == "__main__":
    main()
