"""Images in files against the same images in memory, and what happens when a file changes or goes away."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from assl_lightning.check.images import group_by_content
from assl_lightning.data import decoding, image_stream
from assl_lightning.data.decoding import Faults, ImageFormat
from assl_lightning.data.image_cache import read_images
from assl_lightning.data.image_stream import StreamedImages, count_pixels, take_images
from assl_lightning.data.pixel_statistics import pixel_statistics
from tests.stored_images import in_memory

FORM = ImageFormat((6, 5), 3)
NAMES = tuple(f"image/{number}" for number in range(9))
READABLE = torch.tensor([0, 1, 2, 4, 5, 6, 7, 8])


def open_images(paths: list[Path]) -> tuple[StreamedImages, Faults]:
    images, faults = read_images(NAMES, paths, FORM, "stream", None)
    assert isinstance(images, StreamedImages)
    return images, faults


def load_images(paths: list[Path]) -> tuple[Tensor, Faults]:
    images, faults = read_images(NAMES, paths, FORM, "memory", None)
    assert isinstance(images, Tensor)
    return images, faults


@pytest.mark.parametrize("index", [[2, 0, 8, 3, 0, 2, 2], [5], [], [*range(9)]])
def test_what_is_decoded_is_what_lies_in_memory(paths: list[Path], index: list[int]) -> None:
    expected, faults = load_images(paths)
    images, found = open_images(paths)
    assert found == faults
    assert images.unreadable.tolist() == [3]
    assert (images.shape, len(images), images.dtype, images.ndim) == (expected.shape, 9, torch.uint8, 4)
    places = torch.tensor(index, dtype=torch.int64)
    assert torch.equal(images[places], expected[places])
    assert torch.equal(in_memory(take_images(images, places)), in_memory(take_images(expected, places)))
    assert torch.equal(in_memory(images), in_memory(expected))


def test_an_image_is_decoded_when_it_is_looked_at_and_once_for_all_its_places(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = open_images(paths)
    decoded: list[str] = []

    def decode(path: Path, form: ImageFormat) -> decoding.Images | str:
        decoded.append(path.stem)
        return decoding.decode(path, form)

    monkeypatch.setattr(image_stream, "decode", decode)
    images.take(torch.tensor([8, 3, 1]))[torch.tensor([2, 0, 0, 2, 2, 1])]
    assert sorted(decoded) == ["1", "8"]


def test_those_that_are_taken_know_which_of_them_are_black(paths: list[Path]) -> None:
    images, _ = open_images(paths)
    some = images.take(torch.tensor([8, 3, 1]))
    assert some.unreadable.tolist() == [1]
    assert some.readable.tolist() == [0, 2]
    assert not some[torch.tensor([1])].any()


def test_the_statistics_of_pixels_are_those_of_images_in_memory_whether_they_were_counted_or_not(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = load_images(paths)
    images, _ = open_images(paths)
    assert images.histogram is not None
    assert torch.equal(images.histogram, count_pixels(expected[READABLE]))
    assert pixel_statistics(images, READABLE[1:]) == pixel_statistics(expected, READABLE[1:])
    taken = torch.tensor([8, 3, 1])
    some = images.take(taken)
    assert pixel_statistics(some, some.readable) == pixel_statistics(expected, torch.tensor([8, 1]))
    monkeypatch.setattr(image_stream, "decode", None)  # whoever decodes now, raises
    assert pixel_statistics(images, images.readable) == pixel_statistics(expected, READABLE)


@pytest.mark.parametrize("lost", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:60])])
def test_an_image_that_is_lost_meanwhile_is_named(paths: list[Path], lost: object) -> None:
    images, _ = open_images(paths)
    lost(paths[5])  # type: ignore[operator]
    images[torch.tensor([4, 6])]
    with pytest.raises(ValueError, match=r"5\.png \(.+\): an image that could be decoded when the run began cannot be"):
        images[torch.tensor([4, 5])]


def test_a_folder_without_images_that_are_read_at_all_is_an_error(paths: list[Path]) -> None:
    paths[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.png"):
        open_images(paths)


def test_a_check_and_the_statistics_of_pixels_look_at_a_part_of_the_images_at_a_time(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, at_once = StreamedImages(paths[4:5] * 1000, FORM), []
    decode_some = StreamedImages.__getitem__

    def spy(of: StreamedImages, index: torch.Tensor) -> torch.Tensor:
        at_once.append(len(index))
        return decode_some(of, index)

    monkeypatch.setattr(StreamedImages, "__getitem__", spy)
    (group,) = group_by_content(images, torch.arange(1000)).values()
    assert group == [*range(1000)]
    pixel_statistics(images, torch.arange(1000))
    assert sum(at_once) == 2000
    assert max(at_once) <= 256
