"""Add per-sample scores to a trainer that you already have: a few keys and one callback.

The module below is written from scratch and knows nothing of assl_lightning. What it does for the callback is to return
`index`, `logits_weak` and `logits_strong` beside `loss`, detached; and, so that the picks cover the pool, the features
of both parts of the batch. Run it: python examples/add_to_your_trainer.py
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from assl_lightning import ASSLScoreCallback


class IndexedDigits(Dataset):
    """Your data set: what it must give beside the image is the sample's position in the pool."""

    def __init__(self) -> None:
        digits = load_digits()
        self.images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
        self.labels = torch.tensor(digits.target)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor]:
        return index, self.images[index], self.labels[index]


class YourFixMatch(LightningModule):
    """Your training, of labelled and unlabelled batches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(64 * 16, 10)

    def training_step(self, batch: dict[str, list[Tensor]], batch_idx: int) -> dict[str, Tensor]:
        labelled_index, labelled, label = batch["labelled"]
        index, image, _ = batch["unlabelled"]
        weak = image.roll(1, -1)
        strong = image.roll(-1, -2) + 0.3 * torch.randn_like(image)
        features = self.body(torch.cat([labelled, weak, strong]))
        sizes = [len(labelled), len(weak), len(strong)]
        logits_labelled, logits_weak, logits_strong = self.head(features).split(sizes)
        features_labelled, features_weak, _ = features.split(sizes)

        confidence, pseudo_label = logits_weak.detach().softmax(-1).max(-1)
        consistency = (confidence > 0.95) * F.cross_entropy(logits_strong, pseudo_label, reduction="none")
        return {
            "loss": F.cross_entropy(logits_labelled, label) + consistency.mean(),
            "index": index,
            "logits_weak": logits_weak.detach(),
            "logits_strong": logits_strong.detach(),
            "features_weak": features_weak.detach(),
            "labelled_index": labelled_index,
            "features_labelled": features_labelled.detach(),
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def make_loaders(pool: IndexedDigits, labelled: Tensor, unlabelled: Tensor) -> dict[str, DataLoader[Any]]:
    """Your loaders, each of its own part of the pool."""
    parts = {"labelled": (labelled, 32), "unlabelled": (unlabelled, 64)}
    return {
        name: DataLoader(Subset(pool, part.tolist()), batch_size=size, shuffle=True)
        for name, (part, size) in parts.items()
    }


def main() -> Tensor:
    torch.manual_seed(0)
    pool = IndexedDigits()
    labelled, unlabelled = torch.randperm(len(pool)).split([50, len(pool) - 50])
    scores = ASSLScoreCallback(num_samples=len(pool), keep_features=True)  # 1. numbers of each sample of the pool
    trainer = Trainer(max_epochs=3, callbacks=[scores], logger=False, enable_checkpointing=False)  # 2. in a list
    trainer.fit(YourFixMatch(), make_loaders(pool, labelled, unlabelled))

    visited = scores.statistics.visits > 0
    best = scores.scores().nan_to_num().max()
    print(f"{int(visited.sum())} of {len(pool)} samples were visited; the best score is {best:.3f}")
    to_label = scores.query(10, candidates=unlabelled, labelled=labelled)  # 3. no pass over the pool
    print(f"label these next: {to_label.tolist()}")
    return to_label


if __name__ == "__main__":
    main()
