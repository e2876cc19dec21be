"""Two ranks of which one observes nothing in some steps: no rank waits for ever, and no visit is lost."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from assl_lightning.method.gathering import RankGather
from tests.shell import run_python

SCRIPT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from lightning.pytorch import LightningModule, Trainer
from assl_lightning import ASSLScoreCallback, IndexedDataset, Observation, observe

SKIPS = {skips}  # rank → steps that it does not observe

class Rows(Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, i):
        return torch.tensor([float(i), 1.0])

class OfRank(torch.utils.data.Sampler):
    def __iter__(self):
        first = 12 * trainer.global_rank
        return iter([list(range(first + 3 * s, first + 3 * s + 3)) for s in range(4)])
    def __len__(self):
        return 4

class Plain(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(2, 3)
    def training_step(self, x, batch_idx):
        return self.model(x).square().mean() + self.model(x + 1).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

class Skipping(observe.forward):
    step = -1
    def observe(self, step):
        self.step += 1
        found = super().observe(step)
        return None if self.step in SKIPS[trainer.global_rank] else found

if __name__ == "__main__":
    further = ["forgetting", "mean_probabilities", "view_variance"]
    callback = ASSLScoreCallback(observe=Skipping("model", 0, 1, head="model"), further=further)
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, callbacks=[callback],
                      enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False)
    trainer.fit(Plain(), DataLoader(IndexedDataset(Rows()), batch_sampler=OfRank()))
    seen = int(callback.features.seen(torch.arange(24)).sum())
    with open(f"{{__file__}}.{{trainer.global_rank}}", "w") as out:
        print(callback.statistics.visits.tolist(), seen, callback.scores().nansum().item(), file=out)
        for name in further:
            print(callback.statistics.further[name].rows(slice(None)).tolist(), file=out)
"""


@pytest.mark.e2e
@pytest.mark.parametrize(
    "skips",
    [
        {0: [], 1: [1, 3]},
        pytest.param({0: [0, 1], 1: [0]}, marks=pytest.mark.slow),
        pytest.param({0: [0, 1, 2, 3], 1: []}, marks=pytest.mark.slow),
    ],
    ids=["one rank later", "the first batches", "one rank always"],
)
def test_a_rank_may_observe_nothing(skips: dict[int, list[int]], tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT.format(skips=skips))
    run_python(str(script), env={**os.environ, "PYTHONWARNINGS": "ignore"}, timeout=120)
    visits = [int((i % 12) // 3 not in skips[i // 12]) for i in range(24)]
    first, second = ((tmp_path / f"fit.py.{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert first.startswith(f"{visits} {sum(visits)} ")


@pytest.mark.parametrize(("others", "expected"), [([8, -1, -1, 1, 3], True), ([8, -1, -1, 0, 3], False)])
def test_a_rank_that_observes_nothing_learns_of_the_others_views(others: list[int], expected: bool) -> None:
    def all_gather(sizes: torch.Tensor) -> torch.Tensor:
        return torch.stack([sizes, torch.tensor(others)])

    gather = RankGather(keep_features=False)
    gather._agree(None, SimpleNamespace(device=torch.device("cpu"), all_gather=all_gather))  # type: ignore[arg-type]
    assert gather.has_one_view is expected
    assert gather.rows == 8
    assert gather.further_width == 3


def test_as_long_as_no_rank_has_observed_anything_the_views_are_not_known() -> None:
    gather = RankGather(keep_features=False)
    module = SimpleNamespace(device=torch.device("cpu"), all_gather=lambda sizes: torch.stack([sizes, sizes]))
    gather._agree(None, module)  # type: ignore[arg-type]
    assert gather.has_one_view is None
    assert not gather.is_agreed
