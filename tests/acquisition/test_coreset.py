"""CoreSet against a loop in float64 that measures every pair; and what all k-centre strategies keep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from assl_lightning.acquisition.cdal import CDAL
from assl_lightning.acquisition.coreset import CoreSet
from assl_lightning.method import greedy
from assl_lightning.method.candidates import Acquisition, Candidates, LabelledSamples
from tests.acquisition.test_contract import scores_of

both_strategies = pytest.mark.parametrize("strategy", [CoreSet(), CDAL()], ids=["coreset", "cdal"])


def make_candidates(values: Tensor, labelled: Tensor, index: Tensor | None = None) -> Candidates:
    """Candidates whose features and logits are `values` (M, d), and labelled samples 1,000, 1,001, …"""
    samples = LabelledSamples(
        torch.arange(1000, 1000 + len(labelled)), torch.zeros(len(labelled), dtype=torch.int64), labelled, labelled
    )
    index = torch.arange(len(values)) if index is None else index
    return Candidates(index, logits=values, features=values, labelled=samples)


def reference_rows(features: Tensor, normalize: bool) -> list[list[float]]:
    rows = features.double().tolist()
    lengths = [(math.hypot(*row) or 1.0) if normalize else 1.0 for row in rows]
    return [[h / length for h in row] for row, length in zip(rows, lengths, strict=True)]


def reference_scores(candidates: Candidates, normalize: bool = False) -> list[float]:
    """The Euclidean distance of each candidate to its nearest labelled sample; inf where there is none."""
    assert candidates.features is not None
    assert candidates.labelled is not None
    labelled = reference_rows(candidates.labelled.features, normalize)
    rows = reference_rows(candidates.features, normalize)
    return [min((math.dist(row, centre) for centre in labelled), default=math.inf) for row in rows]


def reference_picks(candidates: Candidates, budget: int, normalize: bool = False) -> list[int]:
    """Repeatedly the candidate farthest from all labelled and picked ones; of equally far ones that of lowest index."""
    assert candidates.features is not None
    index = candidates.index.tolist()
    rows = dict(zip(index, reference_rows(candidates.features, normalize), strict=True))
    nearest = dict(zip(index, reference_scores(candidates, normalize), strict=True))
    picks: list[int] = []
    for _ in range(budget):
        pick = max(nearest, key=lambda m: (nearest[m], -m))
        picks.append(pick)
        del nearest[pick]
        nearest = {m: min(distance, math.dist(rows[m], rows[pick])) for m, distance in nearest.items()}
    return picks


def acquire(strategy: Acquisition, candidates: Candidates, budget: int) -> list[int]:
    picks: list[int] = strategy.acquire(candidates, budget, torch.Generator()).index.tolist()
    return picks


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("labelled", [0, 1, 9])
@pytest.mark.parametrize("seed", range(3))
def test_the_picks_equal_those_of_a_loop_over_all_pairs(
    normalize: bool, dtype: torch.dtype, labelled: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(60, 16, generator=generator).relu().to(dtype)
    features[20:26] = features[20].clone()  # the same point six times
    features[3] = 0
    known = torch.randn(labelled, 16, generator=generator).relu().to(dtype)
    known[: labelled // 2] = features[18 : 18 + labelled // 2]  # two candidates and copies of one have a labelled twin
    candidates = make_candidates(features, known, torch.randperm(500, generator=generator)[:60])
    for budget in (1, 12, 60):
        assert acquire(CoreSet(normalize), candidates, budget) == reference_picks(candidates, budget, normalize)


@pytest.mark.parametrize("seed", range(5))
def test_of_equally_far_candidates_the_lower_index_is_first(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(-1, 2, (60, 3), generator=generator).float()
    index = torch.randperm(500, generator=generator)[:60]
    candidates = make_candidates(corners, torch.tensor([[0.0, 0.0, 0.0]]), index)
    assert acquire(CoreSet(), candidates, 40) == reference_picks(candidates, 40)


@pytest.mark.parametrize("normalize", [False, True])
def test_scores_are_the_distances_to_the_nearest_labelled_sample_across_blocks(normalize: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    features, known = torch.randn(2500, 3, generator=generator), torch.randn(1100, 3, generator=generator)
    known[-1] = features[-1]
    rows, centres = (
        torch.tensor(reference_rows(values, normalize), dtype=torch.float64) for values in (features, known)
    )
    expected = (rows.unsqueeze(1) - centres).square().sum(2).sqrt().amin(1)
    scores = scores_of(CoreSet(normalize), make_candidates(features, known))
    torch.testing.assert_close(scores, expected.float())
    assert scores[-1] == 0


def test_a_far_origin_and_tiny_features_change_no_pick() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.randint(0, 2**10, (60, 8), generator=generator).float()
    picks = acquire(CoreSet(), make_candidates(grid[8:], grid[:8]), 20)
    for moved in (grid + 2**14, grid * 2**-80):  # exact in float32
        assert acquire(CoreSet(), make_candidates(moved[8:], moved[:8]), 20) == picks


@pytest.fixture
def matmul_precision() -> Iterator[Callable[[str], None]]:
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@both_strategies
def test_cheaper_products_elsewhere_change_no_distance(
    strategy: CoreSet | CDAL, matmul_precision: Callable[[str], None]
) -> None:
    values = torch.randn(300, 64, generator=torch.Generator().manual_seed(0)) + 10
    candidates = make_candidates(values[100:], values[:100])
    scores, picks = scores_of(strategy, candidates), acquire(strategy, candidates, 50)
    matmul_precision("medium")
    with torch.autocast("cpu", torch.bfloat16):
        assert acquire(strategy, candidates, 50) == picks
        torch.testing.assert_close(scores_of(strategy, candidates), scores, rtol=0, atol=0)


@both_strategies
@pytest.mark.parametrize("labelled", [0, 1, 3])
@pytest.mark.parametrize("columns", [3, 10, 512])
@pytest.mark.parametrize("distinct", [1, 2, 5])
def test_a_pool_of_few_distinct_samples_takes_each_once_and_then_the_lowest_indices(
    strategy: Acquisition, labelled: int, columns: int, distinct: int
) -> None:
    rows = 40 * torch.rand(5, columns, generator=torch.Generator().manual_seed(columns))
    values = rows[torch.arange(50) % distinct]
    picks = acquire(strategy, make_candidates(values, rows[:labelled]), 50)
    new = set(range(distinct)) - set(range(labelled))
    assert set(picks[: len(new)]) == new
    assert picks[len(new) :] == sorted(set(range(50)) - new)


@both_strategies
def test_where_nothing_is_labelled_the_lowest_index_is_first_and_there_are_no_scores(strategy: Acquisition) -> None:
    values = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    candidates = make_candidates(values, values[:0], torch.arange(30).flip(0))
    picks = acquire(strategy, candidates, 30)
    assert picks[0] == 0
    assert sorted(picks) == list(range(30))
    assert strategy.acquire(candidates, 1, torch.Generator()).scores is None


@both_strategies
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_input_that_is_not_finite_is_an_error_that_names_the_sample(strategy: Acquisition, value: float) -> None:
    values = torch.ones(8, 3)
    broken = values.clone()
    broken[1, 2] = value
    with pytest.raises(ValueError, match=r"of sample 40 is (nan|-?inf), not a finite number"):
        acquire(strategy, make_candidates(broken, values, 50 - 10 * torch.arange(8)), 2)
    with pytest.raises(ValueError, match=r"of sample 1001 is (nan|-?inf), not a finite number"):
        acquire(strategy, make_candidates(values, broken), 2)


@both_strategies
def test_rows_of_other_samples_or_of_another_network_are_an_error(strategy: Acquisition) -> None:
    candidates = make_candidates(torch.ones(4, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"one number for each candidate, shape \(4,\); got \(5,\)"):
        acquire(strategy, replace(candidates, logits=torch.ones(5, 2), features=torch.ones(5, 2)), 2)
    with pytest.raises(ValueError, match=r"must come from one network; got shapes \(3, 6\) and \(4, 2\)"):
        acquire(strategy, make_candidates(torch.ones(4, 2), torch.ones(3, 6)), 2)


Watch = Callable[[Callable[[], object]], tuple[Counter[str], int]]


@both_strategies
def test_no_more_is_read_from_another_device_for_a_larger_budget(
    strategy: Acquisition, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "pick_lazily", greedy.pick_eagerly)  # what a device other than the CPU gets
    values = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    candidates = make_candidates(values[10:], values[:10])
    few, _ = watch(lambda: acquire(strategy, candidates, 2))
    many, _ = watch(lambda: acquire(strategy, candidates, 40))
    assert many["addmm"] >= 40
    assert many["_local_scalar_dense"] == few["_local_scalar_dense"] > 0


@both_strategies
def test_the_distances_to_all_labelled_samples_never_exist_at_once(strategy: Acquisition, watch: Watch) -> None:
    values = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    _, largest = watch(lambda: acquire(strategy, make_candidates(values[2000:], values[:2000]), 3))
    assert largest == 1024**2
