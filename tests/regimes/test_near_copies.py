"""Copies are compared with their originals, which their sample ids name."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning.data.sources.base import PoolSource
from benchmarks.regimes.near_copies import LIKE, with_near_copies
from tests.stored_images import in_memory


def make_source(size: int = 100) -> PoolSource:
    images = torch.randint(30, 220, (size, 2, 8, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return PoolSource(
        pool_images=images,
        hidden_labels=torch.arange(size) % 7,
        test_images=images[:20],
        test_labels=torch.arange(20) % 7,
        class_names=tuple("abcdefg"),
        sample_ids=tuple(f"s{number}" for number in range(size)),
    )


SOURCE = make_source()


def pairs(source: PoolSource) -> list[tuple[int, int]]:
    """Index of a near copy, and index of its original."""
    split = [(name.partition(LIKE)[0], name.partition(LIKE)[2]) for name in source.sample_ids]
    return [(int(own[1:]), int(like[1:])) for own, like in split if like]


def crops(image: Tensor, shift: int) -> list[Tensor]:
    """All images that a shift makes of `image`, by the definition: coordinates, held within the image."""
    height, width = image.shape[1:]
    moves = range(-shift, shift + 1)
    return [
        image[:, (torch.arange(height) + down).clamp(0, height - 1)][
            :, :, (torch.arange(width) + right).clamp(0, width - 1)
        ]
        for down in moves
        for right in moves
    ]


def test_the_share_of_the_pool_is_near_copies_and_all_else_stays() -> None:
    source = with_near_copies(SOURCE, share=0.8, num_originals=15)
    copies = {copy for copy, _ in pairs(source)}
    rest = [index for index in range(100) if index not in copies]

    assert len(copies) == 80
    assert torch.equal(in_memory(source.pool_images)[rest], in_memory(SOURCE.pool_images)[rest])
    assert torch.equal(source.hidden_labels[rest], SOURCE.hidden_labels[rest])
    assert torch.equal(in_memory(source.test_images), in_memory(SOURCE.test_images))
    assert torch.equal(source.test_labels, SOURCE.test_labels)


def test_originals_are_no_copies_and_have_equal_numbers_of_them() -> None:
    found = pairs(with_near_copies(SOURCE, share=0.8, num_originals=15))
    counts = Counter(original for _, original in found)

    assert not {copy for copy, _ in found} & counts.keys()
    assert len(counts) == 15
    assert set(counts.values()) == {5, 6}


def test_a_copy_without_noise_is_its_original_moved_and_has_its_label() -> None:
    source = with_near_copies(SOURCE, share=0.5, num_originals=10, shift=2, noise=0)
    moves = set()
    for copy, original in pairs(source):
        possible = crops(in_memory(SOURCE.pool_images)[original], 2)
        equal = [
            number for number, image in enumerate(possible) if torch.equal(image, in_memory(source.pool_images)[copy])
        ]
        assert len(equal) == 1
        assert source.hidden_labels[copy] == SOURCE.hidden_labels[original]
        moves.update(equal)
    assert len(moves) > 15, "of 25"


def test_noise_has_its_deviation() -> None:
    source = with_near_copies(SOURCE, share=0.8, num_originals=10, shift=0, noise=8)
    added = torch.cat(
        [
            (in_memory(source.pool_images)[copy].float() - in_memory(SOURCE.pool_images)[original]).flatten()
            for copy, original in pairs(source)
        ]
    )

    assert abs(float(added.mean())) < 0.4
    assert 7.6 < float(added.std()) < 8.4


def test_the_same_seed_makes_the_same_pool_and_another_seed_another() -> None:
    first, again, other = (with_near_copies(SOURCE, seed=seed) for seed in (4, 4, 5))

    assert torch.equal(in_memory(first.pool_images), in_memory(again.pool_images))
    assert first.sample_ids == again.sample_ids != other.sample_ids


def test_no_share_leaves_the_source_and_a_whole_pool_may_be_originals_and_copies() -> None:
    assert torch.equal(in_memory(with_near_copies(SOURCE, share=0).pool_images), in_memory(SOURCE.pool_images))
    assert len(pairs(with_near_copies(SOURCE, share=0.9, num_originals=10))) == 90


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 1.2}, r"share must lie in \[0, 1\] and num_originals be at least 1; got 1.2 and 20"),
        ({"num_originals": 0}, "got 0.8 and 0"),
        ({"shift": -1}, "shift must be a number of pixels ≥ 0 and noise a number ≥ 0; got -1 and 8.0"),
        ({"noise": -1.0}, "got 1 and -1.0"),
        ({"num_originals": 21}, "a pool of 100 images has no room for 21 originals beside 80 near copies"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_near_copies(SOURCE, **arguments)
