"""FixMatch's two views of one image in Pillow, as most code computes them: the yardstick of the batched augmentation.

Written from the definition (Sohn et al. 2020, §2.3 and the appendix's list of transformations), with the ranges that
`assl_lightning.augment` has. Numbers come from Python's own generator, which is the cheapest way to one at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torchvision.transforms import functional

from assl_lightning.augment import FIXMATCH_OPS
from assl_lightning.augment.ops import CUTOUT_GREY

Picture = Image.Image
Pad = Callable[[Picture, int, int], Picture]

_AFFINE = Image.Transform.AFFINE
_ENHANCERS = {
    "Brightness": ImageEnhance.Brightness,
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Sharpness": ImageEnhance.Sharpness,
}


def weak_view(image: Picture, pad: Pad) -> Picture:
    """A flip with probability 1/2, and a crop out of the image with an eighth of its mirrored self on each side."""
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width, height = image.size
    across, down = width // 8, height // 8
    left, top = random.randint(0, 2 * across), random.randint(0, 2 * down)
    return pad(image, across, down).crop((left, top, left + width, top + height))


def padded_by_torchvision(image: Picture, across: int, down: int) -> Picture:
    """What `torchvision.transforms.RandomCrop(padding_mode="reflect")` does to a Pillow image: by way of NumPy."""
    padded: Picture = functional.pad(image, [across, down], padding_mode="reflect")
    return padded


def padded_by_strips(image: Picture, across: int, down: int) -> Picture:
    """The same in Pillow alone, in half the time: mirrored strips, left and right before top and bottom."""
    width, height = image.size
    wide = Image.new(image.mode, (width + 2 * across, height))
    wide.paste(image, (across, 0))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    wide.paste(mirrored.crop((width - 1 - across, 0, width - 1, height)), (0, 0))
    wide.paste(mirrored.crop((1, 0, 1 + across, height)), (across + width, 0))
    padded = Image.new(image.mode, (width + 2 * across, height + 2 * down))
    padded.paste(wide, (0, down))
    turned = wide.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    padded.paste(turned.crop((0, height - 1 - down, wide.width, height - 1)), (0, 0))
    padded.paste(turned.crop((0, 1, wide.width, 1 + down)), (0, down + height))
    return padded


def strong_view(image: Picture, pad: Pad) -> Picture:
    """A weak view, two operations out of fourteen, each applied with probability 1/2, and a grey box."""
    image = weak_view(image, pad)
    for name in random.choices(FIXMATCH_OPS, k=2):
        magnitude, sign = random.randint(1, 9), random.choice((-1, 1))
        if random.random() < 0.5:
            image = OPERATIONS[name](image, magnitude, sign)
    return cutout(image)


def cutout(image: Picture) -> Picture:
    """A box of half the image's side around a point of the image, cut off at its edges."""
    width, height = image.size
    left = max(0, random.random() * width - width // 4)
    top = max(0, random.random() * height - height // 4)
    box = (int(left), int(top), int(min(width, left + width // 2)), int(min(height, top + height // 2)))
    image = image.copy()
    ImageDraw.Draw(image).rectangle(box, fill=(CUTOUT_GREY,) * len(image.getbands()))
    return image


def _enhance(name: str) -> Callable[[Picture, int, int], Picture]:
    return lambda image, v, _sign: _ENHANCERS[name](image).enhance(v * 0.9 / 10 + 0.05)


def _shift(image: Picture, across: float, down: float) -> Picture:
    return image.transform(image.size, _AFFINE, (1, 0, int(across * image.width), 0, 1, int(down * image.height)))


OPERATIONS: dict[str, Callable[[Picture, int, int], Picture]] = {
    "AutoContrast": lambda image, _v, _sign: ImageOps.autocontrast(image),
    **{name: _enhance(name) for name in _ENHANCERS},
    "Equalize": lambda image, _v, _sign: ImageOps.equalize(image),
    "Identity": lambda image, _v, _sign: image,
    "Posterize": lambda image, v, _sign: ImageOps.posterize(image, v * 4 // 10 + 4),
    "Rotate": lambda image, v, sign: image.rotate(sign * v * 30 // 10),
    "ShearX": lambda image, v, sign: image.transform(image.size, _AFFINE, (1, sign * v * 0.3 / 10, 0, 0, 1, 0)),
    "ShearY": lambda image, v, sign: image.transform(image.size, _AFFINE, (1, 0, 0, sign * v * 0.3 / 10, 1, 0)),
    "Solarize": lambda image, v, _sign: ImageOps.solarize(image, 256 - v * 256 // 10),
    "TranslateX": lambda image, v, sign: _shift(image, sign * v * 0.3 / 10, 0),
    "TranslateY": lambda image, v, sign: _shift(image, 0, sign * v * 0.3 / 10),
}
"""What each does to (image, magnitude 1 … 10, sign ±1)."""
