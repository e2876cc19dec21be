"""k-means++ seeding against a slow reference written from its definition."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from assl_lightning.method.d2_sampling import FirstCentre, draw_position, kmeans_plus_plus, seed_outer_products


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


@pytest.mark.parametrize(
    ("budget", "message"), [(0, "at least 1 sample; got 0"), (4, "4 samples exceeds the 3 candidates")]
)
def test_a_budget_that_the_points_cannot_fill_is_an_error(budget: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seed_points(torch.zeros(3, 2), budget)
