from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning.learning.latest_predictions import NEVER, LatestPredictions
from tests.method.rank_threads import Ranks


def observe(table: LatestPredictions, index: list[int], predicted: list[int], logits: Tensor | None = None) -> None:
    one_hot = torch.nn.functional.one_hot(torch.tensor(predicted), 4).float() if logits is None else logits
    step: Any = {"index": torch.tensor(index), "logits_weak": one_hot}
    trainer: Any = SimpleNamespace(world_size=1)
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    table.on_train_batch_end(trainer, module, step, None, 0)


@pytest.mark.parametrize("assume_unique", [False, True])
def test_each_sample_keeps_its_latest_prediction(assume_unique: bool) -> None:
    table = LatestPredictions(5, 4, assume_unique=assume_unique)
    observe(table, [4, 0, 2], [1, 2, 3])
    observe(table, [2, 3], [0, 1])
    assert table.classes.tolist() == [2, NEVER, 0, 1, 1]
    again = LatestPredictions(5, 4)
    again.load_state_dict(table.state_dict())
    observe(again, [1], [3])
    assert again.classes.tolist() == [2, 3, 0, 1, 1]


def test_a_sample_that_a_batch_holds_twice_keeps_the_later_row() -> None:
    table = LatestPredictions(3, 4)
    observe(table, [1, 2, 1, 1], [0, 1, 2, 3])
    assert table.classes.tolist() == [NEVER, 3, 1]


def test_rows_that_count_as_none_and_rows_that_are_not_finite_are_left_out() -> None:
    table = LatestPredictions(3, 4)
    logits = torch.eye(4)
    logits[1, 0] = torch.nan
    observe(table, [0, 1, -1, 3], [], logits)
    assert table.classes.tolist() == [0, NEVER, NEVER]
    table.on_train_batch_end(SimpleNamespace(world_size=1), None, None, None, 0)  # type: ignore[arg-type]
    assert table.classes.tolist() == [0, NEVER, NEVER]


def test_many_classes_have_wider_numbers() -> None:
    assert LatestPredictions(2, 32_767).classes.dtype == torch.int16
    assert LatestPredictions(2, 32_768).classes.dtype == torch.int32


def test_ranks_hold_the_same_table_though_one_of_them_skips_steps() -> None:
    """An algorithm of the user's own may return no index on one rank; the first batches may be of unequal sizes."""
    steps: list[dict[int, Any]] = [
        {0: None, 1: ([0, 1], [1, 2])},
        {0: ([2], [3]), 1: None},
        {0: ([3], [1]), 1: ([3, 4], [2, 0])},
        {0: None, 1: None},
    ]

    def of_rank(trainer: Any, module: Any) -> Any:
        table = LatestPredictions(5, 4)
        for step in steps:
            rows = step[trainer.global_rank]
            output: Any = {"loss": torch.tensor(0.0)}
            if rows is not None:
                one_hot = torch.nn.functional.one_hot(torch.tensor(rows[1]), 4).float()
                output = {"index": torch.tensor(rows[0]), "logits_weak": one_hot}
            table.on_train_batch_end(trainer, module, output, None, 0)
        return table.classes.tolist()

    assert Ranks().run(of_rank) == [[1, 2, 3, 2, 0]] * 2, "of a sample on both ranks the higher rank's is the later"
