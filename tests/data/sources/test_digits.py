"""The oracle is scikit-learn's own arrays and PIL's bilinear filter."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image

from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.digits import load_digits
from tests.stored_images import in_memory

HELD_OUT = ["digits/00010", "digits/00021", "digits/00024", "digits/00025", "digits/00028"]


def positions_of(source: PoolSource) -> list[int]:
    return [int(name.removeprefix("digits/")) for name in source.sample_ids]


def test_the_pool_and_the_test_set_share_out_the_library() -> None:
    source = load_digits()
    assert source.pool_images.shape == (1297, 1, 16, 16)
    assert source.test_images.shape == (500, 1, 16, 16)
    assert source.class_names == tuple("0123456789")


def test_at_their_own_size_images_are_the_librarys_scaled_to_bytes() -> None:
    digits = sklearn.datasets.load_digits()
    source = load_digits(image_size=8)
    positions = positions_of(source)
    expected = np.round(digits.images * 255 / 16).astype(np.uint8)
    np.testing.assert_array_equal(in_memory(source.pool_images)[:, 0].numpy(), expected[positions])
    np.testing.assert_array_equal(source.hidden_labels.numpy(), digits.target[positions])
    held_out = [position for position in range(len(expected)) if position not in set(positions)]
    np.testing.assert_array_equal(in_memory(source.test_images)[:, 0].numpy(), expected[held_out])
    np.testing.assert_array_equal(source.test_labels.numpy(), digits.target[held_out])
    assert source.sample_ids[0] == f"digits/{positions[0]:05d}"
    assert positions == sorted(positions)


@pytest.mark.parametrize("image_size", [16, 28])
def test_images_are_resized_as_pil_does(image_size: int) -> None:
    digits = sklearn.datasets.load_digits()
    source = load_digits(image_size=image_size)
    for row, position in list(enumerate(positions_of(source)))[:20]:
        image = Image.fromarray((digits.images[position] * 255 / 16).astype(np.float32))
        resized = np.asarray(image.resize((image_size, image_size), Image.Resampling.BILINEAR))
        # half a grey level for the rounding, and PIL's single precision
        np.testing.assert_allclose(in_memory(source.pool_images)[row, 0].numpy(), resized, rtol=0, atol=0.5001)


def test_the_split_is_stratified_and_the_same_every_time() -> None:
    source = load_digits()
    counts = source.test_labels.bincount()
    expected = 500 * torch.cat([source.hidden_labels, source.test_labels]).bincount() / 1797
    assert (counts - expected).abs().max() < 1
    again = load_digits()
    assert again.sample_ids == source.sample_ids
    torch.testing.assert_close(again.pool_images, source.pool_images)


def test_the_split_of_today_is_the_split_of_tomorrow() -> None:
    """Files that people exchange are keyed by these names, and accuracies compare on these test images."""
    pool = load_digits().sample_ids
    assert [name for name in (f"digits/{position:05d}" for position in range(30)) if name not in pool] == HELD_OUT


def test_another_split_seed_holds_out_other_images_under_the_same_names() -> None:
    first, second = load_digits(), load_digits(split_seed=1)
    assert set(first.sample_ids) != set(second.sample_ids)
    shared = sorted(set(first.sample_ids) & set(second.sample_ids))
    for name in shared[:20]:
        one = in_memory(first.pool_images)[first.sample_ids.index(name)]
        other = in_memory(second.pool_images)[second.sample_ids.index(name)]
        torch.testing.assert_close(one, other)


def test_an_image_size_below_the_originals_is_refused() -> None:
    with pytest.raises(ValueError, match="image_size must be at least 8, the digits' own; got 7"):
        load_digits(image_size=7)


@pytest.mark.parametrize("num_test", [9, 1788])
def test_a_part_too_small_for_every_class_is_refused(num_test: int) -> None:
    with pytest.raises(ValueError, match=f"num_test must be in 10 … 1787, .* got {num_test}"):
        load_digits(num_test=num_test)
