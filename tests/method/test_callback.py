from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas  # type: ignore[import-untyped]
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, TensorDataset

from assl_lightning import ASSLScoreCallback, Observation, SampleStatistics
from assl_lightning.method import scores, top_k
from assl_lightning.method.settings import FURTHER

NUM_SAMPLES = 24


class Somebody(LightningModule):
    """A module that knows nothing of this package but the three keys."""

    KEYS = ("index", "logits_weak", "logits_strong")

    def __init__(self, keys: tuple[str, ...] = KEYS, detach: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 4)
        self.keys, self.detach = keys, detach
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        index, x = batch
        weak, strong = self.layer(x), self.layer(x + 0.3)
        self.seen.append((index, weak.detach().clone(), strong.detach().clone()))
        output = {"index": index, "logits_weak": weak, "logits_strong": strong, "features_weak": weak + 1}
        output |= {"labelled_index": index // 2, "features_labelled": strong + 2}  # twice each, and unlabelled too
        if self.detach:
            output = {name: value.detach() for name, value in output.items()}
        return {"loss": weak.square().mean(), **{name: output[name] for name in self.keys}}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(index: Tensor | None = None, batch_size: int = 6) -> DataLoader[Any]:
    index = torch.arange(NUM_SAMPLES) if index is None else index
    x = torch.randn(len(index), 3, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(index, x), batch_size=batch_size)


def fit(callback: Any, module: Any = None, data: Any = None, trainer_class: Any = Trainer, **settings: Any) -> Any:
    module = Somebody() if module is None else module
    trainer = trainer_class(
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"max_epochs": 2, "log_every_n_steps": 3} | settings),
    )
    trainer.fit(module, loader() if data is None else data)
    return trainer, module


def expected_statistics(module: Somebody, **settings: Any) -> SampleStatistics:
    statistics = SampleStatistics(NUM_SAMPLES, **settings)
    for index, weak, strong in module.seen:
        further = statistics.further.observe(weak, strong) if statistics.further else None
        statistics.update(index, scores.pseudo_el2n(weak), scores.symmetric_kl(weak, strong), further=further)
    return statistics


def further_rows(callback: ASSLScoreCallback | SampleStatistics) -> dict[str, Tensor]:
    statistics = callback if isinstance(callback, SampleStatistics) else callback.statistics
    return {name: statistic.rows(slice(None)) for name, statistic in statistics.further.items()}


@pytest.mark.parametrize("detach", [True, False])
def test_it_keeps_the_statistics_of_what_training_returned(detach: bool) -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES, alpha=0.5, c_u=1.0, c_i=3.0, variance="pre")
    _, module = fit(callback, Somebody(detach=detach))
    expected = expected_statistics(module, alpha=0.5, variance="pre")
    assert callback.statistics.visits.tolist() == [2] * NUM_SAMPLES
    torch.testing.assert_close(callback.scores(), expected.score(1.0, 3.0))
    assert not callback.scores().requires_grad


def test_it_keeps_further_statistics_on_request() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES, alpha=0.5, further=FURTHER)
    twice = torch.tensor([0, 1, 2, 1, 1, 5]).repeat(4)
    _, module = fit(callback, data=loader(twice))
    expected = expected_statistics(module, alpha=0.5, further=FURTHER)
    assert set(further_rows(callback)) == set(FURTHER)
    for name, rows in further_rows(expected).items():
        assert torch.equal(further_rows(callback)[name], rows)
        assert rows[[0, 1, 2, 5]].any() or name == "forgetting"
    assert torch.equal(callback.scores().nan_to_num(), expected.score(0.5, 2.0).nan_to_num())


@pytest.mark.parametrize("name", FURTHER)
def test_a_query_by_a_further_statistic_ranks_what_was_visited(name: Any) -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES, further=[name])
    fit(callback, data=loader(torch.arange(20)), max_epochs=4)
    statistic = callback.statistics.further[name]
    score = statistic.score(statistic.rows(slice(None)))[:20]
    picks = callback.query(6, by=name)
    assert score[picks].tolist() == sorted(score.tolist(), reverse=True)[:6]
    assert torch.equal(callback.query(6, by=name), picks), "ties are drawn in the same way"
    rest = callback.query(5, [2, 9, 4, 15, 11, 7, 22], labelled=[1], by=name)
    assert set(rest.tolist()) < {2, 9, 4, 15, 11, 7}
    table = callback.picks_table(2, by=name).splitlines()
    assert [int(line.split(",")[1]) for line in table[1:]] == picks[:2].tolist()
    with pytest.raises(ValueError, match="training visited only 20 of the 24 candidates"):
        callback.query(21, by=name)
    with pytest.raises(ValueError, match="give `by` or `factors`, not both"):
        callback.query(2, by=name, factors="both")
    with pytest.raises(ValueError, match=f"'{name}' was not kept: make the callback"):
        with_table(NUM_SAMPLES).query(2, by=name)


