"""Further statistics against loops over their definitions, in Python's float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assl_lightning.method import scores
from assl_lightning.method.further_statistics import FurtherStatistics
from assl_lightning.method.settings import FURTHER
from assl_lightning.method.statistics import SampleStatistics, pad_to

CLASSES = 4

Step = tuple[Tensor, Tensor, Tensor]  # index (B,), logits of the weak and of the strong views (B, C)


def softmax(row: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(row)) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


class LoopOfDefinitions:
    """One visit at a time."""

    def __init__(self, num_samples: int, alpha: float) -> None:
        self.alpha = alpha
        self.predicted: list[list[int]] = [[] for _ in range(num_samples)]  # ŷ_0, ŷ_1, … of each sample
        self.variances: list[list[float]] = [[] for _ in range(num_samples)]
        self.weights: list[list[list[float]]] = [[] for _ in range(num_samples)]  # probabilities of each visit

    def visit(self, sample: int, weak: list[float], strong: list[float]) -> None:
        views = [softmax(weak), softmax(strong)]
        self.predicted[sample].append(max(range(len(weak)), key=lambda c: weak[c]))
        variance = 0.0
        for c in range(len(weak)):
            mean = (views[0][c] + views[1][c]) / 2
            variance += sum((view[c] - mean) ** 2 for view in views) / 2
        self.variances[sample].append(variance)
        self.weights[sample].append(views[0])

    def forgetting(self) -> list[int]:
        """Eq. 2 of Lim et al. 2023: TI = Σ_t 1(ŷ_t ≠ ŷ_{t−1})."""
        return [sum(row[t] != row[t - 1] for t in range(1, len(row))) for row in self.predicted]

    def view_variance(self) -> list[float]:
        return [math.fsum(row) / len(row) if row else 0.0 for row in self.variances]

    def mean_probabilities(self) -> list[list[float]]:
        """Visit t of n weighs α·(1 − α)^(n − t), divided by the sum of these weights."""
        means = []
        for rows in self.weights:
            weights = [self.alpha * (1 - self.alpha) ** (len(rows) - 1 - t) for t in range(len(rows))]
            columns = list(zip(*rows, strict=True)) or [(0.0,)] * CLASSES
            total = math.fsum(weights) or 1.0
            means.append(
                [math.fsum(w * p for w, p in zip(weights, column, strict=False)) / total for column in columns]
            )
        return means


def make_steps(num_samples: int, batch: int, steps: int, *, unique: bool = False, seed: int = 0) -> list[Step]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(steps):
        index = torch.randint(num_samples, (batch,), generator=generator)
        if unique:
            index = torch.randperm(num_samples, generator=generator)[:batch]
        weak, strong = 2 * torch.randn(2, batch, CLASSES, generator=generator)
        made.append((index, weak, strong))
    return made


def count(table: SampleStatistics, steps: Sequence[Step], **options: Any) -> None:
    for index, weak, strong in steps:
        uncertainty, inconsistency = scores.pseudo_el2n(weak), scores.symmetric_kl(weak, strong)
        further = table.further.observe(weak, strong) if table.further else None
        table.update(index, uncertainty, inconsistency, further=further, **options)


def rows(table: SampleStatistics) -> dict[str, Tensor]:
    return {name: statistic.rows(slice(None)) for name, statistic in table.further.items()}


def assert_equal_to_loop(table: SampleStatistics, loop: LoopOfDefinitions) -> None:
    found = rows(table)
    assert found["forgetting"].tolist() == loop.forgetting()
    torch.testing.assert_close(found["view_variance"], torch.tensor(loop.view_variance()), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        found["mean_probabilities"], torch.tensor(loop.mean_probabilities()), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("alpha", [0.1, 0.8, 1.0])
@pytest.mark.parametrize(
    ("num_samples", "batch", "unique"), [(3, 16, False), (7, 1, False), (40, 24, False), (1, 9, False), (30, 12, True)]
)
def test_visits_equal_the_loops_over_the_definitions(num_samples: int, batch: int, unique: bool, alpha: float) -> None:
    table, loop = SampleStatistics(num_samples, alpha, further=FURTHER), LoopOfDefinitions(num_samples, alpha)
    for step in make_steps(num_samples, batch, 12, unique=unique):
        count(table, [step], assume_unique=unique)
        for sample, weak, strong in zip(*(column.tolist() for column in step), strict=True):
            loop.visit(sample, weak, strong)
    assert_equal_to_loop(table, loop)


def test_three_visits_by_hand() -> None:
    """A sample goes from class 0 to 1 and back within one batch; its views agree at first and then contradict."""
    sure = 100.0
    weak = torch.tensor([[sure, 0.0], [0.0, sure], [sure, 0.0]])
    strong = torch.tensor([[sure, 0.0], [sure, 0.0], [0.0, sure]])
    table = SampleStatistics(2, alpha=0.5, further=FURTHER)
    count(table, [(torch.tensor([1, 1, 1]), weak, strong)])
    assert table.further["forgetting"].rows(slice(None)).tolist() == [0, 2]
    assert table.further["view_variance"].rows(slice(None))[1].item() == pytest.approx((0 + 0.5 + 0.5) / 3)
    # 0.125, 0.25 and 0.5 weigh the visits, which come to 0.875
    mean = table.further["mean_probabilities"].rows(torch.tensor([1]))
    torch.testing.assert_close(mean, torch.tensor([[0.625 / 0.875, 0.25 / 0.875]]))
    entropy = -sum(p * math.log(p) for p in (0.625 / 0.875, 0.25 / 0.875))
    assert table.further["mean_probabilities"].score(mean).item() == pytest.approx(entropy)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
@settings(max_examples=40, deadline=None)
def test_splitting_a_batch_does_not_change_them(index: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(index)))
    ((_, weak, strong),) = make_steps(5, len(index), 1, seed=len(index))
    visited = torch.tensor(index)
    whole, parts = SampleStatistics(5, further=FURTHER), SampleStatistics(5, further=FURTHER)
    count(whole, [(visited, weak, strong)])
    count(parts, [(visited[part], weak[part], strong[part]) for part in (slice(0, cut), slice(cut, None))])
    for name, expected in rows(whole).items():
        torch.testing.assert_close(rows(parts)[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unique", [True, False])
def test_the_statistics_of_the_paper_keep_every_bit(unique: bool) -> None:
    steps = make_steps(20, 12, 8, unique=unique)
    alone, beside = SampleStatistics(20), SampleStatistics(20, further=FURTHER)
    count(alone, steps, assume_unique=unique)
    count(beside, steps, assume_unique=unique)
    state = beside.state_dict()
    assert "further" not in alone.state_dict()
    assert set(state.pop("further")) == set(FURTHER)
    for name, value in alone.state_dict().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(state[name])) if name != "variance" else True


@pytest.mark.parametrize("kept", [[name] for name in FURTHER] + [["mean_probabilities", "forgetting"]])
def test_each_is_the_same_alone_and_with_others_in_any_order(kept: list[str]) -> None:
    steps = make_steps(9, 14, 5)
    some, every = SampleStatistics(9, further=kept), SampleStatistics(9, further=FURTHER)
    count(some, steps)
    count(every, steps)
    assert set(some.further) == set(kept)
    for name in kept:
        assert torch.equal(rows(some)[name], rows(every)[name])
    with pytest.raises(ValueError, match="'spread' was not kept: make the callback, or the table, with further="):
        some.further.require("spread")  # type: ignore[arg-type]


@pytest.mark.parametrize("skip", [True, False])
def test_what_is_no_visit_there_is_none_here(skip: bool) -> None:
    """Rows of index −1, and values that are not finite, leave every column as it is."""
    ((_, weak, strong),) = make_steps(5, 6, 1)
    weak[2, 1] = torch.nan
    strong[3, 0] = torch.nan
    index = torch.tensor([4, -1, 4, 4, 4, -1])
    table, expected = (SampleStatistics(5, further=FURTHER, skip_non_finite=skip) for _ in range(2))
    count(table, [(index, weak, strong)])
    count(expected, [(index[[0, 4]], weak[[0, 4]], strong[[0, 4]])])
    assert table.visits.tolist() == [0, 0, 0, 0, 2]
    for name, value in rows(expected).items():
        assert torch.equal(rows(table)[name], value)
    if skip:
        table.check()
    else:
        with pytest.raises(ValueError, match="for sample 4; both must be finite and below 1e19, and so must the log"):
            table.check()


def test_logits_alone_that_are_not_finite_are_no_visit_either() -> None:
    table = SampleStatistics(3, further=["forgetting"])
    further = table.further.observe(torch.tensor([[1.0, torch.nan], [0.0, 1.0]]), None)
    table.update(torch.tensor([0, 1]), torch.ones(2), torch.ones(2), further=further)
    assert table.visits.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="and so must the logits"):
        table.check()


def test_a_saved_table_goes_on_to_the_last_bit_and_grows() -> None:
    steps = make_steps(9, 14, 6)
    whole, first = SampleStatistics(9, further=FURTHER), SampleStatistics(9, further=FURTHER)
    count(whole, steps)
    count(first, steps[:3])
    rest = SampleStatistics(9, further=FURTHER)
    rest.load_state_dict(first.state_dict())
    count(rest, steps[3:])
    for name, expected in rows(whole).items():
        assert torch.equal(rows(rest)[name], expected)
    grown = SampleStatistics(11, further=FURTHER)
    grown.load_state_dict(pad_to(whole.state_dict(), 11))
    for name, expected in rows(whole).items():
        assert torch.equal(rows(grown)[name][:9], expected)
        assert not rows(grown)[name][9:].any()


def test_a_table_is_not_loaded_from_one_without_its_statistics_or_of_another_kind() -> None:
    steps = make_steps(9, 14, 2)
    plain, table = SampleStatistics(9), SampleStatistics(9, further=["forgetting"])
    count(plain, steps)
    count(table, steps)
    with pytest.raises(ValueError, match=r"forgetting was not kept in what is loaded \(no further statistics\); start"):
        table.load_state_dict(plain.state_dict())
    plain.load_state_dict(table.state_dict())
    state = table.state_dict()
    state["further"]["forgetting"]["changes"] = torch.zeros(9)
    with pytest.raises(ValueError, match="the saved changes of forgetting must be finite, a row for each of the 9 sam"):
        table.load_state_dict(state)


def test_mean_probabilities_before_a_visit_and_an_update_without_an_observation_are_errors() -> None:
    table = SampleStatistics(4, further=["mean_probabilities"])
    with pytest.raises(RuntimeError, match="there are no mean probabilities yet"):
        table.further["mean_probabilities"].rows(slice(None))
    with pytest.raises(ValueError, match=r"keeps mean_probabilities: give update.*, a row for each of the 1 indices"):
        table.update(torch.tensor([1]), torch.ones(1), torch.ones(1))


@pytest.mark.parametrize("names", ["forgetting", ["forgeting"]])
def test_a_name_that_is_none_is_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="further must be a list of names, among forgetting, view_variance, mean_prob"):
        SampleStatistics(4, further=names)


def test_one_view_has_no_variance_over_views_and_a_dense_task_has_no_row_of_logits() -> None:
    further = FurtherStatistics(["view_variance"], 4, 0.8)
    with pytest.raises(ValueError, match="view_variance needs two views of each sample, and the training has one"):
        further.observe(torch.zeros(2, 3), None)
    with pytest.raises(ValueError, match=r"one row of logits \(B, C\) for each sample; got shape \(2, 3, 5, 5\)"):
        further.observe(torch.zeros(2, 3, 5, 5), torch.zeros(2, 3, 5, 5))


def test_an_empty_batch_changes_nothing() -> None:
    table = SampleStatistics(4, further=FURTHER)
    count(table, make_steps(4, 6, 1))
    before = rows(table)
    count(table, [(torch.empty(0, dtype=torch.int64), torch.empty(0, CLASSES), torch.empty(0, CLASSES))])
    for name, expected in before.items():
        assert torch.equal(rows(table)[name], expected)
