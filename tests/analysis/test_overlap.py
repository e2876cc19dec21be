from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from assl_lightning.analysis.overlap import mid_ranks, picks_overlap, spearman, top_k_overlap
from assl_lightning.statistics import SampleStatistics

WITH_TIES = arrays.arrays(np.float64, st.integers(2, 30), elements=st.sampled_from([-1.5, 0.0, 1e-30, 1e-12, 0.3, 7.0]))


@given(WITH_TIES)
def test_mid_ranks_are_scipys(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    np.testing.assert_array_equal(mid_ranks(values), scipy.stats.rankdata(values))


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
        mid_ranks([])
    with pytest.raises(ValueError, match=r"both rankings must be of the same samples; got shapes \(2,\) and \(3,\)"):
        spearman([0.1, 0.2], [0.1, 0.2, 0.3])


@given(WITH_TIES, st.data())
def test_the_overlap_of_the_highest_is_that_of_a_sorted_list(
    first: np.ndarray[tuple[int], np.dtype[np.float64]], data: st.DataObject
) -> None:
    second = data.draw(arrays.arrays(np.float64, len(first), elements=st.sampled_from([0.0, 1.0, 2.0])))
    k = data.draw(st.integers(1, len(first)))
    sets = [set(sorted(range(len(score)), key=lambda i: (-score[i], i))[:k]) for score in (first, second)]
    assert top_k_overlap(first, second, k) == len(sets[0] & sets[1]) / k
    assert top_k_overlap(first, first, k) == 1


def test_an_unknown_score_is_never_among_the_highest() -> None:
    assert top_k_overlap([nan, 3, 2, 1], [9, nan, 2, 1], k=2) == 0.5
    with pytest.raises(ValueError, match="k must lie between 1 and 1, the samples with a known score; got 2"):
        top_k_overlap([nan, 3], [1, 2], k=2)
    with pytest.raises(ValueError, match="k must lie between 1 and 2, the samples with a known score; got 0"):
        top_k_overlap([1, 3], [1, 2], k=0)
    with pytest.raises(ValueError, match="both rankings must be of the same samples"):
        top_k_overlap([1, 3], [1, 2, 3], k=1)


def test_two_runs_picks_are_compared_whatever_their_order() -> None:
    assert picks_overlap([4, 9, 1], [1, 4, 9]) == 1
    assert picks_overlap([4, 9, 1, 3], [1, 5, 6, 7]) == 0.25
    assert picks_overlap([4], [5]) == 0


@pytest.mark.parametrize(("first", "second"), [([], []), ([1, 2], [1]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_picks_of_unlike_numbers_are_refused(first: list[int], second: list[int]) -> None:
    with pytest.raises(ValueError, match="as many distinct indices, and at least one; got"):
        picks_overlap(first, second)


@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_variances_before_and_after_the_update_rank_alike_once_their_constants_are_matched(alpha: float) -> None:
    """UCB_post(c) = UCB_pre((1 − α)·c): the two readings of Eq. 3 differ in c alone, and so, with one c, in picks."""
    generator = torch.Generator().manual_seed(0)
    post, pre = SampleStatistics(200, alpha, "post"), SampleStatistics(200, alpha, "pre")
    for _ in range(30):
        index = torch.randperm(200, generator=generator)[:64]
        values = torch.rand(64, generator=generator), torch.rand(64, generator=generator)
        post.update(index, *values)
        pre.update(index, *values)
    c = 2.0
    after = post.uncertainty_ucb(c).numpy()
    np.testing.assert_allclose(after, pre.uncertainty_ucb((1 - alpha) * c).numpy(), rtol=1e-5)
    assert top_k_overlap(after, pre.uncertainty_ucb((1 - alpha) * c).numpy(), k=20) == 1
    assert top_k_overlap(after, pre.uncertainty_ucb(c).numpy(), k=20) < 1