def test_further_statistics_need_logits_and_two_views_where_there_is_a_variance() -> None:
    def observe(outputs: Any, batch: Any, module: LightningModule) -> Observation:
        return Observation(batch[0], torch.ones(len(batch[0])), None)

    with pytest.raises(KeyError, match="needs the logits of each sample: return logits_weak"):
        fit(ASSLScoreCallback(NUM_SAMPLES, observe=observe, further=["forgetting"]), Somebody(keys=()))

    def with_logits(outputs: Any, batch: Any, module: LightningModule) -> Observation:
        return replace(observe(outputs, batch, module), logits_weak=batch[1])

    callback = ASSLScoreCallback(NUM_SAMPLES, observe=with_logits, further=["forgetting"])
    fit(callback, Somebody(keys=()))
    assert callback.statistics.further["forgetting"].rows(slice(None)).tolist() == [0] * NUM_SAMPLES
    with pytest.raises(ValueError, match="view_variance needs two views of each sample, and the training has one"):
        fit(ASSLScoreCallback(NUM_SAMPLES, observe=with_logits, further=["view_variance"]), Somebody(keys=()))


def test_a_test_after_the_fit_leaves_the_statistics_alone() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES)
    trainer, module = fit(callback, Somebody())
    before = callback.scores()
    callback.setup(trainer, module, "test")
    assert torch.equal(callback.scores(), before)


def test_it_keeps_the_latest_features_on_request() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES, keep_features=True)
    _, module = fit(callback, Somebody((*Somebody.KEYS, "features_weak")))
    expected = {i: row for index, weak, _ in module.seen for i, row in zip(index.tolist(), weak + 1, strict=True)}
    rows = callback.features.rows(torch.arange(NUM_SAMPLES))
    torch.testing.assert_close(rows, torch.stack([expected[i] for i in range(NUM_SAMPLES)]).half().float())
    restored = ASSLScoreCallback(NUM_SAMPLES, keep_features=True)
    restored.load_state_dict(callback.state_dict())
    assert torch.equal(restored.features.rows(torch.arange(NUM_SAMPLES)), rows)


LABELLED = ("features_weak", "labelled_index", "features_labelled")


