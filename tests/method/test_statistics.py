from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assl_lightning.method.settings import Variance
from assl_lightning.method.statistics import SampleStatistics, pad_to


class LoopOfDefinition:
    """Eq. 3–6 of Lim et al. 2023, one visit at a time in Python's float64."""

    def __init__(self, num_samples: int, alpha: float, variance: str) -> None:
        self.alpha, self.variance = alpha, variance
        self.mean = [[0.0, 0.0] for _ in range(num_samples)]
        self.spread = [[0.0, 0.0] for _ in range(num_samples)]
        self.visits = [0] * num_samples

    def visit(self, sample: int, uncertainty: float, inconsistency: float) -> None:
        for k, value in enumerate((uncertainty, inconsistency)):
            before = self.mean[sample][k]
            self.mean[sample][k] = self.alpha * value + (1 - self.alpha) * before
            centre = self.mean[sample][k] if self.variance == "post" else before
            self.spread[sample][k] = self.alpha * (value - centre) ** 2 + (1 - self.alpha) * self.spread[sample][k]
        self.visits[sample] += 1

    def score(self, c_u: float, c_i: float) -> list[float]:
        return [
            (mean[0] + c_u * math.sqrt(spread[0])) * (mean[1] + c_i * math.sqrt(spread[1])) if visits else math.nan
            for mean, spread, visits in zip(self.mean, self.spread, self.visits, strict=True)
        ]


def random_visits(num_samples: int, batch: int, steps: int, seed: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(num_samples, (batch,), generator=generator),
            torch.rand(batch, generator=generator),
            3 * torch.rand(batch, generator=generator),
        )
        for _ in range(steps)
    ]


def assert_equal_to_loop(statistics: SampleStatistics, loop: LoopOfDefinition) -> None:
    assert statistics.visits.tolist() == loop.visits
    expected = torch.tensor(loop.mean), torch.tensor(loop.spread)
    torch.testing.assert_close(
        torch.stack([statistics.uncertainty_mean, statistics.inconsistency_mean], 1), expected[0], rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        torch.stack([statistics.uncertainty_variance, statistics.inconsistency_variance], 1),
        expected[1],
        rtol=1e-4,
        atol=1e-6,
    )
    torch.testing.assert_close(
        statistics.score(0.5, 2.0), torch.tensor(loop.score(0.5, 2.0)), rtol=1e-4, atol=1e-5, equal_nan=True
    )


@pytest.mark.parametrize("variance", ["post", "pre"])
@pytest.mark.parametrize("alpha", [0.1, 0.8, 1.0])
@pytest.mark.parametrize(("num_samples", "batch"), [(3, 16), (7, 1), (40, 24), (1, 9)])
def test_repeated_visits_equal_the_loop_of_the_definition(
    num_samples: int, batch: int, alpha: float, variance: Variance
) -> None:
    statistics = SampleStatistics(num_samples, alpha, variance)
    loop = LoopOfDefinition(num_samples, alpha, variance)
    for index, uncertainty, inconsistency in random_visits(num_samples, batch, 12, seed=num_samples):
        statistics.update(index, uncertainty, inconsistency)
        for row in range(batch):
            loop.visit(int(index[row]), float(uncertainty[row]), float(inconsistency[row]))
    assert_equal_to_loop(statistics, loop)


@pytest.mark.parametrize("variance", ["post", "pre"])
def test_the_fast_path_for_distinct_indices_equals_the_loop(variance: Variance) -> None:
    statistics = SampleStatistics(30, 0.8, variance)
    loop = LoopOfDefinition(30, 0.8, variance)
    for step, (_, uncertainty, inconsistency) in enumerate(random_visits(30, 12, 20, seed=1)):
        index = torch.randperm(30, generator=torch.Generator().manual_seed(step))[:12]
        statistics.update(index, uncertainty, inconsistency, assume_unique=True)
        for row in range(12):
            loop.visit(int(index[row]), float(uncertainty[row]), float(inconsistency[row]))
    assert_equal_to_loop(statistics, loop)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.floats(0, 1, width=32), st.floats(0, 50, width=32)), min_size=1, max_size=40
    ),
    st.data(),
)
@settings(max_examples=50, deadline=None)
def test_splitting_a_batch_does_not_change_the_statistics(
    visits: list[tuple[int, float, float]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(visits)))
    index, uncertainty, inconsistency = (torch.tensor(column) for column in zip(*visits, strict=True))
    whole, parts = SampleStatistics(5), SampleStatistics(5)
    whole.update(index, uncertainty, inconsistency)
    for piece in (slice(0, cut), slice(cut, None)):
        parts.update(index[piece], uncertainty[piece], inconsistency[piece])
    assert torch.equal(whole.visits, parts.visits)
    torch.testing.assert_close(whole.score(0.5, 2.0), parts.score(0.5, 2.0), rtol=1e-4, atol=1e-4, equal_nan=True)


