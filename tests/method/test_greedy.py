"""Greedy picks against a slow reference written from their definition, which is that of k-centre; the strategies are in
files of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from assl_lightning.method.greedy import Refresh, pick_eagerly, pick_greedily, pick_lazily


def reference_picks(nearest: list[float], distance: list[list[float]], budget: int) -> list[int]:
    """A loop over the definition: `distance[b][a]` is that of point a to centre b."""
    picks: list[int] = []
    for _ in range(budget):
        left = {
            a: min(near, *(distance[b][a] for b in picks), near) for a, near in enumerate(nearest) if a not in picks
        }
        picks.append(max(left, key=lambda a: (left[a], -a)))
    return picks


EXACT = "donot_use_mm_for_euclid_dist"

PICK = [pick_greedily, pick_lazily, pick_eagerly]


def from_table(distance: Tensor) -> Refresh:
    """`distance[b][a]` is that of point a to centre b."""

    def to_nearest(rows: Tensor | None, centres: Tensor) -> Tensor:
        return distance[centres][:, slice(None) if rows is None else rows].amin(0)

    return to_nearest


@pytest.mark.parametrize("pick", PICK)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("budget", [1, 2, 9, 30])
@pytest.mark.parametrize("largest", [3, 1000])  # many equal distances, and few
@pytest.mark.parametrize("centres", [True, False])
def test_pick_greedily_equals_the_loop_over_its_definition(
    pick: Callable[[Tensor, Refresh, int], Tensor], seed: int, budget: int, largest: int, centres: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    distance = torch.randint(0, largest, (30, 30), generator=generator).double()
    nearest = (
        torch.randint(0, largest, (30,), generator=generator).double() if centres else torch.full((30,), torch.inf)
    ).to(distance)
    picks = pick(nearest.clone(), from_table(distance), budget)
    assert picks.dtype == torch.int64
    assert picks.tolist() == reference_picks(nearest.tolist(), distance.tolist(), budget)


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
    picks = pick_greedily(torch.full((4,), torch.inf), from_table((points - points[:, None]).abs()), 4)
    assert picks.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_where_all_points_are_one_the_picks_follow_the_order(value: float) -> None:
    picks = pick_greedily(torch.full((6,), value), from_table(torch.zeros(6, 6)), 6)
    assert picks.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_point_far_from_itself_is_picked_once_and_the_given_distances_are_left_as_they_were() -> None:
    nearest = torch.tensor([1.0, 3.0, 2.0])
    assert pick_greedily(nearest, from_table(torch.full((3, 3), 9.0)), 3).tolist() == [1, 2, 0]
    assert nearest.tolist() == [1.0, 3.0, 2.0]


@pytest.mark.parametrize(
    ("budget", "message"), [(0, "at least 1 sample; got 0"), (4, "4 samples exceeds the 3 candidates")]
)
def test_pick_greedily_checks_its_budget(budget: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pick_greedily(torch.zeros(3), from_table(torch.zeros(3, 3)), budget)