def test_the_features_of_labelled_samples_join_them_and_win() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES, keep_features=True)
    _, module = fit(callback, Somebody((*Somebody.KEYS, *LABELLED)))
    expected: dict[int, Tensor] = {}
    for index, weak, strong in module.seen:  # one row after another, the unlabelled ones first
        for i, row in zip(index.tolist(), weak + 1, strict=True):
            expected[i] = row
        for i, row in zip(index.tolist(), strong + 2, strict=True):
            expected[i // 2] = row
    rows = callback.features.rows(torch.arange(NUM_SAMPLES))
    torch.testing.assert_close(rows, torch.stack([expected[i] for i in range(NUM_SAMPLES)]).half().float())


@pytest.mark.parametrize("keep_features", [False, True])
def test_labelled_features_change_no_statistics(keep_features: bool) -> None:
    with_them = ASSLScoreCallback(NUM_SAMPLES, keep_features=keep_features)
    without = ASSLScoreCallback(NUM_SAMPLES)
    fit(with_them, Somebody((*Somebody.KEYS, *LABELLED)))
    fit(without)
    for rows in ("visits", "_values"):
        assert torch.equal(getattr(with_them.statistics, rows), getattr(without.statistics, rows)), rows


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labelled_features": None}, KeyError, r"found 'labelled_index' \(L,\) without 'features_labelled' \(L, d\)"),
        ({"labelled_index": None}, KeyError, r"found 'features_labelled' \(L, d\) without 'labelled_index' \(L,\)"),
        ({"labelled_index": torch.ones(3)}, ValueError, r"'labelled_index' must be an int64 .*got torch.float32"),
        ({"labelled_index": torch.tensor([0, 1, 24])}, IndexError, r"'labelled_index' holds 24, outside the pool's 0"),
        (
            {"labelled_features": torch.ones(2, 4)},
            ValueError,
            r"'features_labelled' must have one row for each of the 3 .*, shape \(3, 4\); got shape \(2, 4\)",
        ),
        ({"labelled_features": torch.ones(3, 5)}, ValueError, r"as wide as those of the weak views, .* shape \(3, 5\)"),
    ],
)
def test_the_first_batch_tells_a_mistake_in_labelled_features_where_they_are_kept(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    right = Observation(
        torch.tensor([4, 5]),
        torch.ones(2),
        torch.ones(2),
        torch.ones(2, 4),
        labelled_index=torch.tensor([0, 1, -1]),
        labelled_features=torch.ones(3, 4),
    )
    wrong = replace(right, **changes)
    with pytest.raises(error, match=message):
        fit(ASSLScoreCallback(NUM_SAMPLES, observe=lambda *_: wrong, keep_features=True))
    fit(ASSLScoreCallback(NUM_SAMPLES, observe=lambda *_: wrong))
    callback = ASSLScoreCallback(NUM_SAMPLES, observe=lambda *_: right, keep_features=True)
    fit(callback)
    assert callback.features.seen(torch.arange(NUM_SAMPLES)).nonzero()[:, 0].tolist() == [0, 1, 4, 5]


def test_features_that_are_not_returned_are_missed_at_the_first_batch() -> None:
    with pytest.raises(KeyError, match=r"keep_features=True needs 'features_weak' \(B, d\)"):
        fit(ASSLScoreCallback(NUM_SAMPLES, keep_features=True))


def test_without_the_request_no_features_are_kept() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES)
    fit(callback, Somebody((*Somebody.KEYS, "features_weak")))
    assert callback.state_dict().keys() == {"batches", "statistics"}
    with pytest.raises(RuntimeError, match="keep_features=True"):
        _ = callback.features


def test_it_changes_neither_weights_nor_random_numbers() -> None:
    _, without = fit(_nothing())
    state = torch.get_rng_state()
    _, module = fit(ASSLScoreCallback(NUM_SAMPLES))
    for one, other in zip(without.parameters(), module.parameters(), strict=True):
        assert torch.equal(one, other)
    torch.set_rng_state(state)


def _nothing() -> Any:
    from lightning.pytorch import Callback

    return Callback()


def test_a_query_is_the_best_first_with_ties_to_the_lower_index() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES)
    fit(callback)
    score = callback.scores()
    by_hand = sorted(range(NUM_SAMPLES), key=lambda i: (-score[i].item(), i))
    assert callback.query(5).tolist() == by_hand[:5]
    assert callback.query(5).device.type == "cpu"
    assert callback.query(3, candidates=[9, 2, 17, 4]).tolist() == [i for i in by_hand if i in (9, 2, 17, 4)][:3]
    callback.statistics._values.zero_()
    assert callback.query(3, candidates=torch.tensor([9, 2, 17, 4])).tolist() == [2, 4, 9]


def test_a_query_never_returns_what_training_did_not_visit() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES)
    fit(callback, data=loader(torch.tensor([3, 8, 20])))
    assert sorted(callback.query(3).tolist()) == [3, 8, 20]
    with pytest.raises(ValueError, match="asked for 4 samples, but training visited only 3 of the 24 candidates"):
        callback.query(4)
    with pytest.raises(ValueError, match="visited only 1 of the 2 candidates"):
        callback.query(2, candidates=[3, 4])


