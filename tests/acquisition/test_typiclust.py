"""TypiClust against a loop over turns and clusters that measures every pair."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from assl_lightning.acquisition import typiclust
from assl_lightning.acquisition.kmeans import fit_kmeans
from assl_lightning.acquisition.points import feature_points
from assl_lightning.acquisition.typiclust import TypiClust, typicality
from assl_lightning.method.candidates import Candidates
from tests.acquisition.unit_pools import acquire, make_pool, on_circle, read


def reference_typicality(row: list[float], others: list[list[float]], neighbours: int) -> float:
    count = min(neighbours, (len(others) + 1) // 2)
    nearest = sorted(math.dist(row, other) for other in others)[:count]
    return round(1 / (sum(nearest) / max(1, count) + 1e-5), 6)  # so that equal ones tie


def reference_picks(candidates: Candidates, budget: int, seed: int, strategy: TypiClust) -> list[int]:
    """The turns, cluster by cluster; k-means is that of test_kmeans.py, seeded with the first number drawn."""
    reference = read(candidates)
    labelled = set(reference.known_index)
    rows = dict(sorted(zip(reference.index + reference.known_index, reference.rows + reference.known, strict=True)))
    clusters = min(len(labelled) + budget, strategy.max_clusters)
    number = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(seed)))
    points = torch.tensor(list(rows.values()), dtype=torch.float64)
    cluster, _ = fit_kmeans(points, clusters, strategy.kmeans_starts, number, mini_batch=clusters > 50)
    members: dict[int, list[int]] = {}
    for index, c in zip(rows, cluster.tolist(), strict=True):
        members.setdefault(c, []).append(index)
    order = sorted(members.values(), key=lambda group: (len(labelled & set(group)), -len(group), group[0]))
    waiting = [group for group in order if len(group) <= strategy.min_cluster_size]
    picks: list[int] = []
    for groups in ([group for group in order if group not in waiting], waiting):
        left = [[index for index in group if index not in labelled] for group in groups]
        while any(left) and len(picks) < budget:
            for group, candidates_left in zip(groups, left, strict=True):
                if candidates_left and len(picks) < budget:
                    typical = {
                        m: reference_typicality(rows[m], [rows[o] for o in group if o != m], strategy.neighbours)
                        for m in candidates_left
                    }
                    picks.append(max(typical, key=lambda m: (typical[m], -m)))
                    candidates_left.remove(picks[-1])
    return picks


@pytest.mark.parametrize(("rows", "labelled"), [(1, 0), (9, 0), (40, 0), (40, 7), (90, 12)])
@pytest.mark.parametrize(
    "settings", [{}, {"max_clusters": 3, "neighbours": 4, "kmeans_starts": 2}, {"min_cluster_size": 0}]
)
def test_the_picks_equal_those_of_a_loop_over_turns_and_clusters(
    rows: int, labelled: int, settings: dict[str, Any]
) -> None:
    strategy, candidates = TypiClust(**settings), make_pool(rows, labelled, seed=rows + labelled)
    for budget in sorted({1, min(6, rows), rows}):
        assert acquire(strategy, candidates, budget, seed=2) == reference_picks(candidates, budget, 2, strategy)


def test_many_clusters_are_found_in_mini_batches() -> None:
    candidates = make_pool(200, 20, seed=3)
    assert acquire(TypiClust(), candidates, 60) == reference_picks(candidates, 60, 0, TypiClust())


# Eight around 0°, nine around 90° and three around 200°; of each the fifth, or the second, has the nearest neighbours.
FIVE = [-15.0, -10.0, -2.0, -1.0, 0.0, 1.0, 2.0, 10.0]
GROUPS = [*FIVE, *(90 + degrees for degrees in (*FIVE, 15.0)), 199.5, 200.0, 200.4]
TWO, THREE = TypiClust(max_clusters=2, kmeans_starts=3), TypiClust(max_clusters=3, kmeans_starts=3)


def test_the_middle_of_the_largest_cluster_is_first_and_each_cluster_has_its_turn() -> None:
    candidates = on_circle(GROUPS[:17], [])
    assert acquire(TWO, candidates, 2) == [12, 4]
    assert acquire(TWO, candidates, 6) == [12, 4, 11, 3, 13, 5]  # of as typical ones the first


def test_clusters_with_the_fewest_labels_are_first() -> None:
    assert acquire(TWO, on_circle(GROUPS[:17], [90.0]), 2) == [4, 12]
    assert acquire(TWO, on_circle(GROUPS[:17], [90.0, 0.0]), 2) == [12, 4]


def test_small_clusters_wait_until_all_others_are_used_up() -> None:
    candidates = on_circle(GROUPS, [])
    assert acquire(THREE, candidates, 3) == [12, 4, 11]
    assert acquire(replace(THREE, min_cluster_size=2), candidates, 3) == [12, 4, 18]
    assert set(acquire(THREE, candidates, 17)) == set(range(17))
    assert acquire(THREE, candidates, 20)[17:] == [18, 19, 17]


def test_a_cluster_whose_candidates_are_used_up_is_passed_over() -> None:
    candidates = on_circle([*FIVE, 90.0], [86.0, 88.0, 89.0, 91.0, 92.0, 94.0])
    assert acquire(TWO, candidates, 4) == [4, 8, 3, 5]


@pytest.mark.parametrize("block", [1, 50, 2**20])
def test_a_sample_is_typical_by_the_distances_to_its_nearest_half(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typiclust, "_BLOCK", block)
    rows = F.normalize(torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)
    rows[4] = rows[9]
    points = feature_points(rows, torch.arange(30), unit=True)
    for neighbours in (1, 7, 20):
        distance = (rows[:, None] - rows).norm(dim=2)
        expected = 1 / (distance.sort().values[:, 1 : 1 + min(neighbours, 15)].mean(1) + 1e-5)
        torch.testing.assert_close(typicality(points, neighbours), expected, rtol=1e-6, atol=0)
    single = feature_points(rows[:1], torch.arange(1), unit=True)
    torch.testing.assert_close(typicality(single, 20), torch.tensor([1e5], dtype=torch.float64))


def test_copies_are_as_typical_to_the_last_bit_however_near_their_neighbours_are() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(40, 64, generator=generator, dtype=torch.float64), dim=1)
    rows[20:] = F.normalize(rows[:20] + 1e-6 * torch.randn(20, 64, generator=generator, dtype=torch.float64), dim=1)
    row = torch.randperm(160, generator=generator) % 40
    found = typicality(feature_points(rows[row], torch.arange(160), unit=False), 5)
    assert all(len(found[row == number].unique()) == 1 for number in range(40))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_clusters": 0}, "max_clusters must be at least 1; got 0"),
        ({"neighbours": 0}, "neighbours must be at least 1; got 0"),
        ({"kmeans_starts": 0}, "kmeans_starts must be at least 1; got 0"),
        ({"min_cluster_size": -1}, "min_cluster_size must be at least 0; got -1"),
    ],
)
def test_an_argument_out_of_range_is_an_error_that_says_the_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TypiClust(**settings)
