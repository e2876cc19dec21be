"""Top-k, k-means++ seeding and greedy k-centre against slow references written from their definitions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from assl_lightning.method import selection
from assl_lightning.method.selection import (
    FirstCentre,
    RunningTopK,
    ToNearest,
    check_finite,
    chunks,
    draw_position,
    greedy_k_center,
    in_index_order,
    kmeans_plus_plus,
    pick_eagerly,
    pick_lazily,
    seed_outer_products,
    top_k,
)


def reference_top_k(score: list[float], index: list[int], budget: int) -> list[int]:
    """Repeatedly take the largest score; among equals the lower pool index."""
    left, picks = list(zip(score, index, strict=True)), []
    for _ in range(budget):
        best = max(left, key=lambda pair: (pair[0], -pair[1]))
        left.remove(best)
        picks.append(best[1])
    return picks


SCORES = [-math.inf, -1.0, -0.0, 0.0, 0.5, 0.5000001, 2.0, math.inf]


@st.composite
def scored_candidates(draw: st.DrawFn) -> tuple[list[float], list[int], int]:
    """Scores, many of them equal, pool indices in any order, and a budget."""
    score = draw(st.lists(st.sampled_from(SCORES), min_size=1, max_size=16))
    index = draw(st.lists(st.integers(0, 99), min_size=len(score), max_size=len(score), unique=True))
    return score, index, draw(st.integers(1, len(score)))


@given(scored_candidates(), st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_top_k_takes_the_largest_scores_best_first_and_of_equal_ones_the_lower_index(
    case: tuple[list[float], list[int], int], dtype: torch.dtype
) -> None:
    score, index, budget = case
    values = torch.tensor(score, dtype=dtype)
    picks = top_k(values, torch.tensor(index), budget)
    assert picks.dtype == torch.int64
    assert picks.tolist() == reference_top_k(values.tolist(), index, budget)


@given(scored_candidates(), st.lists(st.integers(0, 16)))
def test_scores_that_come_in_chunks_give_the_picks_that_they_give_at_once(
    case: tuple[list[float], list[int], int], cuts: list[int]
) -> None:
    score, index, budget = case
    best = RunningTopK(budget)
    edges = [0, *sorted(cuts), len(score)]
    for rows in map(slice, edges[:-1], edges[1:]):
        best.update(torch.tensor(score)[rows], torch.tensor(index)[rows])
    assert best.seen == len(score)
    assert best.picks().tolist() == reference_top_k(score, index, budget)


@pytest.mark.parametrize("order", ["ascending", "descending", "mixed"])
@pytest.mark.parametrize("levels", [1, 7, 1000])
@pytest.mark.parametrize("budget", [1, 40, 400, 1000])
def test_many_chunks_give_the_picks_of_a_full_sort(budget: int, levels: int, order: str) -> None:
    generator = torch.Generator().manual_seed(budget)
    score = torch.randint(levels, (1000,), generator=generator).float()
    if order != "mixed":
        score = score.sort(descending=order == "descending").values
    index = torch.randperm(5000, generator=generator)[:1000]
    best = RunningTopK(budget)
    for rows in torch.arange(1000).split(10):
        best.update(score[rows], index[rows])
    by_index = index.argsort()
    by_score = score[by_index].argsort(descending=True, stable=True)
    assert torch.equal(best.picks(), index[by_index[by_score[:budget]]])


def test_a_chunk_may_be_written_to_after_it_was_counted_in() -> None:
    best, score, index = RunningTopK(budget=2), torch.tensor([0.5, 0.7]), torch.tensor([4, 9])
    best.update(score, index)
    score.zero_()
    index.zero_()
    assert best.picks().tolist() == [9, 4]


def test_picks_can_be_asked_for_between_chunks() -> None:
    best = RunningTopK(budget=1)
    best.update(torch.tensor([0.5]), torch.tensor([7]))
    assert best.picks().tolist() == [7]
    best.update(torch.tensor([0.5, 0.1]), torch.tensor([3, 1]))
    assert best.picks().tolist() == [3]
    best.update(torch.tensor([]), torch.tensor([], dtype=torch.int64))
    assert best.picks().tolist() == [3]


def test_fewer_candidates_than_the_budget_are_an_error_when_the_picks_are_asked_for() -> None:
    best = RunningTopK(budget=3)
    best.update(torch.zeros(2), torch.arange(2))
    with pytest.raises(ValueError, match="budget of 3 samples exceeds the 2 candidates"):
        best.picks()
    with pytest.raises(ValueError, match="budget of 1 samples exceeds the 0 candidates"):
        RunningTopK(budget=1).picks()


def test_chunks_are_consecutive_and_hold_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_CHUNK", 3)
    assert [list(range(7))[rows] for rows in chunks(7)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [list(range(6))[rows] for rows in chunks(6)] == [[0, 1, 2], [3, 4, 5]]
    assert list(chunks(0)) == []


def test_top_k_works_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_CHUNK", 4)
    score = torch.tensor([0.5, 0.1, 0.9, 0.9, 0.5, 0.9, 0.0, 0.5, 0.7])
    index = torch.tensor([11, 4, 30, 8, 2, 9, 1, 40, 3])
    assert top_k(score, index, 6).tolist() == [8, 9, 30, 3, 2, 11]


def test_a_score_that_is_no_number_is_named_however_late_it_comes_and_however_full_the_budget_is() -> None:
    best = RunningTopK(budget=1)
    best.update(torch.tensor([5.0, 4.0, 3.0]), torch.tensor([9, 8, 5]))
    best.update(torch.tensor([1.0, math.nan]), torch.tensor([6, 7]))
    best.update(torch.tensor([math.nan, math.nan]), torch.tensor([12, 2]))
    best.update(torch.tensor([9.0, math.nan]), torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"score of sample 2 is nan, not a number \(nor is that of 3 others\)"):
        best.picks()


@pytest.mark.gpu
@pytest.mark.parametrize("device_of_index", ["cpu", "cuda"])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_scores_on_a_gpu_give_the_picks_of_the_cpu(levels: int, device_of_index: str) -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(levels, (10**6,), generator=generator).float()
    index = torch.randperm(10**6, generator=generator)
    picks = top_k(score.cuda(), index.to(device_of_index), 1000)
    assert picks.device.type == "cpu"
    assert torch.equal(picks, top_k(score, index, 1000))


def test_a_score_that_is_no_number_is_an_error_that_names_the_lowest_index() -> None:
    score = torch.tensor([0.0, torch.nan, torch.nan, torch.inf])
    with pytest.raises(ValueError, match=r"score of sample 3 is nan, not a number \(nor is that of 1 others\)"):
        top_k(score, torch.tensor([1, 8, 3, 5]), budget=1)


def test_a_value_that_is_not_finite_is_an_error_that_names_the_lowest_index() -> None:
    with pytest.raises(ValueError, match="weight of sample 5 is inf, not a finite number"):
        check_finite("weight", torch.tensor([0.0, torch.nan, torch.inf]), torch.tensor([1, 8, 5]))
    check_finite("weight", torch.tensor([0.0, 1.0]), torch.tensor([1, 8]))


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_below_one_is_an_error(budget: int) -> None:
    with pytest.raises(ValueError, match=f"budget must be at least 1 sample; got {budget}"):
        top_k(torch.zeros(3), torch.arange(3), budget)
    with pytest.raises(ValueError, match=f"budget must be at least 1 sample; got {budget}"):
        RunningTopK(budget)
    with pytest.raises(ValueError, match=f"budget must be at least 1 sample; got {budget}"):
        seed_points(torch.zeros(3, 2), budget)


def test_a_budget_above_the_candidates_is_an_error_that_names_both() -> None:
    with pytest.raises(ValueError, match="budget of 4 samples exceeds the 3 candidates"):
        top_k(torch.zeros(3), torch.arange(3), 4)
    with pytest.raises(ValueError, match="budget of 4 samples exceeds the 3 candidates"):
        seed_points(torch.zeros(3, 2), 4)


@pytest.mark.parametrize("shape", [(2,), (3, 1), ()])
def test_scores_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"score must be one number for each candidate, shape \(3,\); got"):
        top_k(torch.zeros(shape), torch.arange(3), 1)
    with pytest.raises(ValueError, match=r"score must be one number for each candidate, shape \(3,\); got"):
        RunningTopK(1).update(torch.zeros(shape), torch.arange(3))


def test_rows_follow_the_index_into_ascending_order_and_are_not_copied_when_they_are_in_it() -> None:
    index, row = torch.tensor([5, 1, 3]), torch.tensor([50.0, 10.0, 30.0])
    ascending, moved = in_index_order(index, row)
    assert ascending.tolist() == [1, 3, 5]
    assert moved.tolist() == [10.0, 30.0, 50.0]
    assert in_index_order(ascending, moved)[1] is moved


def seed_points(points: Tensor, budget: int, seed: int | torch.Generator = 0, first: FirstCentre = "norm") -> list[int]:
    points = points.double()
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    picks: list[int] = kmeans_plus_plus(
        points.square().sum(1),
        lambda centre: (points - points[centre]).square().sum(1),
        budget,
        generator,
        first,
    ).tolist()
    return picks


def reference_kmeans_plus_plus(points: list[list[float]], budget: int, seed: int, first: FirstCentre) -> list[int]:
    """D² seeding, a loop in float64 over its definition; one number for each pick (unused by a "norm" start)."""
    picks: list[int] = []
    for number in torch.rand(budget, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).tolist():
        if not picks and first == "norm":
            norms = [sum(x * x for x in point) for point in points]
            picks.append(norms.index(max(norms)))
            continue
        weights = [
            0.0 if m in picks else min((math.dist(point, points[j]) ** 2 for j in picks), default=1.0)
            for m, point in enumerate(points)
        ]
        if sum(weights) == 0:
            weights = [float(m not in picks) for m in range(len(points))]
        threshold, running = number * sum(weights), 0.0
        for m, weight in enumerate(weights):
            running += weight
            if running > threshold:
                picks.append(m)
                break
    return picks


def form_outer_products(features: Tensor, factors: Tensor) -> Tensor:
    """(M, d), (M, k) → (M, d·k) float64: what `seed_outer_products` never forms."""
    return (features.double().unsqueeze(2) * factors.double().unsqueeze(1)).flatten(1)


def seed_products(
    features: Tensor, factors: Tensor, budget: int, seed: int = 0, first: FirstCentre = "norm"
) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    picks: list[int] = seed_outer_products(features, factors.double(), budget, generator, first).tolist()
    return picks


@pytest.mark.parametrize("first", ["norm", "uniform"])
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("budget", [1, 7, 30])
def test_the_seeding_equals_the_loop_over_its_definition(first: FirstCentre, seed: int, budget: int) -> None:
    points = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(100 + seed))
    points[7:20] = points[7]  # many duplicates, so that a budget of 30 meets a total of 0
    assert seed_points(points, budget, seed, first) == reference_kmeans_plus_plus(points.tolist(), budget, seed, first)


@pytest.mark.parametrize("first", ["norm", "uniform"])
def test_second_picks_are_drawn_in_proportion_to_the_squared_distance(first: FirstCentre) -> None:
    points = torch.tensor([[3.0, 0.0], [0.0, 1.0], [2.0, 0.0], [3.0, 1.0]])
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(4, 4)
    for _ in range(4000):
        a, b = seed_points(points, 2, generator, first)
        counts[a, b] += 1
    starts = counts.sum(1)
    if first == "norm":
        assert starts.tolist() == [0.0, 0.0, 0.0, 4000.0]
    else:
        assert stats.chisquare(starts.numpy()).pvalue > 1e-3
    for centre in range(4):
        distance = torch.cdist(points[centre : centre + 1], points)[0].square()
        assert counts[centre, centre] == 0
        others = distance > 0
        if starts[centre] > 0:
            expected = starts[centre] * distance[others].double() / distance[others].double().sum()
            assert stats.chisquare(counts[centre][others].numpy(), expected.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("first", ["norm", "uniform"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("seed", range(3))
def test_the_seeding_of_outer_products_equals_the_loop_over_products_that_are_formed(
    first: FirstCentre, dtype: torch.dtype, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(100 + seed)
    features = torch.randn(50, 12, generator=generator).to(dtype)
    factors = torch.randn(50, columns, dtype=torch.float64, generator=generator) ** 3  # of very different lengths
    features[20:26], factors[20:26] = features[20].clone(), factors[20].clone()  # the same point six times
    features[3], factors[4] = 0, 0
    points = form_outer_products(features, factors).tolist()
    for budget in (1, 12, 50):
        expected = reference_kmeans_plus_plus(points, budget, seed, first)
        assert seed_products(features, factors, budget, seed, first) == expected


dimensions = pytest.mark.parametrize(("feature_dim", "columns"), [(16, 1), (512, 10), (2048, 1), (2048, 10)])


def make_rows(rows: int, feature_dim: int, columns: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(feature_dim + columns)
    return torch.rand(rows, feature_dim, generator=generator), torch.randn(rows, columns, generator=generator)


@dimensions
def test_copies_of_a_chosen_product_are_left_until_nothing_else_is_however_near(feature_dim: int, columns: int) -> None:
    features, factors = make_rows(3, feature_dim, columns)
    features = features[0] * (1 + 0.01 * features)  # three points so near that the sum of 99 roundings would show
    copies = torch.tensor([0] * 99 + [1, 2])
    for seed in range(10):
        assert {99, 100} < set(seed_products(features[copies], factors[copies * 0], 3, seed))


@dimensions
def test_copies_of_one_product_are_drawn_uniformly_not_by_what_rounding_left_of_their_distance(
    feature_dim: int, columns: int
) -> None:
    features, factors = (row.repeat(30, 1) for row in make_rows(1, feature_dim, columns))
    for seed in range(3):
        expected = reference_kmeans_plus_plus([[1.0]] * 30, 6, seed, "norm")
        assert seed_products(features, factors, 6, seed) == expected


@pytest.mark.parametrize("first", ["norm", "uniform"])
@pytest.mark.parametrize(
    ("features", "factors"),
    [
        (torch.zeros(6, 3), torch.ones(6, 1)),
        (torch.eye(6), torch.zeros(6, 2)),
        (torch.linspace(0, 1, 512).repeat(6, 1), torch.ones(6, 3)),
        (torch.eye(2)[[0, 1] * 3], torch.full((6, 1), 0.7)),
        (torch.eye(6)[:, :3], torch.ones(6, 2)),
        (torch.eye(6).double(), torch.tensor([[1e150]] * 3 + [[1e-150]] * 3, dtype=torch.float64)),
    ],
    ids=["no features", "no factors", "all the same", "two points", "half at the origin", "of very different length"],
)
def test_degenerate_points_still_give_distinct_picks(first: FirstCentre, features: Tensor, factors: Tensor) -> None:
    for seed in range(20):
        for budget in (1, 3, 6):
            for picks in (
                seed_points(form_outer_products(features, factors), budget, seed, first),
                seed_products(features, factors, budget, seed, first),
            ):
                assert len(set(picks)) == budget
                assert set(picks) <= set(range(6))


def test_of_equally_long_points_the_first_in_order_starts() -> None:
    points = torch.tensor([[0.0, 1.0], [3.0, 4.0], [5.0, 0.0]])
    assert seed_points(points, 1) == seed_products(points, torch.ones(3, 1), 1) == [1]


@pytest.mark.parametrize("first", ["norm", "uniform"])
def test_the_seeding_waits_for_the_device_at_no_pick_and_forms_no_outer_product(
    first: FirstCentre, watch: Callable[[Callable[[], object]], tuple[Counter[str], int]]
) -> None:
    features, factors = make_rows(40, 8, 4)
    generator = torch.Generator().manual_seed(0)
    calls, largest = watch(lambda: seed_outer_products(features, factors.double(), 40, generator, first))
    assert calls["cumsum"] >= 39
    assert calls.keys() & {"_local_scalar_dense", "nonzero", "masked_select", "equal"} == set()
    assert largest <= features.numel()


def test_distances_that_rounding_made_negative_count_as_zero() -> None:
    def squared_distance(centre: Tensor) -> Tensor:
        return torch.tensor([0.0, -9.0, 4.0], dtype=torch.float64)

    for seed in range(20):
        norms = torch.tensor([9.0, 1.0, 1.0], dtype=torch.float64)
        picks = kmeans_plus_plus(norms, squared_distance, 2, torch.Generator().manual_seed(seed))
        assert picks.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("uniform", "position"), [(0.0, 1), (0.249, 1), (0.251, 2), (0.999, 2), (1.0, 2)]
)  # 1.0: what uniform · total may round to
def test_a_position_of_weight_zero_is_never_drawn(uniform: float, position: int) -> None:
    weight = torch.tensor([0.0, 1.0, 3.0, 0.0], dtype=torch.float64)
    assert int(draw_position(weight, torch.tensor(uniform, dtype=torch.float64))) == position


def reference_greedy_k_center(nearest: list[float], distance: list[list[float]], budget: int) -> list[int]:
    """A loop over the definition: `distance[b][a]` is that of point a to centre b."""
    picks: list[int] = []
    for _ in range(budget):
        left = {
            a: min(near, *(distance[b][a] for b in picks), near) for a, near in enumerate(nearest) if a not in picks
        }
        picks.append(max(left, key=lambda a: (left[a], -a)))
    return picks


EXACT = "donot_use_mm_for_euclid_dist"
PICK = [greedy_k_center, pick_lazily, pick_eagerly]


def from_table(distance: Tensor) -> ToNearest:
    """`distance[b][a]` is that of point a to centre b."""

    def to_nearest(rows: Tensor | None, centres: Tensor) -> Tensor:
        return distance[centres][:, slice(None) if rows is None else rows].amin(0)

    return to_nearest


@pytest.mark.parametrize("pick", PICK)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("budget", [1, 2, 9, 30])
@pytest.mark.parametrize("largest", [3, 1000])  # many equal distances, and few
@pytest.mark.parametrize("centres", [True, False])
def test_greedy_k_center_equals_the_loop_over_its_definition(
    pick: Callable[[Tensor, ToNearest, int], Tensor], seed: int, budget: int, largest: int, centres: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    distance = torch.randint(0, largest, (30, 30), generator=generator).double()
    nearest = (
        torch.randint(0, largest, (30,), generator=generator).double() if centres else torch.full((30,), torch.inf)
    ).to(distance)
    picks = pick(nearest.clone(), from_table(distance), budget)
    assert picks.dtype == torch.int64
    assert picks.tolist() == reference_greedy_k_center(nearest.tolist(), distance.tolist(), budget)


@pytest.mark.parametrize("largest", [4, 10**6])
def test_picking_lazily_among_many_points_is_picking_eagerly(largest: int) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(0, largest, (3_000, 3), generator=generator).double()

    def to_nearest(rows: Tensor | None, centres: Tensor) -> Tensor:
        return torch.cdist(points if rows is None else points[rows], points[centres], 2.0, EXACT).amin(1)

    nearest = torch.full((3_000,), torch.inf, dtype=torch.float64)
    lazily, eagerly = (pick(nearest.clone(), to_nearest, 400) for pick in (pick_lazily, pick_eagerly))
    assert lazily.tolist() == eagerly.tolist()


def test_picking_lazily_brings_few_points_up_to_date() -> None:
    generator = torch.Generator().manual_seed(0)
    points, asked = torch.randn(5_000, 64, generator=generator), []

    def to_nearest(rows: Tensor | None, centres: Tensor) -> Tensor:
        assert rows is not None
        asked.append(len(rows))
        return torch.cdist(points[rows], points[centres]).amin(1)

    pick_lazily(torch.cdist(points, points[:100]).amin(1), to_nearest, 100)
    assert sum(asked) < 5_000 * 100 / 10


def test_without_a_centre_the_first_position_is_the_first_pick() -> None:
    points = torch.tensor([2.0, 9.0, 0.0, 8.0])
    picks = greedy_k_center(torch.full((4,), torch.inf), from_table((points - points[:, None]).abs()), 4)
    assert picks.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_where_all_points_are_one_the_picks_follow_the_order(value: float) -> None:
    picks = greedy_k_center(torch.full((6,), value), from_table(torch.zeros(6, 6)), 6)
    assert picks.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_point_far_from_itself_is_picked_once_and_the_given_distances_are_left_as_they_were() -> None:
    nearest = torch.tensor([1.0, 3.0, 2.0])
    assert greedy_k_center(nearest, from_table(torch.full((3, 3), 9.0)), 3).tolist() == [1, 2, 0]
    assert nearest.tolist() == [1.0, 3.0, 2.0]


@pytest.mark.parametrize(
    ("budget", "message"), [(0, "at least 1 sample; got 0"), (4, "4 samples exceeds the 3 candidates")]
)
def test_greedy_k_center_checks_its_budget(budget: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        greedy_k_center(torch.zeros(3), from_table(torch.zeros(3, 3)), budget)