def with_table(num_samples: int, *, levels: int = 0, visited: float = 1.0, seed: int = 0) -> ASSLScoreCallback:
    """A callback that has random statistics, each of `levels` different numbers (0: any), as after a fit."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.rand(2, num_samples, generator=generator)
    columns = (columns * levels).floor() if levels else columns
    index = (torch.rand(num_samples, generator=generator) < visited).nonzero()[:, 0]
    table = SampleStatistics(num_samples)
    table.update(index, columns[0, index], columns[1, index])
    callback = ASSLScoreCallback(num_samples)
    callback.load_state_dict({"statistics": table.state_dict()})
    return callback


def reference_query(callback: ASSLScoreCallback, candidates: Sequence[int]) -> list[int]:
    """All visited candidates, sorted by score and then by index."""
    score = callback.scores().tolist()
    visited = [index for index in candidates if callback.statistics.visits[index] > 0]
    return sorted(visited, key=lambda index: (-score[index], index))


@given(
    num_samples=st.integers(1, 60),
    levels=st.integers(0, 3),
    visited=st.sampled_from([0.5, 1.0]),
    chunk=st.integers(1, 70),
    given_as=st.sampled_from(["everything", "list", "int32", "ascending", "mask"]),
    data=st.data(),
)
def test_a_query_in_chunks_is_the_head_of_the_sorted_list(
    num_samples: int, levels: int, visited: float, chunk: int, given_as: str, data: st.DataObject
) -> None:
    callback = with_table(num_samples, levels=levels, visited=visited, seed=chunk)
    chosen = [*range(num_samples)]
    if given_as != "everything":
        chosen = data.draw(st.lists(st.integers(0, num_samples - 1), unique=True))
    candidates: Any = {
        "everything": None,
        "list": chosen,
        "int32": torch.tensor(chosen).int(),
        "ascending": torch.tensor(sorted(chosen)),
        "mask": torch.zeros(num_samples, dtype=torch.bool).index_fill(0, torch.tensor(chosen).long(), True),
    }[given_as]
    best_first = reference_query(callback, chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k, "_CHUNK", chunk)
        for k in range(1, len(best_first) + 1, 1 + len(best_first) // 3):
            assert callback.query(k, candidates).tolist() == best_first[:k]
        with pytest.raises(ValueError, match=f"visited only {len(best_first)} of the {len(chosen)} candidates"):
            callback.query(len(best_first) + 1, candidates)


class LargestTensor(TorchDispatchMode):
    """Notes how many bytes the largest tensor had that was made; what shares its memory with an argument was there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("levels", [0, 1])
@pytest.mark.parametrize("visited", [0.5, 1.0])
def test_a_query_makes_no_tensor_larger_than_a_chunk(
    levels: int, visited: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_k, "_CHUNK", 64)
    callback = with_table(5000, levels=levels, visited=visited)
    for candidates in (None, torch.arange(5000) % 3 == 0):
        with LargestTensor() as largest:
            callback.query(20, candidates)
        assert 8 * 64 <= largest.bytes <= 16 * 64, "a row of the table has 16 bytes beside its visits"
    indices = torch.arange(0, 5000, 3)
    with LargestTensor() as largest:
        callback.query(20, indices)
    assert largest.bytes == 5000, "one for each sample of the pool"


