"""Label the images whose loss a second head predicts to be the largest, without a pass over the pool.

Yoo and Kweon 2019, "Learning Loss for Active Learning": beside the classes, the network learns to predict its own loss
on an image, from the features of several layers. Only the order of two labelled images' losses is learned, since losses
shrink while training goes on. Here the unlabelled images are in each batch anyway (a small FixMatch), so that the
callback can keep their predicted losses as it keeps other uncertainties: as a moving mean and variance.
The labels of the pool are used at the end alone, to see whether the picks have larger losses than random ones.
Run it: python examples/learning_loss.py
"""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from scipy.stats import t as student
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from assl_lightning import ASSLScoreCallback, IndexedDataset, Observation

CLASSES, CONFIDENT = 10, 0.95
STOP_AFTER = 0.6  # of the epochs (the paper: 120 of 200); from then on the second head changes its own weights alone


def ranking_loss(predicted: Tensor, true: Tensor, margin: float = 1.0) -> Tensor:
    """Return the mean of max(0, margin − sign · (predicted_i − predicted_j)) over pairs i, j of labelled images.

    The sign is 1 where the true loss of i is the larger one, else −1. Row i of the first half and row i of the second
    are a pair; the last of an odd number of rows is in none. `predicted` and `true` are (B,), `true` without gradient.
    """
    pairs = len(true) // 2
    difference = predicted[:pairs] - predicted[pairs : 2 * pairs]
    sign = torch.where(true[:pairs] > true[pairs : 2 * pairs], 1.0, -1.0)
    return (margin - sign * difference).clamp_min(0).mean()


class LearningLoss(LightningModule):
    """A small FixMatch whose network has a second head, for its own loss."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.ReLU())

        self.layers = nn.ModuleList([layer(1, 16, 1), layer(16, 32, 2), layer(32, 32, 2)])  # 8, 4 and 2 pixels wide
        self.classes = nn.Linear(32 * 4, CLASSES)
        self.of_layers = nn.ModuleList([nn.Sequential(nn.Linear(width, 16), nn.ReLU()) for width in (16, 32, 32)])
        self.predicted_loss = nn.Linear(3 * 16, 1)

    def forward(self, images: Tensor, is_late: bool = False) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and predicted losses (B,) of any sign, of which only the order has a meaning."""
        features = images
        seen = []
        for layer, of_layer in zip(self.layers, self.of_layers, strict=True):
            features = layer(features)
            pooled = features.mean((2, 3))  # (B, channels)
            seen.append(of_layer(pooled.detach() if is_late else pooled))
        return self.classes(features.flatten(1)), self.predicted_loss(torch.cat(seen, dim=1))[:, 0]

    def training_step(self, batch: dict[str, list[Tensor]], batch_idx: int) -> dict[str, Tensor]:
        (labelled, label), (image, _) = batch["labelled"], batch["unlabelled"]
        labelled = labelled + 0.1 * torch.randn_like(labelled)
        weak = image + 0.1 * torch.randn_like(image)
        strong = image.roll(-1, -2) + 0.3 * torch.randn_like(image)
        is_late = self.current_epoch >= STOP_AFTER * (self.trainer.max_epochs or 0)
        logits, predicted = self(torch.cat([labelled, weak, strong]), is_late)
        parts = [len(labelled), len(weak), len(strong)]
        (of_labelled, of_weak, of_strong), (ranked, predicted_weak, _) = logits.split(parts), predicted.split(parts)

        loss = F.cross_entropy(of_labelled, label, reduction="none")
        confidence, pseudo_label = of_weak.detach().softmax(-1).max(-1)
        consistency = (confidence >= CONFIDENT) * F.cross_entropy(of_strong, pseudo_label, reduction="none")
        return {
            "loss": loss.mean() + consistency.mean() + ranking_loss(ranked, loss.detach()),
            "predicted_loss": predicted_weak.detach(),
            "logits_weak": of_weak.detach(),  # for the second callback, which keeps the paper's statistics
            "logits_strong": of_strong.detach(),
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def observe(outputs: Any, batch: Any, module: LightningModule, index: Tensor) -> Observation:
    """Give the predicted loss as the uncertainty; softplus keeps the order, and the table's means begin at 0."""
    return Observation(index, F.softplus(outputs["predicted_loss"]), inconsistency=None)


def one_seed(seed: int, epochs: int = 12, labels: int = 100, k: int = 50) -> dict[str, float]:
    """Train once; return how much larger the mean true loss of each kind of picks is than that of random ones."""
    torch.manual_seed(seed)
    digits = load_digits()
    images, truth = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    pool = IndexedDataset(TensorDataset(images, truth))
    labelled, unlabelled = torch.randperm(len(pool)).split([labels, len(pool) - labels])
    parts = {"labelled": (labelled, 32), "unlabelled": (unlabelled, 64)}
    loaders: dict[str, DataLoader[Any]] = {
        name: DataLoader(Subset(pool, part.tolist()), batch_size=size, shuffle=True)
        for name, (part, size) in parts.items()
    }
    of_loss = ASSLScoreCallback(observe=observe, name="predicted loss")
    of_paper = ASSLScoreCallback(name="uncertainty × inconsistency")
    module, quiet = LearningLoss(), {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=epochs, callbacks=[of_loss, of_paper], logger=False, enable_checkpointing=False, **quiet
    )
    trainer.fit(module, loaders)
    picks = {
        of_loss.name: of_loss.query(k, candidates=unlabelled, factors="uncertainty"),
        of_paper.name: of_paper.query(k, candidates=unlabelled),
    }

    module.cpu().eval()
    with torch.no_grad():
        loss = F.cross_entropy(module(images)[0], truth, reduction="none")
    random = float(loss[unlabelled].mean())  # of random picks, in the mean
    found = {name: float(loss[picked].mean()) for name, picked in picks.items()}
    print(f"seed {seed}: loss {random:.2f}; of those picked: {', '.join(f'{n} {v:.2f}' for n, v in found.items())}")
    return {name: value - random for name, value in found.items()}


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean of paired differences, and half of its 95 % interval (Student's t)."""
    deviation = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), float(student.ppf(0.975, len(values) - 1)) * deviation


def main(seeds: int = 10, **settings: int) -> dict[str, tuple[float, float]]:
    """Print how much larger the picks' loss is than that of random ones; return it by kind: mean and half interval."""
    gains = [one_seed(seed, **settings) for seed in range(seeds)]
    found = {name: interval([each[name] for each in gains]) for name in gains[0]}
    for name, (mean, half) in found.items():
        print(f"{name}: {mean:+.2f} ± {half:.2f} more loss than random picks ({seeds} seeds, 95 %)")
    return found


if __name__ == "__main__":
    main()
