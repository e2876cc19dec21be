"""Images from a cache against images that are decoded, while files change, caches are damaged and runs are killed."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from assl_lightning.base import locking
from assl_lightning.data import image_cache
from assl_lightning.data.decoding import Faults, ImageFormat, decode_all
from assl_lightning.data.image_cache import Storage, read_images
from assl_lightning.data.image_stream import StreamedImages, count_pixels
from tests.stored_images import in_memory

FORM = ImageFormat((6, 5), 3)
NAMES = tuple(f"image/{number}" for number in range(9))
STORAGES: tuple[Storage, ...] = ("memory", "stream")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "made" / "here"


def read(paths: list[Path], storage: Storage, cache: Path | None, form: ImageFormat = FORM) -> tuple[Tensor, Faults]:
    images, faults = read_images(NAMES, paths, form, storage, cache)
    assert isinstance(images, StreamedImages) == (storage == "stream")
    return in_memory(images), faults


def decoded(paths: list[Path], form: ImageFormat = FORM) -> tuple[Tensor, Faults]:
    return read(paths, "memory", None, form)


def assert_same(found: tuple[Tensor, Faults], expected: tuple[Tensor, Faults]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    assert found[1] == expected[1]


def only(cache: Path, pattern: str) -> Path:
    (file,) = cache.glob(pattern)
    return file


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Other tests may have switched on messages of a lower level."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_images_in_memory_are_those_that_were_decoded(paths: list[Path]) -> None:
    images, faults = decoded(paths)
    _, parts, _ = zip(*decode_all(paths, FORM), strict=True)
    np.testing.assert_array_equal(images.numpy(), np.concatenate(parts))
    assert faults == {3: f"{paths[3]} (no image format that Pillow knows)"}
    assert not images[3].any()


@pytest.mark.parametrize("storage", STORAGES)
def test_the_cache_gives_the_same_and_is_decoded_once(
    paths: list[Path], cache: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same(read(paths, storage, cache), decoded(paths))
    monkeypatch.setattr(image_cache, "decode_all", None)  # decoding would raise
    assert_same(read(paths, storage, cache), read(paths, storage, cache))


def test_a_cache_of_pixels_holds_the_survey_of_streamed_images_too(
    paths: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = read(paths, "memory", cache)
    monkeypatch.setattr(image_cache, "decode_all", None)  # decoding would raise
    streamed, _ = read_images(NAMES, paths, FORM, "stream", cache)
    assert isinstance(streamed, StreamedImages)
    assert streamed.histogram is not None
    assert torch.equal(streamed.histogram, count_pixels(images[streamed.readable]))


def test_a_cache_without_pixels_gets_them_when_they_are_asked_for(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(paths, "stream", cache)
    assert [file.suffix for file in cache.iterdir()] == [".json"]
    assert_same(read(paths, "memory", cache), decoded(paths))
    assert sorted(file.suffix for file in cache.iterdir()) == [".json", ".npy"]
    assert warnings_of(caplog) == [], "nothing was wrong"


def test_any_tool_can_read_the_pixels_and_their_key(paths: list[Path], cache: Path) -> None:
    images, _ = read(paths, "memory", cache)
    np.testing.assert_array_equal(np.load(only(cache, "*.npy"), allow_pickle=False), images.numpy())
    content = json.loads(only(cache, "*.json").read_text())
    assert content["shape"] == [9, 3, 6, 5]
    assert content["resize"] == "crop"
    assert content["faults"] == {"3": f"{paths[3]} (no image format that Pillow knows)"}
    readable = images[torch.tensor([0, 1, 2, 4, 5, 6, 7, 8])]
    assert content["histogram"] == count_pixels(readable).tolist()


def test_what_is_written_to_the_images_stays_out_of_the_file(paths: list[Path], cache: Path) -> None:
    for _ in range(2):  # mapped where it was just written, and where it was there before
        images, _ = read_images(NAMES, paths, FORM, "memory", cache)
        assert isinstance(images, Tensor)
        before = only(cache, "*.npy").read_bytes()
        images.fill_(7)
        assert only(cache, "*.npy").read_bytes() == before
        assert_same(read(paths, "memory", cache), decoded(paths))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_file_that_changed_is_noticed(
    paths: list[Path], cache: Path, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    read(paths, storage, cache)
    names = {file.suffix for file in cache.iterdir()}
    Image.new("RGB", (8, 7), "red").save(paths[3])
    assert_same(read(paths, storage, cache), decoded(paths))
    file = only(cache, "*.json")
    assert warnings_of(caplog) == [f"cache {file} is out of date, since files have changed, and is made again"]
    assert {file.suffix for file in cache.iterdir()} == names
    assert len(list(cache.iterdir())) == len(names), "the old pixels are removed"


def test_a_file_that_was_written_again_at_the_same_size_is_noticed(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(paths, "memory", cache)
    state = paths[5].stat()
    os.utime(paths[5], ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    read(paths, "memory", cache)
    assert "is out of date, since files have changed" in caplog.text


HEADER = 128  # bytes


@pytest.mark.parametrize("length", [0, 4, 60, HEADER, HEADER + 100])
def test_pixels_that_are_cut_short_are_made_again(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    read(paths, "memory", cache)
    file = only(cache, "*.npy")
    content = file.read_bytes()
    assert len(content) == HEADER + 9 * 3 * 6 * 5
    file.write_bytes(content[:length])
    assert_same(read(paths, "memory", cache), decoded(paths))
    assert warnings_of(caplog) == [f"cache {file} is damaged and is made again"]


@pytest.mark.parametrize(
    "other",
    [np.zeros((9, 3, 6, 6), np.uint8), np.zeros((9, 3, 6, 5), np.int8), np.array([{}]), np.zeros((), np.uint8)],
    ids=["size", "type", "objects", "nothing"],
)
def test_an_array_of_another_shape_or_type_is_never_taken_for_the_pixels(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture, other: Any
) -> None:
    read(paths, "memory", cache)
    file = only(cache, "*.npy")
    np.save(file, other)
    assert_same(read(paths, "memory", cache), decoded(paths))
    assert warnings_of(caplog) == [f"cache {file} is damaged and is made again"]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", "7", '{"faults": {}, "histogram": [[1]]}', '{"faults": [], "x": 1}', "\xff", "[" * 9999],
)
def test_a_damaged_survey_is_made_again(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture, storage: Storage, content: str
) -> None:
    read(paths, storage, cache)
    file = only(cache, "*.json")
    file.write_bytes(content.encode("latin-1"))
    assert_same(read(paths, storage, cache), decoded(paths))
    assert warnings_of(caplog) == [f"cache {file} is damaged and is made again"]


@pytest.mark.parametrize("storage", STORAGES)
def test_files_of_a_cache_may_be_removed_at_any_time(paths: list[Path], cache: Path, storage: Storage) -> None:
    images, _ = read_images(NAMES, paths, FORM, storage, cache)
    for pattern in ("*.json", "*.npy", "*"):
        for file in cache.glob(pattern):
            file.unlink()
        assert_same(read(paths, storage, cache), decoded(paths))
    assert torch.equal(in_memory(images), decoded(paths)[0])


NAME_IN_EARLIER_VERSIONS = "802ab1891a8b555e661b22a5"
"""Digest of `NAMES` and `FORM`, as version 2 computed it."""


@pytest.mark.parametrize(("suffix", "storage"), [(".images", "memory"), (".survey", "stream"), (".images", "stream")])
def test_a_cache_of_an_earlier_version_is_made_again_once_and_removed(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture, suffix: str, storage: Storage
) -> None:
    cache.mkdir(parents=True)
    file = cache / f"{NAME_IN_EARLIER_VERSIONS}{suffix}"
    file.write_bytes(bytes(9 * 3 * 6 * 5) + b'{"version": 2}')
    for _ in range(2):
        assert_same(read(paths, storage, cache), decoded(paths))
    assert warnings_of(caplog) == [f"cache {file} was made by an earlier version and is made again"]
    assert not file.exists()


def test_a_cache_of_a_later_version_is_made_again(paths: list[Path], cache: Path) -> None:
    read(paths, "memory", cache)
    file = only(cache, "*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 4, "faults": {}}))
    assert_same(read(paths, "memory", cache), decoded(paths))


def test_formats_and_lists_of_images_have_files_of_their_own(
    paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forms = [FORM, ImageFormat((5, 6), 3), ImageFormat((6, 5), 1), ImageFormat((6, 5), 3, "squash")]
    for _ in range(2):
        for form in forms:
            assert_same(read(paths, "memory", cache, form), decoded(paths, form))
    fewer, _ = read_images(NAMES[:4], paths[:4], FORM, "memory", cache)
    assert fewer.shape == (4, 3, 6, 5)
    renamed = ("x", *NAMES[1:])
    read_images(renamed, paths, FORM, "memory", cache)
    assert len(list(cache.glob("*.json"))) == len(list(cache.glob("*.npy"))) == len(forms) + 2
    assert warnings_of(caplog) == [], "no cache was taken for another"


@pytest.mark.parametrize("storage", STORAGES)
def test_a_list_without_images_has_no_files(cache: Path, storage: Storage) -> None:
    images, faults = read_images((), (), FORM, storage, cache)
    assert (images.shape, faults) == ((0, 3, 6, 5), {})
    assert not cache.exists()


def test_another_storage_is_refused(paths: list[Path]) -> None:
    storage: Any = "disk"
    with pytest.raises(ValueError, match="images must be one of memory, stream; got 'disk'"):
        read_images(NAMES, paths, FORM, storage, None)


def test_decoding_that_stops_leaves_no_file(paths: list[Path], cache: Path) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    for storage in STORAGES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(image_cache, "decode_all", stops)
            with pytest.raises(KeyboardInterrupt):
                read(paths, storage, cache)
        assert list(cache.iterdir()) == []
    assert_same(read(paths, "memory", cache), decoded(paths))


def test_a_full_disk_is_an_error_that_leaves_the_cache_as_it_was(paths: list[Path], cache: Path) -> None:
    read(paths, "memory", cache)
    before = {file: file.read_bytes() for file in cache.iterdir()}
    os.utime(paths[5], ns=(0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER + 100, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: .*\.npy"):
            read(paths, "memory", cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {file: file.read_bytes() for file in cache.iterdir()} == before


@pytest.mark.parametrize("storage", STORAGES)
def test_of_those_that_begin_together_one_decodes_and_the_others_wait(
    paths: list[Path], cache: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads, since a lock is held by an open file, and not by a process."""
    second_waits, surveys, survey = threading.Event(), [], image_cache._survey

    def counted(*arguments: Any) -> Any:
        surveys.append(arguments)
        assert second_waits.wait(60)
        return survey(*arguments)

    monkeypatch.setattr(image_cache, "_survey", counted)
    monkeypatch.setattr(locking.log, "info", lambda *_: second_waits.set())
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: read(paths, storage, cache), range(2)))
    assert len(surveys) == 1
    for one in found:
        assert_same(one, decoded(paths))
    assert not list(cache.glob("*.lock"))