def test_a_query_of_a_poisoned_table_is_an_error() -> None:
    callback = with_table(NUM_SAMPLES)
    callback.statistics.update(torch.tensor([4]), torch.tensor([torch.nan]), torch.ones(1))
    with pytest.raises(ValueError, match=r"observed uncertainty nan and inconsistency 1\.0 for sample 4"):
        callback.query(1, candidates=[])


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_strange_candidates_are_refused(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_k, "_CHUNK", chunk)
    callback = with_table(NUM_SAMPLES)
    for outside in (24, -1):
        with pytest.raises(IndexError, match=f"candidate {outside} lies outside the pool's 0 … 23"):
            callback.query(1, candidates=[3, 5, outside])
    for twice in ([3, 3], [3, 5, 3], [1, 2, 3, 3]):
        distinct = f"got {len(twice)}, {len(set(twice))} of them distinct"
        with pytest.raises(ValueError, match=f"candidates must be distinct pool indices; {distinct}"):
            callback.query(1, candidates=twice)
    with pytest.raises(ValueError, match=r"in one dimension, or a mask of the pool; got shape \(2, 2\)"):
        callback.query(1, candidates=torch.tensor([[1, 2], [3, 4]]))
    for shape in (23,), (25,), (24, 1):
        with pytest.raises(ValueError, match=r"a mask of candidates must have .* shape \(24,\); got shape"):
            callback.query(1, candidates=torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize(
    "candidates",
    [
        [9, 3],
        {3, 9},
        (number for number in (9, 3)),
        np.array([9, 3], dtype=np.uint8),
        pandas.Series([9, 3], index=[70, 80]),
        torch.tensor([9, 3], dtype=torch.int32),
        np.isin(np.arange(NUM_SAMPLES), [3, 9]),
        [number in (3, 9) for number in range(NUM_SAMPLES)],
    ],
)
def test_candidates_may_be_any_whole_numbers_or_truths(candidates: Any) -> None:
    assert sorted(with_table(NUM_SAMPLES).query(2, candidates).tolist()) == [3, 9]


@pytest.mark.parametrize(
    "candidates", [[0.9, 1.2], torch.tensor([3.0]), np.array([3.0, 4.0]), ["3", "4"], [None], np.array([1j])]
)
def test_candidates_that_are_no_whole_numbers_are_refused(candidates: Any) -> None:
    with pytest.raises(TypeError, match="candidates must be pool indices, which are whole numbers, or a mask"):
        with_table(NUM_SAMPLES).query(1, candidates)


def test_a_number_of_samples_that_is_not_whole_is_refused() -> None:
    with pytest.raises(TypeError, match=r"k must be a whole number; got 2\.0"):
        with_table(NUM_SAMPLES).query(2.0)  # type: ignore[call-overload]
    assert len(with_table(NUM_SAMPLES).query(np.int64(2))) == 2  # type: ignore[call-overload]


def test_far_more_samples_than_there_are_can_be_asked_for_in_vain() -> None:
    with pytest.raises(ValueError, match="training visited only 24 of the 24 candidates"):
        with_table(NUM_SAMPLES).query(10**15)
    with pytest.raises(ValueError, match="training visited only 0 of the 0 candidates"):
        with_table(NUM_SAMPLES).query(10**15, candidates=[])


def test_fewer_than_one_sample_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        with_table(NUM_SAMPLES).query(0)


def test_repeated_indices_count_as_visits_in_order() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES)
    _, module = fit(callback, data=loader(torch.tensor([5, 5, 2, 5, 2, 7])))
    assert callback.statistics.visits[[5, 2, 7]].tolist() == [6, 4, 2]
    one_by_one = SampleStatistics(NUM_SAMPLES)
    for index, weak, strong in module.seen:
        for row in range(len(index)):
            part = slice(row, row + 1)
            one_by_one.update(
                index[part], scores.pseudo_el2n(weak[part]), scores.symmetric_kl(weak[part], strong[part])
            )
    torch.testing.assert_close(callback.scores(), one_by_one.score(0.5, 2.0), equal_nan=True)


def test_each_fit_starts_with_a_fresh_table() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES)
    fit(callback)
    fit(callback)
    assert callback.statistics.visits.tolist() == [2] * NUM_SAMPLES


def test_without_a_reset_a_fit_goes_on_with_the_table_of_the_last() -> None:
    callback = ASSLScoreCallback(NUM_SAMPLES, reset=False)
    fit(callback)
    fit(callback)
    assert callback.statistics.visits.tolist() == [4] * NUM_SAMPLES
    loaded = ASSLScoreCallback(NUM_SAMPLES, reset=False)
    loaded.load_state_dict(callback.state_dict())
    fit(loaded)
    assert loaded.statistics.visits.tolist() == [6] * NUM_SAMPLES


class PoolOf(LightningDataModule):
    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.num_samples = num_samples

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(torch.arange(self.num_samples))


def fit_pool(callback: ASSLScoreCallback, num_samples: int) -> None:
    keys = (*Somebody.KEYS, "features_weak")
    settings: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(accelerator="cpu", callbacks=[callback], max_epochs=1, enable_model_summary=False, **settings)
    trainer.fit(Somebody(keys), datamodule=PoolOf(num_samples))


def test_without_a_reset_a_table_grows_with_its_pool() -> None:
    callback = ASSLScoreCallback(reset=False, keep_features=True, further=FURTHER)
    fit_pool(callback, 24)
    further = further_rows(callback)
    features = callback.features.rows(torch.arange(24))
    plugin = SimpleNamespace(convert_input=None)
    grown: Any = SimpleNamespace(datamodule=PoolOf(30), strategy=None, precision_plugin=plugin)
    callback.setup(grown, Somebody(), "fit")
    assert callback.statistics.visits.tolist() == [1] * 24 + [0] * 6
    assert torch.equal(callback.features.rows(torch.arange(30)), torch.cat([features, torch.zeros(6, 4)]))
    for name, rows in further_rows(callback).items():
        assert torch.equal(rows, torch.cat([further[name], rows.new_zeros(6, *rows.shape[1:])]))
    fit_pool(callback, 30)
    assert callback.statistics.visits.tolist() == [2] * 24 + [1] * 6
    assert max(callback.query(30).tolist()) == 29


