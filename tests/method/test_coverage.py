"""Coverage under a Gaussian kernel, and its width, against the definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from assl_lightning.method import coverage
from assl_lightning.method.coverage import (
    Coverage,
    covered_by,
    density,
    half_covering_width,
    kernel,
    squared_distances,
    unit_vectors,
)


def make_points(rows: int, columns: int = 8, seed: int = 0) -> Tensor:
    features = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return unit_vectors(features, torch.arange(rows))


def on_a_circle(*degrees: float) -> Tensor:
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_vectors_are_scaled_to_length_one_and_zeros_stay() -> None:
    vectors = unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([5, 6]))
    assert vectors.tolist() == [[0.6, 0.8], [0.0, 0.0]]


def test_features_that_are_not_finite_are_an_error_that_names_the_sample() -> None:
    with pytest.raises(ValueError, match=r"sample 6 .*nan"):
        unit_vectors(torch.tensor([[3.0, 4.0], [0.0, torch.nan]]), torch.tensor([5, 6]))


@pytest.mark.parametrize("block", [1, 50, 2**20])
def test_distances_are_squared_euclidean(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "_BLOCK", block)
    points, others = make_points(13), make_points(7, seed=1)
    expected = torch.cdist(points, others).square().float()
    torch.testing.assert_close(squared_distances(points, others), expected)


def test_the_kernel_is_one_where_there_is_no_distance_and_a_half_at_the_width_times_the_root_of_log_two() -> None:
    width = 0.3
    distance = torch.tensor([0.0, math.log(2) * width**2, 4.0])
    assert kernel(distance.clone(), width).tolist() == pytest.approx([1.0, 0.5, math.exp(-4 / width**2)])


@pytest.mark.parametrize("centres", [0, 1, 5])
@pytest.mark.parametrize("at_a_time", [2, 4096])
def test_a_point_is_covered_by_the_nearest_centre(
    centres: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "_CENTRES", at_a_time)
    points, of_centres = make_points(9), make_points(centres, seed=1)
    expected = [
        max((math.exp(-(math.dist(point, centre) ** 2) / 0.5**2) for centre in of_centres.tolist()), default=0.0)
        for point in points.tolist()
    ]
    assert covered_by(points, of_centres, 0.5).tolist() == pytest.approx(expected)


def test_density_counts_the_points_near_a_point() -> None:
    points = on_a_circle(0, 0, 0, 180)
    assert density(points, 0.1).tolist() == pytest.approx([3, 3, 3, 1])


def test_gains_are_sums_of_what_is_covered_more() -> None:
    points = make_points(11)
    weight, covered = torch.rand(11, dtype=torch.float64), torch.rand(11)
    values = kernel(squared_distances(points, points), 0.7)
    gains = Coverage(values, weight, covered.clone()).gains_after(None, torch.tensor([2, 3]))
    covered = torch.stack([covered, values[2], values[3]]).amax(0)
    expected = [
        sum(w * max(0.0, k - c) for w, k, c in zip(weight.tolist(), row, covered.tolist(), strict=True))
        for row in values.tolist()
    ]
    assert gains.tolist() == pytest.approx(expected, abs=1e-5)
    assert gains[2] == gains[3] == 0


def test_a_kernel_value_that_is_larger_by_roundings_alone_covers_nothing_more() -> None:
    of_copy, of_another = 0.75 + 4 * 2.0**-24, 0.75 + 2.0**-18  # a float32 near 0.75 has steps of 2⁻²⁴
    found = Coverage(torch.tensor([[of_copy], [of_another]]), torch.ones(1).double(), torch.tensor([0.75]))
    of_copy_gain, of_another_gain = found.gains_after(None, torch.empty(0, dtype=torch.int64)).tolist()
    assert of_copy_gain == 0 < of_another_gain


@pytest.mark.parametrize("block", [1, 40, 2**20])
def test_gains_of_some_candidates_are_those_of_all(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "_BLOCK", block)
    points = make_points(11)
    found = Coverage(kernel(squared_distances(points, points), 0.7), torch.ones(11).double(), torch.zeros(11))
    rows, nothing = torch.tensor([7, 0, 3]), torch.empty(0, dtype=torch.int64)
    assert found.gains_after(rows, nothing).equal(found.gains_after(None, nothing)[rows])


@pytest.mark.parametrize("seed", range(3))
def test_a_copy_of_a_covering_sample_gains_nothing_and_gains_never_grow(seed: int) -> None:
    points, centres = make_points(40, seed=seed), make_points(5, seed=seed + 100)
    points[7] = centres[2]
    width = half_covering_width(points, 8)
    values = kernel(squared_distances(points, points), width)
    found = Coverage(values, torch.ones(40).double(), covered_by(points, centres, width))
    before = found.gains_after(None, torch.empty(0, dtype=torch.int64))
    assert before[7] == 0
    for pick in (3, 20, 11):
        after = found.gains_after(None, torch.tensor([pick]))
        assert bool((after <= before).all())
        assert after[pick] == 0
        before = after


def test_the_width_of_two_samples_is_where_one_covers_half_of_the_other() -> None:
    points = on_a_circle(0, 60)  # at the distance 1
    assert half_covering_width(points, 1) == pytest.approx(1 / math.sqrt(math.log(2)), rel=1e-5)


@pytest.mark.parametrize("count", [5, 20, 100])
def test_random_samples_cover_half_of_the_others_at_that_width(count: int) -> None:
    points, generator = make_points(600, 6), torch.Generator().manual_seed(0)
    width, covered = half_covering_width(points, count), []
    for _ in range(60):
        order = torch.randperm(600, generator=generator)
        covered.append(float(covered_by(points[order[count:]], points[order[:count]], width).mean()))
    assert sum(covered) / 60 == pytest.approx(0.5, abs=0.02)


def test_more_samples_need_less_width() -> None:
    points = make_points(600)
    widths = [half_covering_width(points, count) for count in (1, 10, 100, 599, 10_000)]
    assert widths[:4] == sorted(widths[:4], reverse=True)
    assert widths[3] == widths[4]


def test_copies_count_once() -> None:
    points = make_points(30)
    assert half_covering_width(points.repeat(20, 1), 10) == half_covering_width(points, 10)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_where_there_is_nothing_to_tell_apart_the_width_is_one(rows: int) -> None:
    assert half_covering_width(torch.ones(rows, 4, dtype=torch.float64) / 2, 3) == 1


def test_few_rows_stand_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    points = make_points(3_000)
    few = half_covering_width(points, 50)
    monkeypatch.setattr(coverage, "_ROWS", 10_000)
    assert few == pytest.approx(half_covering_width(points, 50), rel=0.02)
