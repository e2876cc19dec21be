from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
import scipy.stats

from assl_lightning.report.analysis.overlap import picks_overlap, spearman


@pytest.mark.parametrize("digits", [1, 2, 16])
def test_spearman_is_scipys_with_and_without_ties(digits: int) -> None:
    generator = np.random.default_rng(digits)
    for _ in range(20):
        one = generator.normal(size=50)
        other = (0.5 * one + generator.normal(size=50)).round(digits)
        assert spearman(one.round(digits), other) == pytest.approx(scipy.stats.spearmanr(one.round(digits), other)[0])


def test_spearman_does_not_see_a_change_of_scale() -> None:
    uncertainty = np.random.default_rng(0).random(40)
    assert spearman(uncertainty, np.log(uncertainty)) == pytest.approx(1)
    assert spearman(uncertainty, -(uncertainty**3)) == pytest.approx(-1)


@pytest.mark.parametrize(("one", "other"), [([0.5], [0.2]), ([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])])
def test_spearman_of_ranks_that_do_not_differ_has_no_meaning(one: list[float], other: list[float]) -> None:
    assert isnan(spearman(one, other))
    assert isnan(spearman(other, one))


def test_only_finite_numbers_have_ranks() -> None:
    with pytest.raises(ValueError, match="only finite numbers have ranks; the one at position 1 is nan: leave it out"):
        spearman([0.1, nan], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"ranks are those of a list of at least one number; got shape \(0,\)"):
        spearman([], [])
    with pytest.raises(ValueError, match=r"both rankings must be of the same samples; got shapes \(2,\) and \(3,\)"):
        spearman([0.1, 0.2], [0.1, 0.2, 0.3])


def test_two_runs_picks_are_compared_whatever_their_order() -> None:
    assert picks_overlap([4, 9, 1], [1, 4, 9]) == 1
    assert picks_overlap([4, 9, 1, 3], [1, 5, 6, 7]) == 0.25
    assert picks_overlap([4], [5]) == 0


@pytest.mark.parametrize(("first", "second"), [([], []), ([1, 2], [1]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_picks_of_unlike_numbers_are_refused(first: list[int], second: list[int]) -> None:
    with pytest.raises(ValueError, match="as many distinct indices, and at least one; got"):
        picks_overlap(first, second)