def test_features_are_kept_from_now_on_where_a_loaded_table_has_none() -> None:
    without = ASSLScoreCallback(reset=False)
    fit_pool(without, 24)
    callback = ASSLScoreCallback(reset=False, keep_features=True)
    callback.load_state_dict(without.state_dict())
    fit_pool(callback, 24)
    assert callback.statistics.visits.tolist() == [2] * 24
    assert callback.features.seen(torch.arange(24)).all()
    callback.load_state_dict(without.state_dict())
    with pytest.raises(RuntimeError, match="there are no features"):  # not those of the other table
        _ = callback.features


def test_without_a_reset_a_smaller_pool_is_refused_before_training() -> None:
    callback = ASSLScoreCallback(reset=False)
    fit_pool(callback, 24)
    with pytest.raises(ValueError, match=r"are of 24 samples, but the pool of this fit has 20: an index would mean"):
        fit_pool(callback, 20)
    assert callback.statistics.num_samples == 24


def test_an_observe_function_replaces_the_keys() -> None:
    def observe(outputs: Any, batch: Any, module: LightningModule) -> Observation | None:
        index, x = batch
        if 0 in index.tolist():
            return None
        return Observation(index, x.abs().sum(-1), torch.ones(len(index)))

    callback = ASSLScoreCallback(NUM_SAMPLES, observe=observe)
    fit(callback, Somebody(keys=()))
    assert callback.statistics.visits.tolist() == [0] * 6 + [2] * 18


def test_missing_keys_are_listed_with_those_that_were_there() -> None:
    with pytest.raises(KeyError, match="missing: logits_weak, logits_strong; returned: loss, index"):
        fit(ASSLScoreCallback(NUM_SAMPLES), Somebody(keys=("index",)))


def test_a_fit_in_which_nothing_was_observed_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="observed none of the 8 training batches"):
        fit(ASSLScoreCallback(NUM_SAMPLES, observe=lambda *_: None))


@pytest.mark.parametrize(
    ("observation", "error", "message"),
    [
        (Observation(torch.tensor([24]), torch.ones(1), torch.ones(1)), IndexError, "'index' holds 24, outside"),
        (Observation(torch.tensor([1.0]), torch.ones(1), torch.ones(1)), ValueError, "int64 tensor.*float32"),
        (Observation([1], torch.ones(1), torch.ones(1)), ValueError, "got list"),  # type: ignore[arg-type]
        (
            Observation(torch.tensor([1, 2]), torch.ones(2, 4), torch.ones(2)),
            ValueError,
            r"'uncertainty' must have one number for each of the 2 indices; got shape \(2, 4\): reduce a dense task",
        ),
    ],
)
def test_the_first_batch_tells_a_mistake(observation: Observation, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit(ASSLScoreCallback(NUM_SAMPLES, observe=lambda *_: observation))


@pytest.mark.parametrize(("log_every_n_steps", "batches"), [(1, 3), (2, 4), (1000, 8)])
def test_a_value_that_is_not_finite_ends_the_fit_at_the_next_reading_and_names_the_sample(
    log_every_n_steps: int, batches: int
) -> None:
    def observe(outputs: Any, batch: Any, module: LightningModule) -> Observation:
        index = batch[0]
        return Observation(index, torch.where(index == 13, torch.nan, 1.0), torch.ones(len(index)))

    module = Somebody()
    with pytest.raises(ValueError, match=r"uncertainty nan and inconsistency 1.0 for sample 13"):
        fit(ASSLScoreCallback(NUM_SAMPLES, observe=observe), module, log_every_n_steps=log_every_n_steps)
    assert len(module.seen) == batches, "the sample is in the third of four batches, two epochs long"


def test_the_table_is_part_of_a_checkpoint_and_comes_back(tmp_path: Path) -> None:
    whole, first = (ASSLScoreCallback(NUM_SAMPLES, further=FURTHER) for _ in range(2))
    fit(whole, max_epochs=3)
    trainer, _ = fit(first, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    rest = ASSLScoreCallback(NUM_SAMPLES, further=FURTHER)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[rest],
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=3,
    )
    safely: dict[str, Any] = {"weights_only": True} if "weights_only" in signature(Trainer.fit).parameters else {}
    trainer.fit(Somebody(), loader(), ckpt_path=tmp_path / "half.ckpt", **safely)  # lightning ≥ 2.6 has the argument
    assert rest.statistics.visits.tolist() == [3] * NUM_SAMPLES
    assert torch.equal(rest.scores(), whole.scores())
    for name, rows in further_rows(whole).items():
        assert torch.equal(further_rows(rest)[name], rows)
    found = ASSLScoreCallback.from_checkpoint(tmp_path / "half.ckpt")
    for name, rows in further_rows(first).items():
        assert torch.equal(further_rows(found)[name], rows)


def test_a_saved_state_is_of_use_without_a_fit() -> None:
    callback, again = ASSLScoreCallback(NUM_SAMPLES), ASSLScoreCallback()
    assert callback.state_dict() == {}
    fit(callback)
    again.load_state_dict(callback.state_dict())
    assert torch.equal(again.query(4), callback.query(4))


def test_scores_before_a_fit_are_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"there are no statistics yet; they exist once Trainer\.fit has started"):
        ASSLScoreCallback(NUM_SAMPLES).scores()


