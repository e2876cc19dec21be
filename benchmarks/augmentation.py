"""Pairs of a weak and a strong view a second: our batches against Pillow, image by image.

A pair is one weak and one strong view of one image. Both sides start from decoded images and end with bytes ("views")
or with normalised float32 tensors ("tensors"). "per core" is one thread; Pillow uses one by itself. Pillow pads either
as torchvision's RandomCrop does, which is what FixMatch's PyTorch ports run, or by strips, the fastest that we found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from PIL import Image
from torchvision.transforms import functional

from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.seeding import Draws, derive_key
from benchmarks.figures import Figure, Target
from benchmarks.measuring import in_turns, ratios
from benchmarks.pillow import Pad, padded_by_strips, padded_by_torchvision, strong_view, weak_view

_SECTION = "augmentation"
_BATCH = 448
_SHAPES = ((3, 32, 32), (1, 28, 28), (3, 84, 84))
_MEAN, _STD = 0.5, 0.25


def measure(device: torch.device, quick: bool) -> Iterator[Figure]:
    """On a CPU, ratios to Pillow and pairs a second of one thread and of all; on a GPU pairs a second."""
    for shape in [(3, 8, 8)] if quick else _SHAPES:
        images = torch.randint(0, 256, (8 if quick else _BATCH, *shape), dtype=torch.uint8)
        yield from _measure_shape(images.to(device), repeats=2 if quick else 15, is_paper=shape == (3, 32, 32))


def _measure_shape(images: torch.Tensor, repeats: int, is_paper: bool) -> Iterator[Figure]:
    batch, channels, height, width = images.shape
    figure = partial(Figure, _SECTION, size=f"{height} × {width} × {channels}, batches of {batch}")
    rate = partial(_rate, batch)
    if images.device.type == "cuda":
        times = in_turns({"ours": ours(images), "tensors": ours(images, tensors=True)}, images.device, repeats=repeats)
        bound = Target("≥", 1e6) if is_paper else None
        yield figure("views", unit="pairs/s", values=rate(times["ours"]), target=bound)
        yield figure("tensors", unit="pairs/s", values=rate(times["tensors"]))
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = in_turns(
        {
            "ours": ours(images),
            "ours, tensors": ours(images, tensors=True),
            "Pillow": pillow(images, padded_by_torchvision),
            "Pillow, strips": pillow(images, padded_by_strips),
            "Pillow, tensors": pillow(images, padded_by_torchvision, tensors=True),
        },
        images.device,
        repeats=repeats,
    )
    torch.set_num_threads(threads)
    for what, other, mine, bound in (
        (
            "views: ours ÷ Pillow padding as torchvision, per core",
            "Pillow",
            "ours",
            Target("≥", 15) if is_paper else None,
        ),
        ("views: ours ÷ Pillow padding by strips, per core", "Pillow, strips", "ours", None),
        ("tensors: ours ÷ Pillow, per core", "Pillow, tensors", "ours, tensors", None),
    ):
        yield figure(what, unit="×", values=ratios(times[other], times[mine]), target=bound)
    for name, values in times.items():
        yield figure(f"{name}, one thread", unit="pairs/s", values=rate(values))
    times = in_turns({"ours": ours(images)}, images.device, repeats=repeats)
    yield figure(f"ours, {threads} threads", unit="pairs/s", values=rate(times["ours"]))


def ours(images: torch.Tensor, tensors: bool = False) -> Callable[[], object]:
    """One batch of pairs, other draws in each call."""
    weak, strong = WeakAugment(), StrongAugment()
    normalise = _normalise(images.shape[1]) if tensors else lambda view: view
    row = torch.arange(len(images), device=images.device)
    step = iter(range(1 << 60))

    def call() -> object:
        number = next(step)
        views = (
            weak(images, Draws(derive_key(0, "weak", number), row)),
            strong(images, Draws(derive_key(0, "strong", number), row)),
        )
        return [normalise(view) for view in views]

    return call


def pillow(images: torch.Tensor, pad: Pad, tensors: bool = False) -> Callable[[], object]:
    """As many pairs, one by one."""
    pictures = [functional.to_pil_image(image) for image in images]
    channels = images.shape[1]

    def finish(view: Image.Image) -> object:
        if not tensors:
            return view
        return functional.normalize(functional.to_tensor(view), [_MEAN] * channels, [_STD] * channels)

    def call() -> object:
        return [(finish(weak_view(picture, pad)), finish(strong_view(picture, pad))) for picture in pictures]

    return call


def _normalise(channels: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return Normalise((_MEAN,) * channels, (_STD,) * channels)


def _rate(batch: int, seconds: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(batch / value for value in seconds)
