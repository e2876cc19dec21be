"""The cache against decoding into memory, and what happens to it when files change or it is torn."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from assl_lightning.data import decoding, image_cache
from assl_lightning.data.decoding import Faults, ImageFormat, decode_all
from assl_lightning.data.image_cache import load_images

FORM = ImageFormat((6, 5), 3)
NAMES = tuple(f"image/{number}" for number in range(9))


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Nine images of noise, decoded two at a time; the fourth is none."""
    monkeypatch.setattr(decoding, "_AT_ONCE", 2)
    generator = np.random.default_rng(0)
    made = [tmp_path / f"{number}.png" for number in range(9)]
    for path in made:
        Image.fromarray(generator.integers(256, size=(8, 7, 3), dtype=np.uint8)).save(path)
    made[3].write_bytes(b"nothing")
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "made" / "here"


def of_memory(paths: list[Path], form: ImageFormat = FORM) -> tuple[Tensor, Faults]:
    return load_images(NAMES, paths, form, None)


def assert_same(found: tuple[Tensor, Faults], expected: tuple[Tensor, Faults]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    assert found[1] == expected[1]


def only_file(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def test_images_in_memory_are_those_that_were_decoded(paths: list[Path]) -> None:
    images, faults = of_memory(paths)
    parts, _ = zip(*decode_all(paths, FORM), strict=True)
    np.testing.assert_array_equal(images.numpy(), np.concatenate(parts))
    assert faults == {3: f"{paths[3]} (no image format that Pillow knows)"}
    assert not images[3].any()


def test_the_cache_gives_the_same_and_is_decoded_once(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(load_images(NAMES, paths, FORM, cache), of_memory(paths))
    monkeypatch.setattr(image_cache, "decode_all", None)  # whoever decodes now, raises
    assert_same(load_images(NAMES, paths, FORM, cache), load_images(NAMES, paths, FORM, cache))
    assert [path.suffix for path in cache.iterdir()] == [".images"]


def test_what_is_written_to_the_images_stays_out_of_the_file(paths: list[Path], cache: Path) -> None:
    images, _ = load_images(NAMES, paths, FORM, cache)
    before = only_file(cache).read_bytes()
    images.fill_(7)
    assert only_file(cache).read_bytes() == before
    assert_same(load_images(NAMES, paths, FORM, cache), of_memory(paths))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Other tests may have switched on what is only said in passing."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_file_that_changed_is_noticed(paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_images(NAMES, paths, FORM, cache)
    Image.new("RGB", (8, 7), "red").save(paths[5])
    assert_same(load_images(NAMES, paths, FORM, cache), of_memory(paths))
    assert warnings_of(caplog) == [f"cache {only_file(cache)} is of files that have changed since, and is made anew"]


def test_a_file_that_was_written_again_at_the_same_size_is_noticed(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_images(NAMES, paths, FORM, cache)
    state = paths[5].stat()
    os.utime(paths[5], ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    load_images(NAMES, paths, FORM, cache)
    assert "have changed since" in caplog.text


@pytest.mark.parametrize("length", [0, 100, 9 * 3 * 6 * 5, 9 * 3 * 6 * 5 + 30])
def test_a_torn_file_is_made_anew(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    load_images(NAMES, paths, FORM, cache)
    file = only_file(cache)
    file.write_bytes(file.read_bytes()[:length])
    assert_same(load_images(NAMES, paths, FORM, cache), of_memory(paths))
    assert warnings_of(caplog) == [f"cache {file} is torn, and is made anew"]


def test_formats_and_lists_of_images_have_files_of_their_own(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forms = [FORM, ImageFormat((5, 6), 3), ImageFormat((6, 5), 1), ImageFormat((6, 5), 3, "squash")]
    for _ in range(2):
        for form in forms:
            assert_same(load_images(NAMES, paths, form, cache), of_memory(paths, form))
    fewer, _ = load_images(NAMES[:4], paths[:4], FORM, cache)
    assert fewer.shape == (4, 3, 6, 5)
    renamed = ("x", *NAMES[1:])
    load_images(renamed, paths, FORM, cache)
    assert len(list(cache.iterdir())) == len(forms) + 2
    assert warnings_of(caplog) == [], "none was taken for another"


def test_decoding_that_stops_leaves_no_file(paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_cache, "decode_all", stops)
        with pytest.raises(KeyboardInterrupt):
            load_images(NAMES, paths, FORM, cache)
    assert list(cache.iterdir()) == []
    assert_same(load_images(NAMES, paths, FORM, cache), of_memory(paths))


def test_decoding_into_a_cache_is_told(paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_images(NAMES, paths, FORM, cache)
        load_images(NAMES, paths, FORM, cache)
    assert caplog.messages == [f"decoding 9 images into {only_file(cache)}"]
