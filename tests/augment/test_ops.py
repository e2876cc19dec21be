"""Every operation against PIL, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from assl_lightning.augment import compiled, dense
from assl_lightning.augment.ops import FIXMATCH_OPS, MAX_MAGNITUDE, OPERATIONS
from assl_lightning.augment.plans import Plan

PLANS = pytest.mark.parametrize("plan", [compiled, dense], ids=["compiled", "dense"])
SHAPES = [(3, 32, 32), (1, 28, 28), (3, 8, 8), (3, 17, 23), (1, 23, 17), (3, 84, 84), (3, 2, 5), (1, 1, 1)]
# every magnitude with both signs, as one batch
MAGNITUDES = torch.arange(1, MAX_MAGNITUDE + 1).repeat(2)
SIGNS = torch.tensor([1, -1]).repeat_interleave(MAX_MAGNITUDE)


def pil_operation(name: str, image: Image.Image, v: int, sign: int) -> Image.Image:
    """The operation as FixMatch's PyTorch code applies it to a PIL image, parameters in the same floating point."""
    width, height = image.size
    match name:
        case "Identity":
            return image
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Posterize":
            return ImageOps.posterize(image, int(v * 4 / 10) + 4)
        case "Solarize":
            return ImageOps.solarize(image, 256 - int(v * 256 / 10))
        case "Rotate":
            return image.rotate(sign * int(v * 30 / 10))
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            enhancer: Any = getattr(ImageEnhance, name)(image)
            enhanced: Image.Image = enhancer.enhance(float(v) * 0.9 / 10 + 0.05)
            return enhanced
    amount = sign * (float(v) * 0.3 / 10)
    matrix = {
        "ShearX": (1, amount, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, amount, 1, 0),
        "TranslateX": (1, 0, int(amount * width), 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, int(amount * height)),
    }[name]
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy())


def from_pil(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def pictures(channels: int, height: int, width: int) -> dict[str, Tensor]:
    """Images with what an operation could get wrong: ties, edges, single pixels, few levels, one level."""
    rng = np.random.default_rng(height * width + channels)
    y, x = np.mgrid[:height, :width]
    channel = np.arange(channels)[:, None, None]
    dots = np.zeros((channels, height, width))
    dots[:, height // 2, width // 2] = 255
    dots[0, 0, 0] = 200
    arrays: dict[str, npt.NDArray[Any]] = {
        "noise": rng.integers(0, 256, (channels, height, width)),
        "few levels": rng.integers(90, 120, (channels, height, width)),
        "gradient": (3 * x + 5 * y + 40 * channel) % 256,
        "constant": np.full((channels, height, width), 77),
        "checkerboard": (x + y + channel) % 2 * 255,
        "dots": dots,
    }
    return {name: torch.from_numpy(array.astype(np.uint8)) for name, array in arrays.items()}


@PLANS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FIXMATCH_OPS)
def test_an_operation_equals_pil_in_every_bit(name: str, shape: tuple[int, int, int], plan: Plan) -> None:
    code = torch.full_like(MAGNITUDES, OPERATIONS.index(name))
    for picture, image in pictures(*shape).items():
        changed = plan.change(image.repeat(len(code), 1, 1, 1), code, MAGNITUDES, SIGNS)
        expected = torch.stack(
            [
                from_pil(pil_operation(name, to_pil(image), v, sign))
                for v, sign in zip(MAGNITUDES.tolist(), SIGNS.tolist(), strict=True)
            ]
        )
        assert torch.equal(changed, expected), f"{picture}: {int((changed != expected).sum())} values differ from PIL"


@PLANS
@pytest.mark.parametrize("name", ["AutoContrast", "Equalize"])
def test_every_range_of_levels_is_stretched_as_pil_does(name: str, plan: Plan) -> None:
    darkest, brightest = np.triu_indices(256)
    keep = slice(None, None, 7)
    images = np.clip(np.arange(256), darkest[keep, None], brightest[keep, None]).astype(np.uint8).reshape(-1, 1, 16, 16)
    batch = torch.from_numpy(images)
    one = torch.ones(len(batch), dtype=torch.int64)
    expected = torch.stack([from_pil(pil_operation(name, to_pil(image), 1, 1)) for image in batch])
    changed = plan.change(batch, OPERATIONS.index(name) * one, one, one)
    torch.testing.assert_close(changed, expected, rtol=0, atol=0)


@PLANS
def test_grey_is_rounded_half_up_as_in_pil(plan: Plan) -> None:
    red, green, blue = (plane.astype(np.uint8).ravel() for plane in np.indices((256, 256, 256), dtype=np.int32))
    halves = (
        19595 * red.astype(np.int32) + 38470 * green.astype(np.int32) + 7471 * blue.astype(np.int32)
    ) % 65536 == 32768
    image = torch.from_numpy(np.stack([red[halves], green[halves], blue[halves]]))[:, None]
    assert image.shape[2] == 274
    one = torch.ones(1, dtype=torch.int64)
    expected = from_pil(pil_operation("Color", to_pil(image), 1, 1))
    assert torch.equal(plan.change(image[None].clone(), OPERATIONS.index("Color") * one, one, one)[0], expected)


@PLANS
@pytest.mark.parametrize("name", ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"])
def test_geometry_equals_pil_at_every_side_up_to_72(name: str, plan: Plan) -> None:
    rng = np.random.default_rng(0)
    for side in range(1, 73):
        image = torch.from_numpy(rng.integers(1, 256, (3, side, side + side % 3), dtype=np.uint8))
        v, sign = 1 + side % 10, 1 - 2 * (side // 10 % 2)
        expected = from_pil(pil_operation(name, to_pil(image), v, sign))
        code = torch.tensor([OPERATIONS.index(name)])
        changed = plan.change(image[None], code, torch.tensor([v]), torch.tensor([sign]))[0]
        torch.testing.assert_close(changed, expected, rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_both_plans_agree_on_a_batch_of_mixed_operations(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (600, channels, 16, 12), dtype=torch.uint8, generator=generator)
    code = torch.randint(0, len(OPERATIONS), (600,), generator=generator)
    magnitude = torch.randint(1, MAX_MAGNITUDE + 1, (600,), generator=generator)
    sign = 1 - 2 * torch.randint(0, 2, (600,), generator=generator)
    together = [plan.change(images.clone(), code, magnitude, sign) for plan in (compiled, dense)]
    torch.testing.assert_close(*together, rtol=0, atol=0)
    for i in range(0, 600, 7):
        row = slice(i, i + 1)
        alone = compiled.change(images[row].clone(), code[row], magnitude[row], sign[row])
        torch.testing.assert_close(together[0][row], alone, rtol=0, atol=0)


@PLANS
def test_an_empty_batch_stays_empty(plan: Plan) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert plan.change(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), nothing, nothing, nothing).shape == (0, 3, 8, 8)


def test_fixmatchs_list_names_every_operation_once() -> None:
    assert sorted(FIXMATCH_OPS) == sorted(OPERATIONS)
    assert len(set(FIXMATCH_OPS)) == 14
