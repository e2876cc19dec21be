"""Balls against loops over all pairs of points."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from assl_lightning.acquisition import ball_cover
from assl_lightning.acquisition.ball_cover import BallCover, draw_nodes, inside_any, nearest_other
from assl_lightning.acquisition.points import Points, feature_points
from tests.acquisition.unit_pools import inside, make_pool, read, unit_rows

SIZES = [1, 7, 8, 9, 60, 130]
both_blocks = pytest.mark.parametrize("block", [1, 128])


def make_points(rows: int, seed: int) -> tuple[list[list[float]], Points]:
    features = make_pool(rows, 0, seed).features
    assert features is not None
    return unit_rows(features), feature_points(features, torch.arange(rows), unit=True)


@both_blocks
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("radius", [1e-9, 0.3, 1.0, 2.0])
def test_gains_are_the_uncovered_points_nearer_than_the_radius(
    rows: int, radius: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ball_cover, "_BYTES", block)
    vectors, points = make_points(rows, seed=rows)
    cover = BallCover(points, radius)
    covered = torch.zeros(rows, dtype=torch.bool)
    for centre in (None, 0, rows // 2, 0, rows - 1):
        if centre is not None:
            cover.cover_ball(centre)
            covered |= torch.tensor([inside(vectors[centre], row, radius) for row in vectors])
        gain = [sum(inside(a, b, radius) and not covered[y] for y, b in enumerate(vectors)) for a in vectors]
        assert cover.gain.tolist() == gain
        assert torch.equal(cover.covered, covered)
    cover.cover(torch.ones(rows, dtype=torch.bool))
    assert cover.gain.tolist() == [0] * rows


def test_a_point_at_the_radius_is_outside_however_it_is_rounded() -> None:
    generator = torch.Generator().manual_seed(0)
    # Sides of triangles of 3, 4 and 5: cosines are multiples of 1/25.
    sides = torch.tensor([[3, 4, 0], [4, 3, 0], [3, 0, 4], [0, 3, 4], [4, 0, 3], [0, 4, 3]])
    products = sides @ sides.T
    for product in products.unique()[:-1].tolist() * 10:
        lengths = torch.rand(6, 1, generator=generator, dtype=torch.float64)
        points = feature_points(sides * lengths, torch.arange(6), unit=True)
        radius = math.sqrt(2 - 2 * product / 25)
        assert BallCover(points, radius).gain.tolist() == (products > product).sum(1).tolist()


@both_blocks
@pytest.mark.parametrize(("rows", "centres"), [(1, 1), (60, 0), (60, 1), (130, 40)])
def test_each_centre_has_a_radius_of_its_own(
    rows: int, centres: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ball_cover, "_BYTES", block)
    reference = read(make_pool(rows, centres, seed=1))
    radii = torch.rand(centres, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 4 + 0.01
    points, known = (
        feature_points(torch.tensor(vectors, dtype=torch.float64).view(-1, 4), torch.arange(len(vectors)), unit=True)
        for vectors in (reference.rows, reference.known)
    )
    expected = [
        any(inside(row, centre, radius) for centre, radius in zip(reference.known, radii.tolist(), strict=True))
        for row in reference.rows
    ]
    assert inside_any(points, known, radii).tolist() == expected
    assert centres < 40 or 0 < sum(expected) < rows


@both_blocks
@pytest.mark.parametrize("rows", SIZES)
def test_the_nearest_other_is_the_nearest_of_another_label(
    rows: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ball_cover, "_BYTES", block)
    vectors, points = make_points(rows, seed=rows)
    label = torch.randint(2, (rows,), generator=torch.Generator().manual_seed(0))
    expected = [
        min((math.dist(a, b) for b, other in zip(vectors, label, strict=True) if other != own), default=math.inf)
        for a, own in zip(vectors, label, strict=True)
    ]
    found = nearest_other(points, label)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-7)


def test_nobody_is_drawn_where_all_have_room_and_else_each_is_drawn_as_often() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draw_nodes(5, 5, generator).tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(generator.get_state(), before)
    drawn = [draw_nodes(10, 4, generator) for _ in range(1000)]
    assert all(nodes.equal(nodes.unique()) and len(nodes) == 4 for nodes in drawn)
    assert bool((torch.cat(drawn).bincount() / 1000 - 0.4).abs().max() < 0.08)


Watch = Callable[[Callable[[], object]], tuple[Counter[str], int]]


def test_the_gaps_of_all_pairs_never_exist_at_once_and_a_pair_is_kept_in_one_bit(watch: Watch) -> None:
    _, points = make_points(3000, seed=0)
    label = torch.arange(3000) % 2
    covers: list[BallCover] = []
    for run in (
        lambda: covers.append(BallCover(points, 0.5)),
        lambda: nearest_other(points, label),
        lambda: inside_any(points, points, torch.full((3000,), 0.5)),
    ):
        assert watch(run)[1] == 1024**2
    assert covers[0]._bits.nbytes == 3000 * 3000 / 8
