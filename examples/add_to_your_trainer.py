"""Add per-sample scores to a trainer that you already have: three keys and one callback.

The module below is written from scratch and knows nothing of assl_lightning. What it does for the callback is to return
`index`, `logits_weak` and `logits_strong` beside `loss`, detached. Run it: python examples/add_to_your_trainer.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

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
    """Your training: half of each batch plays the labelled part here, to keep the example short."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10)
        )

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        index, image, label = batch
        labelled, unlabelled = image[:32], image[32:]
        weak = unlabelled.roll(1, -1)
        strong = unlabelled.roll(-1, -2) + 0.3 * torch.randn_like(unlabelled)
        logits = self.network(torch.cat([labelled, weak, strong]))
        logits_labelled, logits_weak, logits_strong = logits.split([len(labelled), len(weak), len(strong)])

        confidence, pseudo_label = logits_weak.detach().softmax(-1).max(-1)
        consistency = (confidence > 0.95) * F.cross_entropy(logits_strong, pseudo_label, reduction="none")
        return {
            "loss": F.cross_entropy(logits_labelled, label[:32]) + consistency.mean(),
            "index": index[32:],
            "logits_weak": logits_weak.detach(),
            "logits_strong": logits_strong.detach(),
        }

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main() -> Tensor:
    torch.manual_seed(0)
    pool = IndexedDigits()
    scores = ASSLScoreCallback(num_samples=len(pool))  # 1. one number per sample of the pool
    trainer = Trainer(max_epochs=3, callbacks=[scores], logger=False, enable_checkpointing=False)  # 2. in a list
    trainer.fit(YourFixMatch(), DataLoader(pool, batch_size=96, shuffle=True, drop_last=True))

    visited = scores.statistics.visits > 0
    best = scores.scores().nan_to_num().max()
    print(f"{int(visited.sum())} of {len(pool)} samples were visited; the best score is {best:.3f}")
    to_label = scores.query(10)  # 3. one top-k, no pass over the pool
    print(f"label these next: {to_label.tolist()}")
    return to_label


if __name__ == "__main__":
    main()
