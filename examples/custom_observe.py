"""Score samples of a module whose training step cannot be changed, with an `observe` function.

`observe(outputs, batch, module)` is called after every training batch with what the hook `on_train_batch_end` gets. It
returns an `Observation` (one uncertainty and one inconsistency for each index) or None to skip the batch. Whatever the
task, it is reduced to one number per sample there. Run it: python examples/custom_observe.py
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from assl_lightning import ASSLScoreCallback, Observation, scores


class Untouchable(LightningModule):
    """Somebody else's module: it returns a loss and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.network(batch["image"]), batch["label"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def observe(outputs: Any, batch: dict[str, Tensor], module: LightningModule) -> Observation | None:
    """Two small forward passes of our own, since the step keeps its logits to itself; every other batch will do."""
    if module.global_step % 2:
        return None
    image = batch["image"]
    logits = module.network(image)
    logits_moved = module.network(image.roll(1, -1))
    return Observation(batch["id"], scores.entropy(logits), scores.symmetric_kl(logits, logits_moved))


def collate(rows: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
    index, image, label = (torch.stack(column) for column in zip(*rows, strict=True))
    return {"id": index, "image": image, "label": label}


def main() -> Tensor:
    torch.manual_seed(0)
    digits = load_digits()
    image = torch.tensor(digits.images, dtype=torch.float32) / 16
    pool = TensorDataset(torch.arange(len(image)), image, torch.tensor(digits.target))
    callback = ASSLScoreCallback(num_samples=len(pool), observe=observe)
    trainer = Trainer(max_epochs=4, callbacks=[callback], logger=False, enable_checkpointing=False)
    trainer.fit(Untouchable(), DataLoader(pool, batch_size=64, shuffle=True, collate_fn=collate))

    visits = callback.statistics.visits
    print(f"visits: {int(visits.min())} to {int(visits.max())} a sample")
    to_label = callback.query(10)
    print(f"label these next: {to_label.tolist()}")
    return to_label


if __name__ == "__main__":
    main()
