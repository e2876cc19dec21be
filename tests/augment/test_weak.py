from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from assl_lightning.augment import compiled, dense
from assl_lightning.augment.plans import Plan
from assl_lightning.augment.weak import WeakAugment, WeakSlot
from assl_lightning.base.seeding import Draws, derive_key


def batch(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draws(count: int, key: int = 0) -> Draws:
    return Draws(derive_key(key, "weak"), torch.arange(count))


def weak_by_definition(images: torch.Tensor, draws: Draws, flip: bool, fraction: float) -> torch.Tensor:
    """Sample by sample: flip, pad with np.pad's reflection, cut out."""
    height, width = images.shape[-2:]
    pad_y, pad_x = int(height * fraction), int(width * fraction)
    flips = draws.bernoulli(WeakSlot.FLIP, 0.5).tolist()
    tops = draws.integers(WeakSlot.CROP_TOP, 2 * pad_y + 1).tolist()
    lefts = draws.integers(WeakSlot.CROP_LEFT, 2 * pad_x + 1).tolist()
    views = []
    for image, flipped, top, left in zip(images.numpy(), flips, tops, lefts, strict=True):
        turned = image[:, :, ::-1] if flip and flipped else image
        padded = np.pad(turned, ((0, 0), (pad_y, pad_y), (pad_x, pad_x)), mode="reflect")
        views.append(padded[:, top : top + height, left : left + width])
    return torch.from_numpy(np.stack(views))


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("fraction", [0.125, 0.0, 0.3, 0.99])
@pytest.mark.parametrize(
    "shape",
    [(3, 32, 32), (1, 28, 28), (3, 17, 23), (3, 84, 84), (1, 1, 1), (3, 2, 9)],
    ids=str,
)
@pytest.mark.parametrize("plan", [compiled, dense], ids=["compiled", "dense"])
def test_the_weak_view_equals_flip_pad_and_crop(
    shape: tuple[int, int, int], fraction: float, flip: bool, plan: Plan
) -> None:
    images = batch(64, *shape)
    view = WeakAugment(flip, fraction)._view(images, draws(64), plan)
    torch.testing.assert_close(view, weak_by_definition(images, draws(64), flip, fraction), rtol=0, atol=0)


@pytest.mark.parametrize("plan", [compiled, dense], ids=["compiled", "dense"])
def test_how_the_images_lie_in_memory_does_not_matter(plan: Plan) -> None:
    images = batch(50, 3, 16, 12)
    expected = WeakAugment()._view(images, draws(50), plan)
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)
    for lying in (turned, images.contiguous(memory_format=torch.channels_last), images[:1].expand(50, 3, 16, 12)):
        view = WeakAugment()._view(lying, draws(50), plan)
        if lying.stride(0):
            torch.testing.assert_close(view, expected, rtol=0, atol=0)
        assert view.untyped_storage().data_ptr() != lying.untyped_storage().data_ptr()


def test_flips_and_offsets_are_uniform_and_independent() -> None:
    # distinct pixels, padded by one, show the flip and both offsets: 2 × 3 × 3 equally likely outcomes
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(18_000, 1, 8, 8).contiguous()
    views = WeakAugment()(images, draws(18_000)).flatten(1)
    _, counts = views.unique(dim=0, return_counts=True)
    assert len(counts) == 18
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_without_flip_the_crops_stay_the_same() -> None:
    draw = draws(400)
    not_flipped = ~draw.bernoulli(WeakSlot.FLIP, 0.5)
    images = batch(400, 3, 16, 16)
    with_flip, without = WeakAugment()(images, draw), WeakAugment(flip=False)(images, draw)
    torch.testing.assert_close(with_flip[not_flipped], without[not_flipped], rtol=0, atol=0)
    assert not torch.equal(with_flip, without)


def test_a_part_of_the_batch_is_augmented_as_in_the_whole() -> None:
    images, positions = batch(50, 3, 16, 16), torch.tensor([41, 3, 7])
    whole = WeakAugment()(images, draws(50))
    part = WeakAugment()(images[positions], draws(50).take(positions))
    torch.testing.assert_close(part, whole[positions], rtol=0, atol=0)


def test_the_same_draws_give_the_same_view_and_no_global_generator_moves() -> None:
    images, state = batch(50, 3, 16, 16), torch.get_rng_state()
    first, second, other = (WeakAugment()(images, draws(50, key)) for key in (1, 1, 2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_an_empty_batch_stays_empty() -> None:
    assert WeakAugment()(batch(0, 3, 8, 8), draws(0)).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("fraction", [1.0, -0.1, float("nan"), "0.1"])
def test_a_pad_fraction_outside_its_range_is_named(fraction: Any) -> None:
    with pytest.raises(ValueError, match=r"WeakAugment\.pad_fraction must lie in \[0, 1\), .*; got "):
        WeakAugment(pad_fraction=fraction)


def test_a_flip_that_is_no_boolean_is_named() -> None:
    with pytest.raises(TypeError, match=r"WeakAugment\.flip must be true or false; got 'no'"):
        WeakAugment(flip="no")  # type: ignore[arg-type]


def test_normalised_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes uint8 images .* got torch\.float32 of shape \(2, 3, 8, 8\)"):
        WeakAugment()(batch(2, 3, 8, 8).float(), draws(2))


def test_images_with_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, 1 or 3, height, width\).* got torch\.uint8 of shape \(2, 2, 8, 8\)"):
        WeakAugment()(batch(2, 2, 8, 8), draws(2))


def test_images_without_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, 1 or 3, height, width\).* got torch\.uint8 of shape \(2, 3, 0, 8\)"):
        WeakAugment()(batch(2, 3, 0, 8), draws(2))


def test_draws_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one row of draws per image, .* got 3 rows on cpu for 2 images on cpu"):
        WeakAugment()(batch(2, 3, 8, 8), draws(3))
