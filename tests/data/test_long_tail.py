"""The oracle is the definition's loop over classes, in Python's floats."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from torch import Tensor

from assl_lightning.data.long_tail import long_tailed
from assl_lightning.data.sources.base import PoolSource
from tests.stored_images import in_memory

FACTORS = st.floats(1, 1e6)


def make_source(counts: list[int]) -> PoolSource:
    """Classes of these sizes, mixed; each image shows its own index."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    index = torch.arange(len(labels))
    pixels = torch.stack([index // 256, index % 256], 1).to(torch.uint8)
    return PoolSource(
        pool_images=pixels[:, None, :, None],
        hidden_labels=labels,
        test_images=torch.arange(2 * len(counts), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 1),
        test_labels=torch.arange(len(counts)).repeat(2),
        class_names=tuple(f"class {number}" for number in range(len(counts))),
        sample_ids=tuple(f"sample {number}" for number in range(len(labels))),
    )


def indices(source: PoolSource) -> Tensor:
    """The pool indices that the images had at first."""
    return in_memory(source.pool_images)[:, 0, 0, 0].long() * 256 + in_memory(source.pool_images)[:, 0, 1, 0].long()


def counts_of_definition(counts: list[int], factor: float) -> list[int]:
    """Cui et al. 2019, §5.1: n_c = n_max · μ^c with μ^(C − 1) = 1 / factor."""
    last = max(len(counts) - 1, 1)
    return [
        min(count, max(1, math.floor(round(max(counts) / factor ** (c / last), 9)))) for c, count in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(100, [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]), (10, [500, 387, 299, 232, 179, 139, 107, 83, 64, 50])],
)
def test_ten_classes_of_cifar10_have_the_published_sizes(factor: float, expected: list[int]) -> None:
    """A tenth of the sizes of the public long-tailed CIFAR-10: 5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50."""
    tail = long_tailed(make_source([500] * 10), factor, seed=0)
    assert tail.hidden_labels.bincount().tolist() == expected


@settings(max_examples=30, deadline=None)
@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=6), factor=FACTORS, seed=st.integers(0, 3))
def test_classes_shrink_exponentially_and_none_vanishes(counts: list[int], factor: float, seed: int) -> None:
    tail = long_tailed(make_source(counts), factor, seed)
    assert tail.hidden_labels.bincount(minlength=len(counts)).tolist() == counts_of_definition(counts, factor)


@settings(max_examples=30, deadline=None)
@given(factors=st.tuples(FACTORS, FACTORS).map(sorted), seed=st.integers(0, 3))
def test_a_larger_factor_keeps_some_of_what_a_smaller_one_keeps(factors: list[float], seed: int) -> None:
    source = make_source([40, 25, 30, 40])
    less, more = (set(long_tailed(source, factor, seed).sample_ids) for factor in factors)
    assert more <= less


def test_what_stays_keeps_its_image_label_name_and_place() -> None:
    source = make_source([60] * 5)
    tail = long_tailed(source, 20, seed=1)
    kept = indices(tail)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert torch.equal(tail.hidden_labels, source.hidden_labels[kept])
    assert tail.sample_ids == tuple(f"sample {number}" for number in kept.tolist())
    assert tail.class_names == source.class_names
    assert torch.equal(in_memory(tail.test_images), in_memory(source.test_images))
    assert torch.equal(tail.test_labels, source.test_labels)


def test_images_that_cannot_be_decoded_are_carried_along_and_move_no_other() -> None:
    source = make_source([60] * 5)
    damaged = replace(source, unreadable=torch.arange(0, 300, 7))
    tail = long_tailed(damaged, 20, seed=1)
    kept = indices(tail)
    assert torch.equal(kept, indices(long_tailed(source, 20, seed=1)))
    assert 0 < len(tail.unreadable) < len(damaged.unreadable)
    assert tail.unreadable.tolist() == [place for place, index in enumerate(kept.tolist()) if index % 7 == 0]


def test_a_factor_of_one_leaves_the_source_as_it_is() -> None:
    source = make_source([5, 9, 3])
    assert long_tailed(source, 1, seed=0) is source


def test_the_seed_decides_which_images_stay_and_not_how_many() -> None:
    source = make_source([100] * 3)
    first, again, other = (long_tailed(source, 10, seed) for seed in (0, 0, 1))
    assert first.sample_ids == again.sample_ids
    assert first.sample_ids != other.sample_ids
    assert torch.equal(first.hidden_labels.bincount(), other.hidden_labels.bincount())


def test_an_image_stays_whatever_becomes_of_other_classes() -> None:
    """The labels of the others changed places: class 1 keeps its images."""
    source = make_source([50, 50, 50])
    swapped = source.hidden_labels.clone()
    swapped[source.hidden_labels == 0] = 2
    swapped[source.hidden_labels == 2] = 0
    other = PoolSource(**{**vars(source), "hidden_labels": swapped})
    one, two = (long_tailed(each, 9, seed=0) for each in (source, other))
    assert indices(one)[one.hidden_labels == 1].tolist() == indices(two)[two.hidden_labels == 1].tolist()


def test_images_stay_uniformly_within_their_class() -> None:
    source = make_source([400, 400])
    kept = torch.zeros(800)
    for seed in range(100):
        tail = long_tailed(source, 4, seed)
        kept[indices(tail)[tail.hidden_labels == 1]] += 1
    counts = kept[source.hidden_labels == 1]
    assert counts.sum() == 100 * 100
    # without replacement the counts scatter a little less than Poisson's: 25 · (1 − 1/4)
    statistic = float(((counts - 25) ** 2 / (25 * 0.75)).sum())
    assert 250 < statistic < 550  # χ² with about 400 degrees of freedom: five standard deviations
    halves = counts.view(2, 200).sum(1)
    assert chisquare(halves.numpy()).pvalue > 1e-3
    places = torch.repeat_interleave(torch.arange(400), counts.long()) / 400
    assert kstest(places.numpy(), "uniform").pvalue > 1e-3


def test_classes_that_nobody_knows_cannot_be_made_rarer() -> None:
    source = make_source([4, 3])
    source.hidden_labels[:2] = -1
    assert long_tailed(source, 1, seed=0) is source
    with pytest.raises(ValueError, match="must be 1 where labels are unknown, as those of 2 of the pool's"):
        long_tailed(source, 2, seed=0)


@pytest.mark.parametrize("factor", [0.5, 0, -3, math.nan, math.inf])
def test_a_factor_below_one_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=f"imbalance_factor must be at least 1, .*; got {factor}"):
        long_tailed(make_source([3, 3]), factor, seed=0)


def test_a_quotient_that_is_a_whole_number_is_not_rounded_below_it() -> None:
    kept = long_tailed(make_source([640] * 7), 64.0, seed=0).hidden_labels.bincount()
    assert kept.tolist() == [640, 320, 160, 80, 40, 20, 10]