def test_decoding_is_told(paths: list[Path], cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    surveying = "decoding 9 images once, to find those that cannot be"
    with caplog.at_level(logging.INFO):
        read_images(NAMES, paths, FORM, "stream", None)
        read_images(NAMES, paths, FORM, "stream", cache)
        read_images(NAMES, paths, FORM, "memory", cache)
        for storage in STORAGES:
            read_images(NAMES, paths, FORM, storage, cache)
    assert caplog.messages == [surveying, surveying, f"decoding 9 images into {only(cache, '*.npy')}"]


# --- kills -----------------------------------------------------------------------------------------------------------


def killed_at(event: int, cache: Path, action: Callable[[], object]) -> bool:
    """Run `action` in a process that is killed at its `event`-th step: a file opened, named or removed, a part decoded.

    Returns False where there are fewer steps, and it ended by itself.
    """
    process = os.fork()
    if process:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert code in (0, -signal.SIGKILL)
        return code != 0
    code = 70
    try:
        left = event

        def count_down() -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        def note(name: str, arguments: tuple[Any, ...]) -> None:
            if name in ("open", "os.rename", "os.remove") and str(arguments[0]).startswith(str(cache)):
                count_down()

        def decode_parts(*arguments: Any) -> Any:
            for part in decode_all(*arguments):
                count_down()
                yield part

        sys.addaudithook(note)
        vars(image_cache)["decode_all"] = decode_parts
        action()
        code = 0
    finally:
        os._exit(code)


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python >= 3.12
@pytest.mark.parametrize("storage", STORAGES)
def test_a_run_that_is_killed_leaves_the_old_cache_or_the_new_one(
    paths: list[Path], cache: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [paths[5].read_bytes(), paths[6].read_bytes()]
    expected: list[tuple[Tensor, Faults]] = []

    def set_files(state: int) -> None:
        paths[5].write_bytes(contents[state])
        os.utime(paths[5], ns=(10**18, 10**18 + state))

    for state in (0, 1):
        set_files(state)
        expected.append(decoded(paths))
    event, left = 0, []
    while True:
        set_files(0)
        read(paths, storage, cache)
        set_files(1)
        was_killed = killed_at(event, cache, lambda: read(paths, storage, cache))
        there = []
        for state in (0, 1):
            set_files(state)
            with monkeypatch.context() as patch:
                patch.setattr(image_cache, "decode_all", None)  # decoding would raise
                try:
                    assert_same(read(paths, storage, cache), expected[state])
                except TypeError:
                    continue
                there.append(state)
        assert len(there) == 1, "one of the two caches is whole"
        left += there
        for state in (1, 0):
            set_files(state)
            assert_same(read(paths, storage, cache), expected[state])
        if not was_killed:
            break
        event += 1
    assert event >= (10 if storage == "memory" else 6)
    assert left == sorted(left), "the old one until the new one is whole"
    assert left[-1] == 1
