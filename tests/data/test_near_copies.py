"""Near copies: the search against a table of all pairs, and the hash on pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from assl_lightning.data.near_copies import Hashes, Indices, hash_function, nearest_among, nearest_earlier


def some_hashes(generator: np.random.Generator, count: int) -> Hashes:
    """Half of them random, half with up to seven bits of one of these changed, in any order, and with repeats."""
    hashes = generator.integers(0, 2**64, count, dtype=np.uint64)
    for place in range(count // 2):
        bits = generator.choice(64, generator.integers(0, 8), replace=False)
        hashes[count // 2 + place] = hashes[place] ^ np.uint64(sum(1 << int(bit) for bit in bits))
    return hashes[generator.permutation(count)]


def by_all_pairs(hashes: Hashes, others: Hashes, most: int, only_earlier: bool) -> tuple[Indices, Indices]:
    differing = hashes[:, None] ^ others[None]
    bits = np.unpackbits(differing[..., None].view(np.uint8), axis=-1).sum(-1, dtype=np.int64)
    if only_earlier:
        bits[np.triu_indices(len(hashes))] = 99
    is_near = bits.min(1) <= most
    return np.where(is_near, bits.argmin(1), -1), np.where(is_near, bits.min(1), 0)


@pytest.mark.parametrize("most", [0, 1, 4, 7, 16])
def test_no_near_hash_is_missed_and_the_nearest_is_found(most: int) -> None:
    generator = np.random.default_rng(most)
    hashes = some_hashes(generator, 600)
    for found, expected in zip(nearest_earlier(hashes, most), by_all_pairs(hashes, hashes, most, True), strict=True):
        np.testing.assert_array_equal(found, expected)
    asked = hashes[generator.permutation(600)[:200]] ^ np.uint64(0b101)
    for found, expected in zip(
        nearest_among(asked, hashes, most), by_all_pairs(asked, hashes, most, False), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_there_may_be_none_to_compare() -> None:
    none = np.empty(0, dtype=np.uint64)
    assert [len(found) for found in nearest_earlier(none, 4)] == [0, 0]
    assert nearest_among(np.array([3], dtype=np.uint64), none, 4)[0].tolist() == [-1]


def test_a_picture_that_is_compressed_or_made_lighter_keeps_its_hash_and_another_does_not() -> None:
    pytest.importorskip("imagehash")
    generator = np.random.default_rng(0)
    first, other = (
        np.asarray(Image.fromarray(generator.integers(0, 200, (6, 6, 3), dtype=np.uint8)).resize((48, 48), 3))
        for _ in range(2)
    )
    file = io.BytesIO()
    Image.fromarray(first).save(file, "JPEG", quality=60)
    images = np.stack([first, np.asarray(Image.open(file)), first + np.uint8(40), other])

    hashes = hash_function()(torch.from_numpy(images).permute(0, 3, 1, 2))

    found, bits = nearest_earlier(hashes, 4)
    assert found[:2].tolist() == [-1, 0]
    assert found[2] in (0, 1)
    assert found[3] == -1
    assert bits.max() <= 4
