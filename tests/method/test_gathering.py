"""Ranks of which one observes nothing in some steps, or cannot: none waits for ever, and no visit is lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assl_lightning import ASSLScoreCallback, Observation
from assl_lightning.method.gathering import RankGather
from tests.method.rank_threads import Ranks
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
    run_python(str(script), env={**os.environ, "PYTHONWARNINGS": "ignore"}, timeout=240)
    visits = [int((i % 12) // 3 not in skips[i // 12]) for i in range(24)]
    first, second = ((tmp_path / f"fit.py.{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert first.startswith(f"{visits} {sum(visits)} ")


@pytest.mark.e2e
def test_a_rank_that_cannot_observe_a_batch_ends_the_others_with_a_sentence(tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    failing = "None if self.step in SKIPS[trainer.global_rank] else found"
    text = SCRIPT.format(skips={0: [0], 1: [2]}).replace(failing, "self.found(found)")
    text = text.replace("    step = -1\n", FAILING)
    script.write_text(text)
    result = run_python(str(script), code=1, env={**os.environ, "PYTHONWARNINGS": "ignore"}, timeout=240)
    assert "rank 1 could not observe training batch 3 of the fit" in result.stderr
    error = result.stderr.replace("ValueError: ", "ValueError:\n")  # older Lightnings break its line there
    assert "ValueError:\nno mask in batch 3" in error


FAILING = """
    step = -1
    def found(self, found):
        if trainer.global_rank == 0 and self.step in SKIPS[0]:
            return None
        if trainer.global_rank == 1 and self.step in SKIPS[1]:
            raise ValueError(f"no mask in batch {self.step + 1}")
        return found
