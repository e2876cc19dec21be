"""Queries of every form: names, subsets, one view, tables of CSV, a table without a callback."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # type: ignore[import-untyped]
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from assl_lightning import ASSLScoreCallback, IndexedDataset, Observation, SampleStatistics, observe
from tests.observe.fits import Module, N, fit, pool

NAMES = [f"photos/{i:02}.png" for i in range(N)]


def indexed() -> IndexedDataset:
    return IndexedDataset(pool(), names=NAMES)


class TwoCalls(Module):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, _ = batch
        loss: Tensor = self.model(x).square().mean() + self.model(x + 0.3).square().mean()
        return loss


def fitted(observe_with: Any, module: LightningModule | None = None, **settings: Any) -> ASSLScoreCallback:
    callback = ASSLScoreCallback(observe=observe_with, **settings)
    fit(module or TwoCalls(), DataLoader(indexed(), batch_size=8), callback)
    return callback


def ranked(score: Tensor, among: Any = range(N)) -> list[int]:
    return sorted(among, key=lambda i: (-score[i].item(), i))


def test_each_factor_ranks_by_its_bound() -> None:
    callback = fitted(observe.forward("model", 0, 1))
    table = callback.statistics
    bounds = {
        "both": callback.scores(),
        "uncertainty": table.uncertainty_ucb(0.5),
        "inconsistency": table.inconsistency_ucb(2),
    }
    assert len({tuple(ranked(bound)) for bound in bounds.values()}) == 3
    for factors, bound in bounds.items():
        assert callback.query(5, factors=factors).tolist() == ranked(bound)[:5]  # type: ignore[call-overload]
        assert table.query(5, range(9), factors=factors).tolist() == ranked(bound, range(9))[:5]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="factors must be one of both, uncertainty, inconsistency; got 'entropy'"):
        callback.query(5, factors="entropy")  # type: ignore[call-overload]


def test_a_training_with_one_view_ranks_by_the_uncertainty() -> None:
    callback = fitted(observe.forward("model", 0))
    expected = ranked(callback.statistics.uncertainty_ucb(0.5))[:5]
    assert callback.query(5).tolist() == callback.query(5, factors="uncertainty").tolist() == expected
    for factors in ("both", "inconsistency"):
        with pytest.raises(
            ValueError, match=rf"the training had one view of each sample.*; got '{factors}'.*second_view"
        ):
            callback.query(5, factors=factors)
    restored = ASSLScoreCallback(N)
    restored.load_state_dict(callback.state_dict())
    assert restored.query(5).tolist() == expected


def test_an_observation_may_have_no_inconsistency() -> None:
    def one_view(outputs: Any, batch: Any, module: LightningModule, index: Tensor) -> Observation:
        return Observation(index, batch[0].mean((1, 2, 3)).abs(), None)

    callback = fitted(one_view)
    assert callback.query(3).tolist() == ranked(callback.statistics.uncertainty_ucb(0.5))[:3]


def test_picks_and_candidates_may_have_names() -> None:
    callback = fitted(observe.forward("model", 0, 1))
    assert callback.query(4, names=True) == [NAMES[i] for i in callback.query(4).tolist()]
    some = [3, 8, 1, 20]
    expected = callback.query(3, some).tolist()
    forms: tuple[Any, ...] = (
        [NAMES[i] for i in some],
        {NAMES[i] for i in some},
        {NAMES[i]: None for i in some},
        np.array([NAMES[i] for i in some]),
        np.array([NAMES[i] for i in some], dtype=object),
        pandas.Series([NAMES[i] for i in some], index=[9, 9, 7, 6]),
        [Path(NAMES[i]) for i in some],
        dict.fromkeys(some),
        dict.fromkeys(some).keys(),
        set(some),
        Subset(indexed(), some),
        Subset(pool(), some),
        Subset(Subset(pool(), [5, *some]), [1, 2, 3, 4]),
        IndexedDataset(Subset(pool(), some), index=some),
        Subset(IndexedDataset(pool(), index=[*range(12, N), *range(12)]), [15, 20, 13, 8]),
    )
    for candidates in forms:
        assert callback.query(3, candidates).tolist() == expected, type(candidates)
    with pytest.raises(ValueError, match=r"these candidates are no names of samples: nobody\.png"):
        callback.query(1, [NAMES[2], "nobody.png"])
    mistakes: tuple[Any, ...] = (NAMES[3], b"abc", 5, DataLoader(pool(), batch_size=7))
    for wrong in mistakes:
        with pytest.raises(TypeError, match=r"pool indices, .*; got .*(give several in a|other thin)"):
            callback.query(1, wrong)


def test_names_that_are_not_known_are_told() -> None:
    callback = ASSLScoreCallback(observe=observe.forward("model", 0, 1))
    fit(TwoCalls(), DataLoader(IndexedDataset(pool()), batch_size=8), callback)
    with pytest.raises(ValueError, match=r"4 of the 4 picks have no name, such as sample \d+; give names with Indexed"):
        callback.query(4, names=True)
    with pytest.raises(
        TypeError, match=r"whole numbers.*; names are known where the pool is IndexedDataset\(pool, names="
    ):
        callback.query(1, candidates=NAMES)


@pytest.mark.parametrize("where", ["folder", "file/picks.csv"])
def test_a_place_where_no_picks_can_be_written_is_told_before_the_training(where: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    callback = ASSLScoreCallback(observe=observe.forward("model", 0, 1), query_to=tmp_path / where)
    module = TwoCalls()
    with pytest.raises(ValueError, match=r"query_to must be a file that can be written; .* cannot"):
        fit(module, DataLoader(indexed(), batch_size=8), callback)
    assert callback._batches == 0


@pytest.mark.parametrize("k", ["3", None, True, 3.0])
def test_a_number_that_is_none_is_told(k: Any) -> None:
    with pytest.raises(TypeError, match="k must be a whole number; got"):
        fitted(observe.forward("model", 0, 1)).query(k)


def test_the_picks_are_written_at_the_end_of_a_fit(tmp_path: Path) -> None:
    path = tmp_path / "new" / "to_label.csv"
    callback = fitted(observe.forward("model", 0, 1), query_to=path, query_k=5)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    picks = callback.query(5).tolist()
    assert [int(row["index"]) for row in rows] == picks
    assert [row["name"] for row in rows] == [NAMES[i] for i in picks]
    assert [row["rank"] for row in rows] == [*"12345"]
    torch.testing.assert_close(
        torch.tensor([float(row["score"]) for row in rows]), callback.scores()[picks], rtol=1e-5, atol=0
    )
    fitted(observe.forward("model", 0), query_to=path)
    assert len(path.read_text().splitlines()) == 1 + N, "there are no more than were visited"


def test_picks_cover_with_the_features_of_a_part_that_is_named() -> None:
    callback = fitted(observe.forward("model", 0, 1, head="model.fc"))
    assert callback.features.rows(torch.arange(N)).shape == (N, 6)
    covering = callback.query(6, labelled=[0, 1, 2]).tolist()
    assert not {0, 1, 2} & {*covering}
    assert covering != callback.query(6, candidates=range(3, N)).tolist()
    by_key = fitted(observe.forward("model", 0, 1, features="model.body.0"))
    assert by_key.features.rows(torch.arange(N)).shape == (N, 6 * 16)
    off = fitted(observe.forward("model", 0, 1, head="model.fc"), keep_features=False)
    with pytest.raises(RuntimeError, match="keep_features=True"):
        _ = off.features


def test_a_table_of_ones_own_loop_has_the_picks_of_the_callback() -> None:
    callback = fitted(observe.forward("model", 0, 1))
    table = SampleStatistics(N)
    table.load_state_dict(callback.statistics.state_dict())
    assert table.query(7, candidates=range(15)).tolist() == callback.query(7, candidates=range(15)).tolist()
    assert table.query(7, labelled=[4, 5]).tolist() == [i for i in callback.query(N).tolist() if i not in (4, 5)][:7]


def test_both_factors_with_one_view_end_the_training_at_its_first_batch(tmp_path: Path) -> None:
    module = TwoCalls()
    steps: list[int] = []
    module.on_train_batch_end = lambda *_: steps.append(1)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="factors must be 'uncertainty' here"):
        fitted(observe.forward("model", 0), module, factors="both", query_to=tmp_path / "to_label.csv")
    assert steps == []


def test_a_table_of_picks_has_a_header_alone_where_nothing_was_visited(tmp_path: Path) -> None:
    path = tmp_path / "to_label.csv"

    def nowhere(outputs: Any, batch: Any, module: Any, index: Tensor) -> Observation:
        nothing = torch.full_like(index, -1)
        return Observation(nothing, torch.zeros(len(index)), torch.zeros(len(index)))

    fitted(nowhere, query_to=path)
    assert path.read_text() == "rank,index,name,score\n"
