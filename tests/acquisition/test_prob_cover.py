"""ProbCover against a loop that counts, before each pick, whom each candidate would newly cover."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from assl_lightning.acquisition.kmeans import fit_kmeans
from assl_lightning.acquisition.prob_cover import ProbCover, pure_radius
from assl_lightning.method.candidates import Candidates
from tests.acquisition.unit_pools import Reference, acquire, inside, make_pool, on_circle, read


def reference_picks(reference: Reference, budget: int, radius: float) -> list[int]:
    """Indices in the order of the picks, until everything is covered."""
    rows = dict(zip(reference.index, reference.rows, strict=True))
    covered = {m for m in rows if any(inside(rows[m], centre, radius) for centre in reference.known)}
    picks: list[int] = []
    for _ in range(budget):
        new = {m: {o for o in rows if inside(rows[m], rows[o], radius)} - covered for m in rows}
        pick = max(new, key=lambda m: (len(new[m]), -m))
        if not new[pick]:
            break
        covered |= new[pick]
        picks.append(pick)
    return picks


def reference_radius(reference: Reference, clusters: int, purity: float, generator: torch.Generator) -> float:
    """The largest of all distances between two candidates, or 2, for which enough balls hold one cluster only."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    cluster, _ = fit_kmeans(torch.tensor(reference.rows, dtype=torch.float64), clusters, 1, seed)
    kinds = list(zip(reference.rows, cluster.tolist(), strict=True))

    def share(radius: float) -> float:
        pure = [all(kind == own for b, kind in kinds if math.dist(a, b) < radius * (1 - 1e-9)) for a, own in kinds]
        return sum(pure) / len(pure)

    distances = sorted({2.0, *(math.dist(a, b) for a in reference.rows for b in reference.rows)}, reverse=True)
    return next(radius for radius in distances if share(radius) >= purity)


@pytest.mark.parametrize(("rows", "labelled"), [(1, 0), (8, 0), (60, 0), (60, 5), (130, 20)])
@pytest.mark.parametrize("radius", [0.1, 0.4, 1.2])
def test_the_picks_equal_those_of_a_loop_over_all_pairs(rows: int, labelled: int, radius: float) -> None:
    candidates = make_pool(rows, labelled, seed=rows)
    reference = read(candidates)
    for budget in sorted({1, min(7, rows), rows}):
        expected = reference_picks(reference, budget, radius)
        picks = acquire(ProbCover(3, delta=radius), candidates, budget)
        assert picks[: len(expected)] == expected
        assert len(set(picks)) == budget


@pytest.mark.parametrize("purity", [0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize(("rows", "labelled"), [(1, 0), (8, 2), (40, 5)])
def test_an_estimated_radius_is_the_largest_at_which_enough_balls_are_pure(
    rows: int, labelled: int, purity: float
) -> None:
    candidates = make_pool(rows, labelled, seed=rows)
    reference = read(candidates)
    radius = reference_radius(reference, 3, purity, torch.Generator().manual_seed(4))
    expected = reference_picks(reference, min(7, rows), radius)
    assert acquire(ProbCover(3, purity=purity), candidates, min(7, rows), seed=4)[: len(expected)] == expected


def test_a_share_of_the_balls_may_be_impure_but_not_more() -> None:
    to_other = torch.arange(1, 101, dtype=torch.float64).flip(0) / 100
    assert pure_radius(to_other, 1.0) == 0.01
    assert pure_radius(to_other, 0.95) == 0.06
    assert pure_radius(to_other, 0.07) == 0.94
    assert pure_radius(to_other, 1e-12) == 1.0
    assert pure_radius(torch.tensor([torch.inf, torch.inf]), 0.95) == 2.0


# Five, three and one, with the middle of each at 0°, 90° and 200°; a ball of 0.1 reaches 5.7°.
GROUPS = [0.0, -5.0, -2.0, 2.0, 5.0, 87.0, 90.0, 93.0, 200.0]
NARROW = ProbCover(3, delta=0.1)


def test_the_middle_of_the_largest_neighbourhood_is_first_and_what_is_covered_counts_no_more() -> None:
    assert acquire(NARROW, on_circle(GROUPS, []), 3) == [0, 6, 8]
    assert acquire(NARROW, on_circle(GROUPS, [0.0]), 2) == [6, 8]
    assert acquire(NARROW, on_circle(GROUPS, [-4.0]), 2) == [6, 0]  # 2° and 5° are not within 5.7° of -4°


def test_where_everything_is_covered_the_rest_is_drawn_uniformly() -> None:
    candidates = on_circle(GROUPS, [])
    drawn = [acquire(NARROW, candidates, 5, seed) for seed in range(60)]
    assert all(picks[:3] == [0, 6, 8] and len(set(picks)) == 5 for picks in drawn)
    assert {pick for picks in drawn for pick in picks} == set(range(9))
    of_copies = [acquire(NARROW, on_circle([30.0] * 6, [30.0]), 2, seed) for seed in range(60)]
    assert {pick for picks in of_copies for pick in picks} == set(range(6))


def test_nothing_is_drawn_for_a_given_radius_while_something_is_not_covered() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    NARROW.acquire(on_circle(GROUPS, []), 2, generator)
    draws = generator.get_state()
    assert torch.equal(draws, before)


@pytest.mark.parametrize(("max_candidates", "drawn"), [(25, 25), (4, 9)])
def test_of_a_pool_that_is_too_large_as_many_are_drawn_and_only_they_count(max_candidates: int, drawn: int) -> None:
    candidates = make_pool(60, 0, seed=5)
    nodes = torch.randperm(60, generator=torch.Generator().manual_seed(8))[:drawn]
    few = take(candidates, candidates.index.argsort()[nodes.sort().values])
    expected = reference_picks(read(few), 9, 0.05)
    assert (
        acquire(ProbCover(3, delta=0.05, max_candidates=max_candidates), candidates, 9, seed=8)[: len(expected)]
        == expected
    )
    assert len(expected) > 6


def take(candidates: Candidates, rows: torch.Tensor) -> Candidates:
    assert candidates.features is not None
    assert candidates.logits is not None
    return Candidates(
        candidates.index[rows], None, candidates.logits[rows], candidates.features[rows], candidates.labelled
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delta": 0}, r"delta must be a distance between vectors of length 1, in \(0, 2\], or None; got 0.0"),
        ({"delta": 2.1}, r"in \(0, 2\], or None; got 2.1"),
        ({"delta": math.nan}, "delta must be a finite number; got nan"),
        ({"purity": 0.0}, r"purity must be in \(0, 1\]; got 0.0"),
        ({"purity": 1.5}, r"in \(0, 1\]; got 1.5"),
        ({"max_candidates": 0}, "max_candidates must be at least 1; got 0"),
        ({"num_clusters": 0}, "num_clusters must be at least 1; got 0"),
    ],
)
def test_an_argument_out_of_range_is_an_error_that_says_the_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbCover(**{"num_clusters": 3, **settings})
