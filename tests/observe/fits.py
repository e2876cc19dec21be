"""Small trainers for the tests of the makers: a network with batch norms and dropout, and a quiet trainer."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from assl_lightning import ASSLScoreCallback, SampleStatistics

N, C = 24, 4


class Network(nn.Module):
    """(B, 3, 4, 4) → (B, C), with all that a careless pass would move."""

    def __init__(self, classes: int = C) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3))
        self.fc = nn.Linear(6, classes)
        self.register_buffer("calls", torch.zeros(()))

    calls: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # a buffer that moves in evaluation mode, too
        logits: Tensor = self.fc(self.body(x).mean((-1, -2)))
        return logits


class Module(LightningModule):
    """A module that returns its loss alone; subclasses have the steps of public trainers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = Network()
        self.seen: dict[str, list[Tensor]] = {"index": [], "weak": [], "strong": []}

    def note(self, **rows: Tensor) -> None:
        for name, values in rows.items():
            self.seen[name].append(values.detach().clone().double())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return nn.functional.cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def images() -> Tensor:
    return torch.randn(N, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def labels() -> Tensor:
    return torch.arange(N) % C


def pool() -> TensorDataset:
    return TensorDataset(images(), labels())


class Pairs(Dataset[Any]):
    """Two views and a label of each sample, as many data sets of semi-supervised trainers give them."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        x = images()[i]
        return (x, x.roll(1, -1) + 0.3), int(labels()[i])


def fit(module: LightningModule, data: Any, *callbacks: Any, validation: Any = None, **settings: Any) -> Trainer:
    seed(3)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"max_epochs": 2} | settings),
    )
    if isinstance(data, LightningDataModule):
        trainer.fit(module, datamodule=data)
    else:
        trainer.fit(module, data, validation)
    return trainer


def seed(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def state_of(module: nn.Module) -> dict[str, Any]:
    """All that a training leaves: weights, buffers, modes and generators."""
    kept: dict[str, Any] = {name: value.clone() for name, value in module.state_dict().items()}
    kept["modes"] = [part.training for part in module.modules()]
    of_numpy = np.random.get_state(legacy=False)["state"]
    kept["torch"], kept["python"], kept["numpy"] = (
        torch.get_rng_state(),
        random.getstate(),
        np.append(of_numpy["key"], of_numpy["pos"]),
    )
    return kept


def assert_same_state(state: dict[str, Any], other: dict[str, Any]) -> None:
    assert state.keys() == other.keys()
    for name, value in state.items():
        same = torch.equal(value, other[name]) if isinstance(value, Tensor) else np.array_equal(value, other[name])
        assert same if name != "python" else value == other[name], name


def reference(module: Module, alpha: float = 0.8, c_u: float = 0.5, c_i: float = 2.0) -> Tensor:
    """Eq. 6 of what a module noted, in float64 and one sample after another, from the definitions; NaN if unseen."""
    mean, variance = torch.zeros(N, 2, dtype=torch.float64), torch.zeros(N, 2, dtype=torch.float64)
    visited = torch.zeros(N, dtype=torch.bool)
    for index, weak, strong in zip(*(module.seen[name] for name in ("index", "weak", "strong")), strict=True):
        for i, z, other in zip(index.long().tolist(), weak, strong, strict=True):
            x = torch.stack([el2n(z), symmetric_kl(z, other)])
            mean[i] = alpha * x + (1 - alpha) * mean[i]
            variance[i] = alpha * (x - mean[i]) ** 2 + (1 - alpha) * variance[i]
            visited[i] = True
    bound = mean + torch.tensor([c_u, c_i], dtype=torch.float64) * variance.sqrt()
    return torch.where(visited, bound.prod(1), torch.nan)


def el2n(z: Tensor) -> Tensor:
    p = z.double().softmax(0)
    distance: Tensor = (p - nn.functional.one_hot(p.argmax(), len(p))).norm()
    return distance


def symmetric_kl(z: Tensor, other: Tensor) -> Tensor:
    p, q = z.double().softmax(0), other.double().softmax(0)
    distance: Tensor = ((p - q) * (p / q).log()).sum() / 2
    return distance


def assert_reference(callback: ASSLScoreCallback, module: Module) -> None:
    """The scores are those of the definitions, and so are the picks."""
    expected = reference(module)
    torch.testing.assert_close(callback.scores().double(), expected, rtol=2e-5, atol=2e-7, equal_nan=True)
    order = sorted((i for i in range(N) if not expected[i].isnan()), key=lambda i: -float(expected[i]))
    assert callback.query(6).tolist() == order[:6]


def table_of(callback: ASSLScoreCallback) -> SampleStatistics:
    return callback.statistics
