"""Pairs of a weak and a strong view a second: our batches against Pillow, image by image.

A pair is one weak and one strong view of one image. Both sides start from decoded images and end with bytes ("views")
or with normalised float32 tensors ("tensors"). On a CPU both have one thread. Pillow pads either as torchvision's
RandomCrop does, which is what FixMatch's PyTorch ports run, or by strips, the fastest that we found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice

import torch
from PIL import Image
from torchvision.transforms import functional

from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.base.seeding import Draws, derive_key
from benchmarks.figures import Figure, Target
from benchmarks.measuring import in_turns, ratios
from benchmarks.pillow import Pad, padded_by_strips, padded_by_torchvision, strong_view, weak_view

_SECTION = "augmentation"
_BATCH = 448
_BATCHES = 10  # that ours makes for each of Pillow's
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
    if images.device.type == "cuda":
        pair = _seconds_a_pair(images, repeats, {"views": ours(images), "tensors": ours(images, tensors=True)})
        bound = Target("≥", 1e6) if is_paper else None
        yield figure("views", unit="pairs/s", values=_rates(pair["views"]), target=bound)
        yield figure("tensors", unit="pairs/s", values=_rates(pair["tensors"]))
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pair = _seconds_a_pair(
        images,
        repeats,
        {
            "ours": ours(images),
            "ours, tensors": ours(images, tensors=True),
            "Pillow": pillow(images, padded_by_torchvision),
            "Pillow, strips": pillow(images, padded_by_strips),
            "Pillow, tensors": pillow(images, padded_by_torchvision, tensors=True),
        },
    )
    torch.set_num_threads(threads)
    target = Target("≥", 15) if is_paper else None
    for what, theirs, mine, bound in (
        ("views: ours ÷ Pillow padding as torchvision, per core", "Pillow", "ours", target),
        ("views: ours ÷ Pillow padding by strips, per core", "Pillow, strips", "ours", None),
        ("tensors: ours ÷ Pillow, per core", "Pillow, tensors", "ours, tensors", None),
    ):
        yield figure(what, unit="×", values=ratios(pair[theirs], pair[mine]), target=bound)
    for name, values in pair.items():
        yield figure(f"{name}, one thread", unit="pairs/s", values=_rates(values))


def _seconds_a_pair(
    images: torch.Tensor, repeats: int, calls: dict[str, Callable[[], int]]
) -> dict[str, tuple[float, ...]]:
    """By name, in turns; each call says how many pairs it made."""
    pairs = {name: call() for name, call in calls.items()}
    times = in_turns(calls, images.device, repeats=repeats, warm_up=1)
    return {name: tuple(value / pairs[name] for value in values) for name, values in times.items()}


def ours(images: torch.Tensor, tensors: bool = False) -> Callable[[], int]:
    """Batch after batch, other draws in each, for about as long as Pillow takes for one."""
    weak, strong = WeakAugment(), StrongAugment()
    normalise = _normalise(images.shape[1])
    row = torch.arange(len(images), device=images.device)
    numbers = count()

    def call() -> int:
        for number in islice(numbers, _BATCHES):
            views = (
                weak(images, Draws(derive_key(0, "weak", number), row)),
                strong(images, Draws(derive_key(0, "strong", number), row)),
            )
            if tensors:
                views = normalise(views[0]), normalise(views[1])
        return _BATCHES * len(images)

    return call


def pillow(images: torch.Tensor, pad: Pad, tensors: bool = False) -> Callable[[], int]:
    """One by one, as many as a batch."""
    pictures = [functional.to_pil_image(image) for image in images]
    channels = images.shape[1]

    def finish(view: Image.Image) -> object:
        if not tensors:
            return view
        return functional.normalize(functional.to_tensor(view), [_MEAN] * channels, [_STD] * channels)

    def call() -> int:
        for picture in pictures:
            finish(weak_view(picture, pad))
            finish(strong_view(picture, pad))
        return len(pictures)

    return call


def _normalise(channels: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return Normalise((_MEAN,) * channels, (_STD,) * channels)


def _rates(seconds: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(1 / value for value in seconds)
