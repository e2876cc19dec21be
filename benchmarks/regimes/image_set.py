"""Image files in a directory for each class, as `data=image_folder` reads them: DIR/pool/CLASS and DIR/test/CLASS."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

from PIL import Image

Part = Literal["pool", "test"]


@dataclass(frozen=True)
class Sample:
    """An image with its class, and a name that no other image of its class and part has."""

    part: Part
    label: str
    name: str  # without a suffix
    image: Image.Image


def write_image_set(samples: Iterable[Sample], directory: Path) -> int:
    """Write the images as PNG files and return their number; `directory` is there only once all are written.

    Raises:
        FileExistsError: `directory` exists.
        ValueError: two images would be one file.
    """
    if directory.exists():
        raise FileExistsError(f"{directory} exists; remove it, and the images are made again")
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(prefix=f".{directory.name}_", dir=directory.parent))
    try:
        count = 0
        for sample in samples:
            _write(sample, unfinished)
            count += 1
        unfinished.chmod(0o755)  # mkdtemp lets nobody else in
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return count


def _write(sample: Sample, directory: Path) -> None:
    path = directory / sample.part / sample.label / f"{sample.name}.png"
    if path.exists():
        raise ValueError(f"two images are called {path.relative_to(directory)}; give each a name of its own")
    path.parent.mkdir(parents=True, exist_ok=True)
    sample.image.save(path)