def test_post_variance_is_pre_variance_times_the_square_of_one_minus_alpha() -> None:
    post, pre = SampleStatistics(9, 0.8, "post"), SampleStatistics(9, 0.8, "pre")
    for visit in random_visits(9, 6, 30, seed=3):
        post.update(*visit)
        pre.update(*visit)
    torch.testing.assert_close(post.uncertainty_variance, 0.04 * pre.uncertainty_variance, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(post.uncertainty_ucb(0.5), pre.uncertainty_ucb(0.1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(post.inconsistency_ucb(2.0), pre.inconsistency_ucb(0.4), rtol=1e-4, atol=1e-6)


def test_the_mean_of_a_constant_approaches_it_geometrically() -> None:
    statistics = SampleStatistics(1, alpha=0.8)
    for visits in range(1, 6):
        statistics.update(torch.tensor([0]), torch.tensor([1.0]), torch.tensor([1.0]))
        assert statistics.uncertainty_mean.item() == pytest.approx(1 - 0.2**visits, rel=1e-6)


def test_a_sample_that_was_never_visited_is_unknown_not_zero() -> None:
    statistics = SampleStatistics(4)
    statistics.update(torch.tensor([2]), torch.tensor([0.0]), torch.tensor([0.0]))
    assert statistics.score(0.5, 2.0).isnan().tolist() == [True, True, False, True]
    assert statistics.uncertainty_ucb(0.5).isnan().tolist() == [True, True, False, True]
    assert statistics.inconsistency_ucb(2.0)[2].item() == 0.0


@pytest.mark.parametrize("assume_unique", [True, False])
def test_an_index_outside_the_pool_is_named_and_changes_nothing(assume_unique: bool) -> None:
    for index in (-2, 5):
        statistics = SampleStatistics(5)
        statistics.update(torch.tensor([1, index]), torch.rand(2), torch.rand(2), assume_unique=assume_unique)
        assert statistics.visits.tolist() == [0, 1, 0, 0, 0]
        with pytest.raises(IndexError, match=f"update 0 observed index {index}, outside the pool's 0 … 4"):
            statistics.check()
        with pytest.raises(IndexError, match="outside the pool"):
            statistics.state_dict()


@pytest.mark.parametrize("assume_unique", [True, False])
def test_a_row_of_index_minus_one_observes_nothing(assume_unique: bool) -> None:
    statistics = SampleStatistics(5)
    statistics.update(torch.tensor([-1, 2, -1]), torch.rand(3), torch.rand(3), assume_unique=assume_unique)
    statistics.check()
    assert statistics.visits.tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("assume_unique", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e20])
def test_a_value_that_is_not_finite_names_the_first_sample_and_never_enters_the_table(
    value: float, assume_unique: bool
) -> None:
    statistics = SampleStatistics(5)
    statistics.update(torch.tensor([0, 1]), torch.rand(2), torch.rand(2), assume_unique=assume_unique)
    before = statistics.score(0.5, 2.0)
    bad = torch.tensor([0.5, value, value])
    statistics.update(torch.tensor([4, 1, 0]), torch.ones(3), bad, assume_unique=assume_unique)
    statistics.update(torch.tensor([2]), torch.tensor([value]), torch.ones(1), assume_unique=assume_unique)
    assert statistics.visits.tolist() == [1, 1, 0, 0, 1]
    assert statistics.inconsistency_mean.isfinite().all()
    assert torch.equal(statistics.inconsistency_ucb(0.0)[:2] > 0, before[:2] > 0)
    for read in (statistics.check, lambda: statistics.score(1, 1), lambda: statistics.rows(torch.tensor([0]))):
        with pytest.raises(
            ValueError,
            match=r"update 1 observed uncertainty 1.0 and inconsistency (nan|inf|1\.00000002004.*e\+20) for sample 1",
        ):
            read()


def test_rows_are_those_of_the_indices_in_their_order_and_a_slice_copies_nothing() -> None:
    statistics = SampleStatistics(9)
    for visit in random_visits(9, 6, 5, seed=4):
        statistics.update(*visit)
    index = torch.tensor([8, 2, 5])
    rows, every = statistics.rows(index), statistics.rows(slice(None))
    for name in ("uncertainty_mean", "uncertainty_variance", "inconsistency_mean", "inconsistency_variance", "visits"):
        column = getattr(statistics, name)
        assert getattr(rows, name).tolist() == column[index].tolist()
        assert torch.equal(getattr(every, name), column)
        assert torch.equal(getattr(every.take(index), name), column[index])
        assert getattr(statistics.rows(slice(3, 6)), name).data_ptr() == column[3:].data_ptr()
        assert getattr(every.take(slice(3, 6)), name).data_ptr() == column[3:].data_ptr()
    with pytest.raises(IndexError):
        statistics.rows(torch.tensor([9]))


def test_an_empty_batch_changes_nothing() -> None:
    statistics = SampleStatistics(3)
    for assume_unique in (True, False):
        empty = torch.empty(0)
        statistics.update(torch.empty(0, dtype=torch.int64), empty, empty, assume_unique=assume_unique)
    assert statistics.visits.tolist() == [0, 0, 0]
    statistics.check()


def test_half_precision_values_are_kept_in_float32() -> None:
    statistics = SampleStatistics(1)
    statistics.update(torch.tensor([0]), torch.tensor([0.1], dtype=torch.bfloat16), torch.tensor([0.1]))
    assert statistics.uncertainty_mean.dtype == torch.float32
    assert statistics.uncertainty_mean.item() == pytest.approx(0.8 * torch.tensor(0.1, dtype=torch.bfloat16).item())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"num_samples": 3, "alpha": 0.0}, r"alpha must be in \(0, 1\]; got 0.0"),
        ({"num_samples": 3, "alpha": 1.5}, "got 1.5"),
        ({"num_samples": 3, "variance": "mid"}, "variance must be one of post, pre; got 'mid'"),
    ],
)
def test_an_impossible_setting_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampleStatistics(**arguments)


