"""Score samples of a module whose training step cannot be changed, with an `observe` function of your own.

`observe(outputs, batch, module)` is called after every training batch with what the hook `on_train_batch_end` gets, and
with the samples' `index` if it has such a parameter. It returns an `Observation` (one uncertainty and one inconsistency
for each index) or None to skip the batch. Whatever the task, it is reduced to one number per sample there.

The function runs in evaluation mode, without gradients and with random numbers of its own; modes, buffers and
generators are put back: the training is the same with and without it. For most trainers a maker of
`assl_lightning.observe` does this in a line (docs/your_trainer.md): here `observe.second_view("network", every=2)`
would do. Run it: python examples/custom_observe.py
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from assl_lightning import ASSLScoreCallback, IndexedDataset, Observation, scores


class Untouchable(LightningModule):
    """Somebody else's module: it returns a loss and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)]
        self.network = nn.Sequential(*layers)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        image, label = batch
        return nn.functional.cross_entropy(self.network(image), label)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def observe(outputs: Any, batch: list[Tensor], module: LightningModule, index: Tensor) -> Observation | None:
    """Two small forward passes of our own, since the step keeps its logits to itself; every other batch will do."""
    if module.global_step % 2:
        return None
    image, _ = batch
    logits = module.network(image)
    logits_moved = module.network(image.roll(1, -1))
    return Observation(index, scores.entropy(logits), scores.symmetric_kl(logits, logits_moved))


def main() -> Tensor:
    torch.manual_seed(0)
    digits = load_digits()
    image = torch.tensor(digits.images, dtype=torch.float32) / 16
    pool = IndexedDataset(TensorDataset(image, torch.tensor(digits.target)))
    callback = ASSLScoreCallback(num_samples=len(pool), observe=observe)
    trainer = Trainer(max_epochs=4, callbacks=[callback], logger=False, enable_checkpointing=False)
    trainer.fit(Untouchable(), DataLoader(pool, batch_size=64, shuffle=True))

    visits = callback.statistics.visits
    print(f"visits: {int(visits.min())} to {int(visits.max())} a sample")
    to_label = callback.query(10)
    print(f"label these next: {to_label.tolist()}")
    return to_label


if __name__ == "__main__":
    main()