def test_the_size_of_the_pool_must_be_known() -> None:
    with pytest.raises(ValueError, match="needs the size of the pool: pass num_samples"):
        fit(ASSLScoreCallback())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"c_u": -0.1}, "c_u must be at least 0; got -0.1"),
        ({"c_i": -1.0}, "c_i"),
        ({"alpha": 0.0}, "alpha"),
    ],
)
def test_an_impossible_constant_is_refused_where_it_was_written(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ASSLScoreCallback(NUM_SAMPLES, **setting)  # type: ignore[arg-type]


def test_the_batch_hook_reads_no_number_on_the_host_after_the_first_batch() -> None:
    """Tensors on the meta device have shapes but no numbers, so whatever would wait for a device raises."""
    callback = ASSLScoreCallback(NUM_SAMPLES, keep_features=True, further=FURTHER)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    module = Somebody()
    callback.setup(trainer, module, "fit")
    callback.statistics.to("meta")
    callback._observed_batches = 1
    outputs = {
        "index": torch.empty(6, dtype=torch.int64, device="meta"),
        "logits_weak": torch.empty(6, 4, device="meta"),
        "logits_strong": torch.empty(6, 4, device="meta"),
        "features_weak": torch.empty(6, 5, device="meta"),
        "labelled_index": torch.empty(2, dtype=torch.int64, device="meta"),
        "features_labelled": torch.empty(2, 5, device="meta"),
    }
    for batch_idx in range(5):
        callback.on_train_batch_end(trainer, module, outputs, None, batch_idx)


def test_the_one_class_works_in_pytorch_lightning_trainers() -> None:
    import pytorch_lightning

    if "weights_only" not in signature(pytorch_lightning.Trainer.fit).parameters:
        pytest.skip("pytorch_lightning before 2.6 wants a callback of its own; test_both_namespaces has it")

    class Other(pytorch_lightning.LightningModule):
        training_step = Somebody.training_step
        configure_optimizers = Somebody.configure_optimizers

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(3, 4)
            self.keys, self.detach = ("index", "logits_weak", "logits_strong"), True
            self.seen: list[Any] = []

    ours, theirs = ASSLScoreCallback(NUM_SAMPLES), ASSLScoreCallback(NUM_SAMPLES)
    fit(ours)
    fit(theirs, Other(), trainer_class=pytorch_lightning.Trainer)
    assert torch.equal(ours.scores(), theirs.scores())


DDP_SCRIPT = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from lightning.pytorch import Trainer
from test_callback import ASSLScoreCallback, DataLoader, LABELLED, NUM_SAMPLES, Somebody, TensorDataset
from assl_lightning.learning.samplers import BatchPlan, StepSampler

class Step(torch.utils.data.Dataset):
    def __getitem__(self, item):
        return item.unlabelled, torch.sin(item.unlabelled[:, None] * torch.tensor([1.0, 2.0, 3.0]))

if __name__ == "__main__":
    devices, out = int(sys.argv[1]), sys.argv[2]
    callback = ASSLScoreCallback(NUM_SAMPLES, keep_features=True)
    trainer = Trainer(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=1,
                      callbacks=[callback], logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False)
    plan = BatchPlan(seed=0, round_number=0, num_steps=9, batch_size=2, mu={mu})
    class Data(DataLoader):
        pass
    from lightning.pytorch import LightningDataModule
    class Module(LightningDataModule):
        def train_dataloader(self):
            sampler = StepSampler(torch.tensor([0]), torch.arange(1, {stop}), plan, 9,
                                  num_replicas=self.trainer.world_size, rank=self.trainer.global_rank)
            return DataLoader(Step(), batch_size=None, sampler=sampler)
    trainer.fit(Somebody((*Somebody.KEYS, *LABELLED)), datamodule=Module())
    state = callback.state_dict()
    seen = state["features"]["seen"][:-1]
    torch.save(state["statistics"] | {{"features": state["features"]["values"][:-1], "seen": seen}},
               f"{{out}}.{{trainer.global_rank}}")
"""


@pytest.mark.slow  # tests/test_ddp.py compares the tables of a run
@pytest.mark.parametrize(("mu", "stop"), [(4, 24), (4, 5)])
def test_two_ranks_keep_the_table_of_one_process(tmp_path: Path, mu: int, stop: int) -> None:
    import subprocess

    script = tmp_path / "ddp.py"
    script.write_text(DDP_SCRIPT.format(tests=str(Path(__file__).parent), mu=mu, stop=stop))
    for devices in (1, 2):
        result = subprocess.run(
            [sys.executable, str(script), str(devices), str(tmp_path / f"of_{devices}")],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
    one = torch.load(tmp_path / "of_1.0", weights_only=True)
    ranks = [torch.load(tmp_path / f"of_2.{rank}", weights_only=True) for rank in range(2)]
    for name, value in one.items():
        if isinstance(value, Tensor):
            assert torch.equal(ranks[0][name], ranks[1][name])
            tolerance = 1e-3 if name == "features" else 1e-6  # float16 and float32
            torch.testing.assert_close(ranks[0][name], value, rtol=10 * tolerance, atol=tolerance)
    assert one["visits"].sum() == 9 * 2 * mu


UNEVEN_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
from torch.utils.data import DataLoader, TensorDataset
from test_callback import Somebody
from lightning.pytorch import Trainer
from assl_lightning import ASSLScoreCallback

class OfRank(torch.utils.data.Sampler):
    def __iter__(self):
        rank = trainer.global_rank
        return iter([[0, 1, 2, 3], [4, 5]] if rank == 0 else [[6, 7], {second}])
    def __len__(self):
        return 2

callback = ASSLScoreCallback(12, keep_features=True)
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, callbacks=[callback],
                  enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False)
x = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
data = TensorDataset(torch.arange(12), x)

class Labelled(Somebody):
    def training_step(self, batch, batch_idx):
        output = super().training_step(batch, batch_idx)
        index = batch[0][self.global_rank:]  # fewer rows on one rank than on the other
        return output | {{"labelled_index": index, "features_labelled": torch.full((len(index), 4), 7.0)}}

trainer.fit(Labelled((*Somebody.KEYS, "features_weak")), DataLoader(data, batch_sampler=OfRank()))
rows = callback.features.rows(torch.arange(12))
labelled = (rows == 7).all(1).nonzero()[:, 0].tolist()
with open(f"{{__file__}}.{{trainer.global_rank}}", "w") as out:
    print(callback.statistics.visits.tolist(), int((rows != 0).any(1).sum()), labelled, file=out)
"""


@pytest.mark.slow
def test_ranks_may_have_batches_of_other_sizes_up_to_the_first_ones(tmp_path: Path) -> None:
    import subprocess

    results = []
    for name, second in (("smaller", [8, 9, 10]), ("larger", [8, 9, 10, 11, 0])):
        script = tmp_path / f"{name}.py"
        script.write_text(UNEVEN_SCRIPT.format(tests=str(Path(__file__).parent), second=second))
        command = [sys.executable, str(script)]
        results.append(subprocess.run(command, capture_output=True, text=True, check=False, timeout=120))
    smaller, larger = results
    assert smaller.returncode == 0, smaller.stderr
    for rank in (0, 1):
        told = "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0] 11 [0, 1, 2, 3, 4, 5, 7, 9, 10]\n"
        assert (tmp_path / f"smaller.py.{rank}").read_text() == told
    assert larger.returncode != 0
    assert "rank 1 has 5 samples in a batch, but no rank had more than 4 in the fit's first one" in larger.stderr
