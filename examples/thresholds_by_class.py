"""FlexMatch-like training of your own, with a lower threshold for classes that are learned later, under one callback.

The module below is written from scratch, keeps its own counts of what it has learned of each class, and knows nothing
of assl_lightning. What the callback needs is `index`, `logits_weak` and `logits_strong` beside `loss`, detached.
Run it: python examples/thresholds_by_class.py
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from assl_lightning import ASSLScoreCallback

CLASSES, LOWEST, HIGHEST = 10, 0.7, 0.95


class ThresholdsByClass(LightningModule):
    """Counts the samples that were last taken for each class with confidence; a rarely learned one asks for less."""

    taken_for: Tensor  # (N,) the class of each sample's last confident prediction; −1 without one; in checkpoints

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(64 * 16, CLASSES)),
        )
        self.register_buffer("taken_for", torch.full((num_samples,), -1))

    def thresholds(self) -> Tensor:
        """The classes' thresholds (C,): the highest for the class that is learned best."""
        of_class = torch.zeros(CLASSES + 1, device=self.device)
        of_class.scatter_add_(0, self.taken_for + 1, torch.ones_like(self.taken_for, dtype=torch.float32))
        learned = of_class[1:] / of_class[1:].max().clamp_min(1)
        return LOWEST + (HIGHEST - LOWEST) * learned

    def training_step(self, batch: dict[str, list[Tensor]], batch_idx: int) -> dict[str, Tensor]:
        labelled, label = batch["labelled"][1:]
        index, image, _ = batch["unlabelled"]
        weak = image + 0.1 * torch.randn_like(image)
        strong = image.roll(-1, -2) + 0.3 * torch.randn_like(image)
        logits = self.network(torch.cat([labelled, weak, strong]))
        of_labelled, of_weak, of_strong = logits.split([len(labelled), len(weak), len(strong)])

        confidence, taken_for = of_weak.detach().softmax(-1).max(-1)
        counts = confidence >= self.thresholds()[taken_for]
        consistency = counts * F.cross_entropy(of_strong, taken_for, reduction="none")
        self.taken_for[index] = torch.where(confidence >= HIGHEST, taken_for, self.taken_for[index])
        return {
            "loss": F.cross_entropy(of_labelled, label) + consistency.mean(),
            "index": index,
            "logits_weak": of_weak.detach(),
            "logits_strong": of_strong.detach(),
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main() -> Tensor:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    pool = TensorDataset(torch.arange(len(images)), images, torch.tensor(digits.target))  # index, image, label
    labelled, unlabelled = torch.randperm(len(pool)).split([50, len(pool) - 50])
    parts = {"labelled": (labelled, 32), "unlabelled": (unlabelled, 64)}
    loaders: dict[str, DataLoader[Any]] = {
        name: DataLoader(Subset(pool, part.tolist()), batch_size=size, shuffle=True)
        for name, (part, size) in parts.items()
    }
    module, scores = ThresholdsByClass(len(pool)), ASSLScoreCallback(num_samples=len(pool))
    trainer = Trainer(max_epochs=5, callbacks=[scores], logger=False, enable_checkpointing=False)
    trainer.fit(module, loaders)

    print(f"thresholds of the classes: {[round(value, 2) for value in module.thresholds().tolist()]}")
    to_label = scores.query(10, candidates=unlabelled)
    print(f"label these next: {to_label.tolist()}")
    return to_label


if __name__ == "__main__":
    main()
