"""Directories of images that `data=image_folder` reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.regimes.image_set import Sample, write_image_set


def sample(label: str = "A", name: str = "one", grey: int = 7) -> Sample:
    return Sample("pool", label, name, Image.new("L", (3, 2), grey))


def test_images_lie_below_their_part_and_class_and_are_what_they_were(tmp_path: Path) -> None:
    samples = [sample(), sample("B"), Sample("test", "A", "one", Image.new("L", (3, 2), 200))]

    count = write_image_set(samples, tmp_path / "above" / "set")

    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert (count, paths) == (3, [f"above/set/{name}/one.png" for name in ("pool/A", "pool/B", "test/A")])
    with Image.open(tmp_path / "above/set/test/A/one.png") as image:
        assert (image.mode, image.size, image.getpixel((2, 1))) == ("L", (3, 2), 200)


def test_a_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="exists; remove it, and the images are made again"):
        write_image_set([sample()], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_images_with_one_name_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two images are called pool/A/one.png; give each a name of its own"):
        write_image_set([sample(), sample(grey=9)], tmp_path / "set")
    assert list(tmp_path.iterdir()) == []