def test_wrong_shapes_and_types_are_refused() -> None:
    statistics = SampleStatistics(3)
    with pytest.raises(TypeError, match=r"index must be a tensor of shape \(B,\); got list"):
        SampleStatistics(3).update([0, 1], torch.ones(2), torch.ones(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"inconsistency must be a tensor of shape \(B,\); got NoneType"):
        SampleStatistics(3).update(torch.tensor([0, 1]), torch.ones(2), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"index must be an int64 tensor of shape \(B,\).*int32"):
        statistics.update(torch.tensor([1], dtype=torch.int32), torch.rand(1), torch.rand(1))
    with pytest.raises(ValueError, match=r"one number for each of the 1 indices; got shapes \(2,\) and \(1,\)"):
        statistics.update(torch.tensor([1]), torch.rand(2), torch.rand(1))


def test_a_state_survives_saving_and_loading_safely(tmp_path: Any) -> None:
    statistics = SampleStatistics(6)
    for visit in random_visits(6, 5, 4, seed=2):
        statistics.update(*visit)
    torch.save(statistics.state_dict(), tmp_path / "statistics.pt")
    again = SampleStatistics(6)
    again.load_state_dict(torch.load(tmp_path / "statistics.pt", weights_only=True))
    for visit in random_visits(6, 5, 4, seed=3):
        statistics.update(*visit)
        again.update(*visit)
    assert torch.equal(statistics.score(0.5, 2.0), again.score(0.5, 2.0))
    assert torch.equal(statistics.visits, again.visits)


@pytest.mark.parametrize(
    "other", [SampleStatistics(5), SampleStatistics(6, alpha=0.5), SampleStatistics(6, variance="pre")]
)
def test_a_state_kept_with_other_settings_is_refused(other: SampleStatistics) -> None:
    with pytest.raises(ValueError, match=r"these statistics were kept with (num_samples|alpha|variance)"):
        other.load_state_dict(SampleStatistics(6).state_dict())


@pytest.mark.parametrize("assume_unique", [True, False])
def test_an_update_never_reads_a_number_on_the_host(assume_unique: bool) -> None:
    """Tensors on the meta device have shapes but no numbers, so whatever would wait for a device raises."""
    statistics = SampleStatistics(50, device="meta")
    numbers = torch.empty(16, device="meta")
    index = torch.empty(16, dtype=torch.int64, device="meta")
    statistics.update(index, numbers, numbers, assume_unique=assume_unique)
    with pytest.raises((NotImplementedError, RuntimeError)):
        statistics.check()


@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_variances_before_and_after_the_update_rank_alike_once_their_constants_are_matched(alpha: float) -> None:
    """UCB_post(c) = UCB_pre((1 − α)·c): the two readings of Eq. 3 differ in c alone, and so, with one c, in picks."""
    generator = torch.Generator().manual_seed(0)
    post, pre = SampleStatistics(200, alpha, "post"), SampleStatistics(200, alpha, "pre")
    for _ in range(30):
        index = torch.randperm(200, generator=generator)[:64]
        values = torch.rand(64, generator=generator), torch.rand(64, generator=generator)
        post.update(index, *values)
        pre.update(index, *values)
    c = 2.0
    after, matched, unmatched = post.uncertainty_ucb(c), pre.uncertainty_ucb((1 - alpha) * c), pre.uncertainty_ucb(c)
    torch.testing.assert_close(after, matched, rtol=1e-5, atol=0)
    picks, same, others = (set(bound.topk(20).indices.tolist()) for bound in (after, matched, unmatched))
    assert picks == same
    assert picks != others


def test_there_is_room_for_the_samples_of_a_pool_that_has_grown() -> None:
    before = SampleStatistics(3)
    before.update(torch.tensor([0, 2, 2]), torch.tensor([0.5, 0.1, 0.5]), torch.tensor([1.0, 0.2, 1.0]))
    grown = SampleStatistics(5)
    grown.load_state_dict(pad_to(before.state_dict(), 5))
    assert grown.visits.tolist() == [1, 0, 2, 0, 0]
    torch.testing.assert_close(grown.score(0.5, 2.0)[:3], before.score(0.5, 2.0), equal_nan=True)
    assert grown.score(0.5, 2.0)[3:].isnan().all()
    with pytest.raises(ValueError, match="these statistics are of 3 samples, and the pool has 2"):
        pad_to(before.state_dict(), 2)