"""

KINDS = {"index": torch.int64, "values": torch.float32, "half": torch.float16, "labelled_index": torch.int64}


def rows_of(index: list[int], width: int = 3, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    values = torch.tensor(index, dtype=torch.float32)
    half = (values[:, None] + torch.arange(width)).half()
    return {"index": torch.tensor(index, dtype=torch.int64), "values": values / 3, "half": half, **more}


def gather_steps(*steps: Mapping[int, Any]) -> tuple[list[Any], Ranks]:
    """Gather the rows of each step, by rank: an exception is raised in the place of rows. What the last step gave."""
    ranks = Ranks()

    def of_rank(trainer: Any, module: Any) -> Any:
        gather = RankGather(KINDS, optional=("labelled_index",))
        for step in steps:
            rows = step[trainer.global_rank]
            with gather.telling(trainer, module):
                if isinstance(rows, Exception):
                    raise rows
            found = gather.gather(rows, trainer, module)
        return found

    return ranks.run(of_rank), ranks


def test_ranks_gather_the_same_rows_in_one_call_a_step() -> None:
    large = 2**40 + 1  # an index that no float holds
    first = {0: rows_of([7, large, 2]), 1: rows_of([5], labelled_index=torch.tensor([8, 9]))}
    found, ranks = gather_steps(first, {0: rows_of([large]), 1: rows_of([0, 1])}, {0: None, 1: rows_of([3, 4, 6])})
    assert ranks.calls == [4, 4], "sizes once, and then each step's rows"
    one, other = found
    assert {name: rows.tolist() for name, rows in one.items()} == {name: rows.tolist() for name, rows in other.items()}
    assert one["index"].tolist() == [-1, -1, -1, 3, 4, 6]
    assert one["values"].tolist() == [0, 0, 0, *(torch.tensor([3.0, 4, 6]) / 3).tolist()]
    assert one["half"].tolist() == [*[[0] * 3] * 3, [3, 4, 5], [4, 5, 6], [6, 7, 8]]
    assert one["labelled_index"].tolist() == [-1] * 4
    (before, _), _ = gather_steps(first)
    assert before["index"].tolist() == [7, large, 2, 5, -1, -1]
    assert before["labelled_index"].tolist() == [-1, -1, 8, 9]
    assert {name: rows.dtype for name, rows in before.items()} == KINDS


def test_nothing_is_gathered_before_a_rank_has_rows() -> None:
    found, ranks = gather_steps({0: None, 1: None}, {0: None, 1: rows_of([])})
    assert found == [None, None]
    assert ranks.calls == [2, 2]
    found, _ = gather_steps({0: None, 1: None}, {0: None, 1: rows_of([4])})
    assert [rows["index"].tolist() for rows in found] == [[-1, 4]] * 2


@pytest.mark.parametrize("step", [0, 1])
def test_an_error_on_one_rank_is_told_to_the_others_in_the_same_step(step: int) -> None:
    good = {0: rows_of([1, 2]), 1: rows_of([3, 4])}
    found, _ = gather_steps(*[good] * step, {0: rows_of([1]), 1: KeyError("no mask")})
    told, own = found
    assert isinstance(own, KeyError)
    assert isinstance(told, RuntimeError)
    assert str(told).startswith(f"rank 1 could not observe training batch {step + 1} of the fit, and so the others end")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (rows_of([1, 2, 3]), "rank 0 has 3 rows of index in a batch, but no rank had more than 2 in the fit's first"),
        (rows_of([1], width=4), r"rank 0 has half of shape (1, 4), and a rank had 3 numbers a row in the first"),
        ({"index": torch.tensor([1])}, "rank 0 has no values in a batch, and a rank had some in the fit's first one"),
        (rows_of([1], labelled_index=torch.tensor([2])), "rank 0 has labelled_index in a batch, and no rank had any"),
        (rows_of([1]) | {"index": torch.tensor([1.0])}, "rank 0 has index of torch.float32; it must be torch.int64"),
    ],
    ids=["more rows", "another width", "a name less", "a name more", "another type"],
)
def test_rows_unlike_those_of_the_first_step_are_told_on_every_rank(rows: Any, sentence: str) -> None:
    (own, told), _ = gather_steps({0: rows_of([1, 2]), 1: rows_of([3])}, {0: rows, 1: rows_of([3])})
    assert isinstance(own, ValueError)
    assert str(own).startswith(sentence)
    assert isinstance(told, RuntimeError)
    assert "rank 0 could not observe training batch 2" in str(told)


def test_one_process_gathers_nothing() -> None:
    rows, trainer = rows_of([1]), Ranks(1).trainer(0)
    gather = RankGather(KINDS)
    assert gather.gather(rows, trainer, None) is rows  # type: ignore[arg-type]
    assert gather.gather(None, trainer, None) is None  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="its own"), gather.telling(trainer, None):  # type: ignore[arg-type]
        raise KeyError("its own")


@pytest.mark.parametrize("two_views", [True, False])
def test_a_rank_that_observes_nothing_learns_of_the_others_views(two_views: bool) -> None:
    ranks = Ranks()

    def of_rank(trainer: Any, module: Any) -> Any:
        def observe(outputs: Any, batch: Any, module: Any) -> Observation | None:
            strong = torch.tensor([0.5, 0.25]) if two_views else None
            return None if module.global_rank == 0 else Observation(torch.tensor([0, 2]), torch.ones(2), strong)

        module = Plain(module)
        callback = ASSLScoreCallback(3, observe=observe, alpha=1.0)
        plugin = SimpleNamespace(convert_input=None)
        fitting: Any = SimpleNamespace(datamodule=None, precision_plugin=plugin, train_dataloader=None)
        callback.setup(fitting, module, "fit")
        callback.on_train_batch_end(trainer, module, None, None, 0)
        return callback

    for callback in ranks.run(of_rank):
        assert callback.statistics.visits.tolist() == [1, 0, 1]
        assert callback.statistics.inconsistency_mean.tolist() == ([0.5, 0, 0.25] if two_views else [0, 0, 0])
        picks = callback.query(2, factors="uncertainty")
        assert picks.tolist() == [0, 2]
        assert callback.state_dict().get("views") == (None if two_views else 1)


class Plain(torch.nn.Module):
    """A module of a rank."""

    def __init__(self, of_rank: Any) -> None:
        super().__init__()
        self.device, self.all_gather, self.global_rank = of_rank.device, of_rank.all_gather, of_rank.global_rank
