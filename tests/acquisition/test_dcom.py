"""DCoM against loops over labelled samples, radii and candidates."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from assl_lightning.acquisition import dcom
from assl_lightning.acquisition.dcom import DCoM, pure_radii
from assl_lightning.acquisition.points import feature_points
from tests.acquisition.unit_pools import Reference, acquire, inside, make_pool, on_circle, read


def coverage(reference: Reference, radii: list[float]) -> tuple[set[int], float]:
    """Positions of covered candidates, and the share of everything that is covered: labelled samples are."""
    covered = {
        m
        for m, row in enumerate(reference.rows)
        if any(inside(row, centre, radius) for centre, radius in zip(reference.known, radii, strict=True))
    }
    both = len(reference.rows) + len(reference.known)
    return covered, (len(covered) + len(reference.known)) / both


def reference_radii(reference: Reference, strategy: DCoM) -> list[float]:
    _, share = coverage(reference, [strategy.initial_delta] * len(reference.known))
    everyone = [*reference.rows, *reference.known]
    predicted = [max(range(len(z)), key=z.__getitem__) for z in [*reference.logits, *reference.known_logits]]
    radii = []
    for centre, label in zip(reference.known, reference.label, strict=True):
        low, high = 0.0, strategy.max_delta
        while high - low > strategy.resolution:
            middle = (low + high) / 2
            members = [p for row, p in zip(everyone, predicted, strict=True) if inside(centre, row, middle)]
            if members.count(label) / len(members) >= 0.2 * share + 0.4:
                low = middle
            else:
                high = middle
        radii.append((low + high) / 2)
    return radii


def to_unit_range(values: list[float]) -> list[float]:
    least, largest = min(values), max(values)
    return [(value - least) / ((largest - least) or 1.0) for value in values]


def one_minus_margin(logits: list[float]) -> float:
    powers = [math.exp(z - max(logits)) for z in logits]
    second, first = sorted(powers)[-2:]
    return 1 - float(np.float32((first - second) / sum(powers)))  # compared at 24 bits


def reference_picks(reference: Reference, budget: int, strategy: DCoM) -> list[int]:
    radii = reference_radii(reference, strategy)
    covered, share = coverage(reference, radii)
    radius = sum(radii) / len(radii) if radii else strategy.initial_delta
    k, a = strategy.steepness, strategy.midpoint
    competence = (1 + math.exp(-k * (1 - a))) / (1 + math.exp(-k * (share - a)))
    rows = reference.rows
    picks: list[int] = []
    margin = to_unit_range([one_minus_margin(logits) for logits in reference.logits])
    for _ in range(budget):
        balls = [{m for m, other in enumerate(rows) if inside(row, other, radius)} for row in rows]
        gain = to_unit_range([float(len(ball - covered)) for ball in balls])
        score = [competence * e + (1 - competence) * r for e, r in zip(margin, gain, strict=True)]
        pick = max(set(range(len(rows))) - set(picks), key=lambda m: (float(f"{score[m]:.7g}"), -m))
        covered |= balls[pick]
        picks.append(pick)
    return [reference.index[pick] for pick in picks]


@pytest.mark.parametrize(("rows", "labelled"), [(1, 0), (8, 2), (60, 0), (60, 5), (110, 15)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"initial_delta": 0.2, "steepness": 3, "midpoint": 0.5},
        {"max_delta": 0.3, "resolution": 0.01, "steepness": 5.0},
        {"max_delta": 0.2, "resolution": 0.5},
    ],
)
def test_the_picks_equal_those_of_loops(rows: int, labelled: int, settings: dict[str, Any]) -> None:
    strategy, candidates = DCoM(**settings), make_pool(rows, labelled, seed=rows)
    reference = read(candidates)
    for budget in sorted({1, min(9, rows), rows}):
        assert acquire(strategy, candidates, budget) == reference_picks(reference, budget, strategy)


@pytest.mark.parametrize("block", [1, 2**20])
def test_radii_are_those_of_a_bisection_by_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dcom, "_BLOCK", block)
    strategy, reference = DCoM(resolution=0.01), read(make_pool(80, 12, seed=6))
    rows, known = (torch.tensor(v, dtype=torch.float64) for v in ([*reference.rows, *reference.known], reference.known))
    _, share = coverage(reference, [0.75] * 12)
    found = pure_radii(
        feature_points(known, torch.arange(12), unit=True),
        torch.tensor(reference.label),
        feature_points(rows, torch.arange(92), unit=True),
        torch.tensor([*reference.logits, *reference.known_logits]).argmax(1),
        share=0.2 * share + 0.4,
        resolution=0.01,
        largest=1.1,
    )
    expected = reference_radii(reference, strategy)
    assert found.tolist() == pytest.approx(expected)
    assert len(set(expected)) > 3


def test_a_ball_grows_while_enough_of_it_is_predicted_as_its_label() -> None:
    # 0°, then four of class 0 up to 8°, then class 1 from 30° on: of seven members, five are of class 0.
    candidates = on_circle([2.0, 4.0, 6.0, 8.0, 30.0, 32.0, 34.0, 36.0, 38.0, 40.0], [0.0], [0] * 4 + [1] * 6 + [0])
    vectors = torch.tensor(read(candidates).rows + read(candidates).known, dtype=torch.float64)
    points = feature_points(vectors, torch.arange(11), unit=True)
    predicted = torch.tensor([0] * 4 + [1] * 6 + [0])
    arguments = {"resolution": 1e-4, "largest": 1.1}
    for share, last_inside in ((0.7, 34.0), (0.45, 1e9), (0.9, 30.0)):
        radius = pure_radii(
            points.at(torch.tensor([10])), torch.tensor([0]), points, predicted, share=share, **arguments
        )
        expected = min(1.1, 2 * math.sin(math.radians(min(last_inside, 180.0)) / 2))
        assert float(radius) == pytest.approx(expected, abs=2e-4)


# Five around 0° that are certain, three around 90° that are not, the third the least.
GROUPS = [0.0, -5.0, -2.0, 2.0, 5.0, 87.0, 90.0, 93.0]
NARROW = DCoM(initial_delta=0.1, max_delta=0.1)
LOGITS = torch.tensor([[9.0, 0, 0]] * 5 + [[1.0, 0, 0], [0.8, 0, 0], [0.1, 0, 0]])


def test_while_little_is_covered_the_largest_neighbourhood_is_first() -> None:
    candidates = replace(on_circle(GROUPS, []), logits=LOGITS)
    assert acquire(NARROW, candidates, 2) == [0, 6]
    assert acquire(NARROW, candidates, 8)[2:] == [7, 5, 1, 2, 3, 4], "then by what s = 10⁻¹⁷ leaves of the margin"


def test_where_all_is_covered_the_least_margin_is_first() -> None:
    candidates = replace(on_circle(GROUPS, [0.0, 90.0]), logits=LOGITS)
    assert acquire(DCoM(initial_delta=0.1), candidates, 4) == [7, 6, 5, 0]


def test_a_label_that_the_model_does_not_predict_covers_next_to_nothing() -> None:
    fine = replace(NARROW, resolution=0.01)
    assert acquire(fine, on_circle(GROUPS, [1.0], [1] * 9), 1) == [0]
    assert acquire(fine, on_circle(GROUPS, [1.0]), 1) == [6]


def test_of_a_pool_that_is_too_large_as_many_are_drawn() -> None:
    candidates = make_pool(60, 6, seed=5)
    nodes = torch.randperm(60, generator=torch.Generator().manual_seed(8))[:25]
    drawn = set(candidates.index.sort().values[nodes].tolist())
    assert set(acquire(DCoM(max_candidates=25), candidates, 20, seed=8)) <= drawn
    assert len(set(acquire(DCoM(max_candidates=25), candidates, 60))) == 60


def test_coverage_is_a_share_of_the_whole_pool_though_few_of_it_are_drawn() -> None:
    # Thirty copies and ten others, of which five are drawn; the lower the index, the less certain, or the other way.
    degrees, sure = [0.0] * 30 + [90.0] * 10, torch.arange(40)[:, None] * torch.tensor([0.1, 0.0, 0.0])
    nodes = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:5].sort().values
    assert nodes[-2] < 30 <= nodes[-1]
    few = DCoM(max_candidates=5, steepness=200.0, midpoint=0.3, max_delta=0.1)
    mostly_covered = replace(on_circle(degrees, [0.0]), logits=sure)
    assert acquire(few, mostly_covered, 1, seed=1) == [int(nodes[0])], "the least certain"
    not_covered = replace(on_circle(degrees, [200.0] * 5), logits=sure.flip(0))
    assert acquire(few, not_covered, 1, seed=1) == [int(nodes[0])], "one of the many"


def test_the_competence_rises_around_the_midpoint_and_is_one_for_a_whole_pool() -> None:
    assert DCoM()._competence(1.0) == 1.0
    assert DCoM()._competence(0.8) == pytest.approx(0.5, rel=1e-4)
    assert DCoM()._competence(0.0) == pytest.approx(math.exp(-40), rel=1e-4)
    assert DCoM(steepness=1e6)._competence(0.0) == 0.0


def test_logits_that_are_not_finite_or_not_there_are_an_error() -> None:
    candidates = make_pool(20, 6, seed=0)
    assert candidates.logits is not None
    assert candidates.labelled is not None
    assert candidates.labelled.logits is not None
    logits, known = candidates.logits.clone(), candidates.labelled.logits.clone()
    logits[7, 1] = known[2, 0] = torch.nan
    with pytest.raises(ValueError, match=f"largest logit of sample {int(candidates.index[7])} is nan, not a finite"):
        acquire(DCoM(), replace(candidates, logits=logits), 5)
    for of_labelled, message in (
        (known, f"largest logit of sample {int(candidates.labelled.index[2])} is nan, not a finite"),
        (None, r"needs labelled\.logits, which is None"),
    ):
        with pytest.raises(ValueError, match=message):
            acquire(DCoM(), replace(candidates, labelled=replace(candidates.labelled, logits=of_labelled)), 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_delta": 0.0}, r"initial_delta must be a distance between vectors of length 1, in \(0, 2\]; got 0.0"),
        ({"max_delta": 3}, r"max_delta must be a distance between vectors of length 1, in \(0, 2\]; got 3.0"),
        ({"steepness": 0}, "steepness must be above 0; got 0.0"),
        ({"resolution": -0.1}, "resolution must be above 0; got -0.1"),
        ({"midpoint": 1.2}, r"midpoint must be in \[0, 1\]; got 1.2"),
        ({"max_candidates": 0}, "max_candidates must be at least 1; got 0"),
    ],
)
def test_an_argument_out_of_range_is_an_error_that_says_the_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DCoM(**settings)
