"""How fast photographs become pixels, and what it costs a training that they stay in their files.

The photographs are JPEGs of 500 × 375 pixels, as those of ImageNet are, made of smooth noise; they become 224 × 224.
The network is the smallest there is, so that a step waits for its images as soon as one ever does. The runs do not
take turns, since each has workers of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from PIL import Image

from assl_lightning.data.decoding import ImageFormat, decode
from benchmarks.figures import Figure
from benchmarks.measuring import synchronise
from benchmarks.setups import configured
from benchmarks.step import train, trainer_overrides

_SECTION = "decoding"
_WARM_UP = 3  # steps; the workers start with the first


def measure(device: torch.device, quick: bool) -> Iterator[Figure]:
    """Images a second on one core, and the step with images in memory and in files."""
    count, steps, repeats = (16, 2, 2) if quick else (128, 10, 5)
    size = (32, 32) if quick else (224, 224)
    figure = partial(Figure, _SECTION, size=f"JPEG 500 × 375 → {size[0]} × {size[1]}")
    with tempfile.TemporaryDirectory() as directory:
        paths = make_photographs(Path(directory), count)
        form = ImageFormat(size, 3)
        yield figure(
            "decode, a second of one core's time",
            unit="1/s",
            values=tuple(count / _core_seconds(paths, form) for _ in range(repeats)),
        )
        for name, how in (
            ("images in memory", ["data.source.images=memory"]),
            *((f"in files, {workers} workers", _stream(workers)) for workers in (0, 1, 2)),
        ):
            values = _step(Path(directory), size, how, device, steps)
            note = "8 + 24 images, small_cnn" if name == "images in memory" else ""
            yield figure(f"step, {name}", unit="ms", values=values, note=note)


def _core_seconds(paths: list[Path], form: ImageFormat) -> float:
    """Of the process, so that it says what a core can do whatever else the machine does."""
    started = time.process_time()
    for path in paths:
        decode(path, form)
    return time.process_time() - started


def make_photographs(root: Path, count: int) -> list[Path]:
    """JPEGs of two classes."""
    generator = torch.Generator().manual_seed(0)
    paths = []
    for number in range(count):
        path = root / ("dent" if number % 2 else "ok") / f"{number:04d}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = torch.randint(256, (48, 64, 3), dtype=torch.uint8, generator=generator)
        picture = Image.fromarray(coarse.numpy()).resize((500, 375), Image.Resampling.BICUBIC)
        picture.save(path, quality=90)
        paths.append(path)
    return paths


def _stream(workers: int) -> list[str]:
    return ["data.source.images=stream", f"data.num_workers={workers}"]


def _step(root: Path, size: tuple[int, int], how: list[str], device: torch.device, steps: int) -> tuple[float, ...]:
    """Milliseconds from the end of each step to that of the next."""
    config, parts = configured(
        [
            *("data=image_folder", f"data.root={root}", "data.num_classes=2", f"data.image_size=[{size[0]},{size[1]}]"),
            *("data.mean=[0.5,0.5,0.5]", "data.std=[0.25,0.25,0.25]", "network=small_cnn", "initial_labels=4"),
            *("rounds=0", "algorithm.batch_size=8", "algorithm.mu=3"),
            *(how + trainer_overrides(device)),
        ]
    )
    ends = _Ends(device)
    train(config, parts, ends, _WARM_UP + steps)
    return tuple(1e3 * (end - start) for start, end in pairwise(ends.times[_WARM_UP - 1 :]))


class _Ends(Callback):
    """When each step ended."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        synchronise(self.device)
        self.times.append(time.perf_counter())
