"""The oracle of a shrunken image is a mean over blocks."""

from __future__ import annotations

import pytest
import torch

from assl_lightning.data.sources.base import PoolSource
from benchmarks.regimes.smaller import smaller
from tests.stored_images import in_memory

IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SOURCE = PoolSource(
    pool_images=IMAGES,
    hidden_labels=torch.arange(40) % 5,
    test_images=IMAGES.flip(0),
    test_labels=(torch.arange(40) % 5).flip(0),
    class_names=tuple("abcde"),
    sample_ids=tuple(f"s{number}" for number in range(40)),
    test_ids=tuple(f"t{number}" for number in range(40)),
)


def test_images_keep_their_labels_names_and_order() -> None:
    source = smaller(SOURCE, num_pool=12, num_test=7, image_size=8)
    pool, test = ([int(name[1:]) for name in names] for names in (source.sample_ids, source.test_ids))

    assert (len(pool), len(test)) == (12, 7)
    assert pool == sorted(pool)
    assert test == sorted(test)
    assert pool != list(range(12))
    for got, expected in (
        (in_memory(source.pool_images), in_memory(SOURCE.pool_images)[pool]),
        (source.hidden_labels, SOURCE.hidden_labels[pool]),
        (in_memory(source.test_images), in_memory(SOURCE.test_images)[test]),
        (source.test_labels, SOURCE.test_labels[test]),
    ):
        assert torch.equal(got, expected)


def test_a_pixel_is_the_mean_of_those_that_it_covers() -> None:
    source = smaller(SOURCE, num_pool=40, num_test=40, image_size=4)
    blocks = IMAGES.double().reshape(40, 1, 4, 2, 4, 2).mean((3, 5))

    assert in_memory(source.pool_images).shape == (40, 1, 4, 4)
    assert (in_memory(source.pool_images).double() - blocks).abs().max() <= 0.5


def test_the_draw_depends_on_the_seed_alone() -> None:
    first, again, other = (smaller(SOURCE, 20, 20, 8, seed=seed).sample_ids for seed in (1, 1, 2))

    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((41, 7, 8), r"num_pool must be in 1 … 40, as large as the source's; got 41"),
        ((12, 0, 8), r"num_test must be in 1 … 40, as large as the source's; got 0"),
        ((12, 7, 9), r"image_size must be in 1 … 8, as large as the source's; got 9"),
    ],
)
def test_more_than_there_is_is_refused(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smaller(SOURCE, *arguments)
