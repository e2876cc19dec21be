"""Images in a store, here fsspec's own in memory, against the same images in a directory; and a store that fails."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from assl_lightning.data import remote
from assl_lightning.data.image_cache import Storage
from assl_lightning.data.image_stream import StreamedImages
from assl_lightning.data.remote import RemoteFile, RemoteFolder, StoreError, folder_of_url, list_files
from assl_lightning.data.sources.own_images import load_folder, load_image_folder, load_manifest
from tests.stored_images import in_memory

FORM: dict[str, Any] = {"image_size": (6, 5), "channels": 3}
URL = "flaky://photos"
SECONDS = 30


class FlakyFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store in memory of its own, whose requests fail as often as a test says."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failures: ClassVar[dict[str, list[Exception]]] = {}  # end of a path → errors to come
    asked: ClassVar[Counter[str]] = Counter()
    together: ClassVar[threading.Barrier | None] = None  # requests wait until there are so many

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("flaky://", "memory://", 1))
        return stripped

    def find(self, path: str, *args: Any, **keywords: Any) -> Any:
        self.fail("listing")
        return super().find(path, *args, **keywords)

    def cat_file(self, path: str, *args: Any, **keywords: Any) -> bytes:
        if self.together is not None:
            self.together.wait(SECONDS)
        self.fail(path.rpartition("/")[2])
        content: bytes = super().cat_file(path, *args, **keywords)
        return content

    def fail(self, name: str) -> None:
        self.asked[name] += 1
        if self.failures.get(name):
            raise self.failures[name].pop(0)


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0, 0.0))
    system = fsspec.filesystem("flaky")
    yield system
    for held in (system.store, system.failures, system.asked):
        held.clear()
    FlakyFileSystem.pseudo_dirs[:] = [""]
    FlakyFileSystem.together = None


@pytest.fixture
def photos(tmp_path: Path, store: MemoryFileSystem) -> Path:
    """Twelve images of two classes, one of them damaged, and files that are none; in a directory and in the store."""
    root, generator = tmp_path / "photos", np.random.default_rng(0)
    for number in range(12):
        path = root / ("dent" if number % 2 else "ok") / "2026" / f"{number:02d} [é].png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(256, size=(8, 7, 3), dtype=np.uint8)).save(path)
    (root / "dent" / "2026" / "03 [é].png").write_bytes(b"nothing")
    (root / "notes.txt").write_text("none")
    for hidden in (root / "ok" / ".hidden.png", root / ".trash" / "old.png"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes(b"hidden")
    for path in root.rglob("*"):
        if path.is_file():
            put(store, path.relative_to(root).as_posix(), path.read_bytes())
    return root


def put(store: MemoryFileSystem, name: str, content: bytes) -> None:
    store.pipe_file(f"/photos/{name}", content)


Load = Callable[..., Any]


@pytest.mark.parametrize("images", ["memory", "stream"])
@pytest.mark.parametrize("load", [load_image_folder, load_folder])
def test_a_folder_of_a_store_is_the_same_pool_as_a_directory(photos: Path, load: Load, images: str) -> None:
    more = {"class_names": ["dent", "ok"], "test_root": None} if load is load_folder else {}
    local, stored = (load(root, images=images, **FORM, **more) for root in (photos, URL))
    assert stored.sample_ids == local.sample_ids
    assert "dent/2026/03 [é].png" in stored.sample_ids
    assert stored.test_ids == local.test_ids
    assert stored.class_names == local.class_names
    assert torch.equal(stored.hidden_labels, local.hidden_labels)
    assert stored.passed_over == local.passed_over == {".txt": 1}
    assert torch.equal(stored.unreadable, local.unreadable)
    assert [reason.replace(URL, str(photos)) for reason in stored.reasons] == [*local.reasons]
    for name in ("pool_images", "test_images"):
        assert isinstance(getattr(stored, name), StreamedImages) == (images == "stream")
        assert torch.equal(in_memory(getattr(stored, name)), in_memory(getattr(local, name)))
    assert [str(path) for path in stored.paths] == [f"{URL}/{name}" for name in stored.sample_ids]


def test_a_test_set_in_the_store_must_lie_apart(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="root and test_root must be apart, neither inside the other; got flaky"):
        load_folder(URL, f"{URL}/ok/", **FORM)
    (tmp_path / "new").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "new" / "a.png")
    (photos / "dent" / "2026" / "03 [é].png").unlink()
    for root in photos.rglob(".*"):
        if root.is_file():
            root.unlink()
    assert len(load_folder(tmp_path / "new", photos, **FORM).test_ids) == 11
    store = fsspec.filesystem("flaky")
    store.rm_file("/photos/dent/2026/03 [é].png")
    assert load_folder(tmp_path / "new", URL, **FORM).test_ids == load_folder(tmp_path / "new", photos, **FORM).test_ids


def read_only(store: MemoryFileSystem) -> RemoteFile:
    put(store, "a.png", b"content")
    (file,) = list_files(RemoteFolder(URL))
    return file


def test_a_request_that_fails_is_repeated_and_at_most_four_are_made(store: MemoryFileSystem) -> None:
    file = read_only(store)
    store.failures["a.png"] = [ConnectionResetError("reset"), TimeoutError(), RuntimeError("slow down")]
    assert file.read() == b"content"
    assert store.asked["a.png"] == 4
    store.failures["a.png"] = [RuntimeError("slow down")] * 4
    with pytest.raises(
        StoreError, match=re.escape(f"{URL}/a.png cannot be read (RuntimeError: slow down, in 4 tries)")
    ):
        file.read()
    assert store.asked["a.png"] == 8
    store.failures["listing"] = [OSError("no route")] * 3
    assert len(list_files(RemoteFolder(URL))) == 1
    store.failures["listing"] = [OSError("no route")] * 4
    with pytest.raises(
        StoreError, match=r"flaky://photos cannot be listed \(OSError: no route, in 4 tries\); see that"
    ):
        list_files(RemoteFolder(URL))


def test_what_another_try_does_not_change_is_not_asked_for_again(store: MemoryFileSystem) -> None:
    file = read_only(store)
    store.failures["a.png"] = [PermissionError("forbidden")]
    with pytest.raises(StoreError, match=r"a\.png cannot be read \(PermissionError: forbidden\); see that the store"):
        file.read()
    store.rm_file(file.path)
    with pytest.raises(FileNotFoundError, match=r"there is no such object any more: 'flaky://photos/a\.png'"):
        file.read()
    assert store.asked["a.png"] == 2


def test_an_object_that_does_not_come_whole_is_no_image(store: MemoryFileSystem) -> None:
    file = read_only(store)
    put(store, "a.png", b"cont")
    with pytest.raises(StoreError, match=r"OSError: 4 bytes came of the 7 that were listed, in 4 tries"):
        file.read()


def test_a_streamed_image_that_does_not_come_is_named_with_what_to_do(photos: Path, store: MemoryFileSystem) -> None:
    source = load_image_folder(URL, images="stream", **FORM)
    images, name = source.pool_images, source.sample_ids[5]
    store.failures[name.rpartition("/")[2]] = [OSError("no route")] * 4
    with pytest.raises(
        ValueError, match=re.escape(f"{URL}/{name} cannot be read (OSError: no route, in 4 tries); see")
    ):
        images[torch.arange(8)]
    store.rm_file(f"/photos/{name}")
    gone = f"{URL}/{name} (there is no such object any more): an image that could be decoded when the run began cannot"
    with pytest.raises(ValueError, match=re.escape(gone)):
        images[torch.arange(8)]


def test_many_objects_are_asked_for_at_once_also_in_a_worker(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_image_folder(URL, images="stream", **FORM).pool_images
    assert isinstance(images, StreamedImages)
    monkeypatch.setattr("assl_lightning.data.image_stream.get_worker_info", lambda: "a worker")
    index = images.readable[:8]
    FlakyFileSystem.together = threading.Barrier(8)
    assert len(images[index]) == 8


@pytest.mark.parametrize("images", ["memory", "stream"])
def test_a_cache_is_made_again_when_an_object_of_the_store_has_changed(
    photos: Path, store: MemoryFileSystem, tmp_path: Path, caplog: pytest.LogCaptureFixture, images: Storage
) -> None:
    def load() -> torch.Tensor:
        store.asked.clear()
        source = load_image_folder(URL, images=images, cache=tmp_path / "cache", **FORM)
        return in_memory(source.pool_images)

    before = load()
    assert torch.equal(load(), before)
    assert store.asked["listing"] == 1
    assert store.asked["02 [é].png"] == (images == "stream")
    assert "out of date" not in caplog.text
    put(store, "ok/2026/02 [é].png", (photos / "ok" / "2026" / "04 [é].png").read_bytes())
    after = load()
    assert "out of date" in caplog.text
    assert not torch.equal(after, before)


def test_fsspecs_own_cache_keeps_a_copy_and_half_a_copy_is_an_error(
    photos: Path, store: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    monkeypatch.setitem(fsspec.config.conf, "simplecache", {"cache_storage": str(copies)})
    root = f"simplecache::{URL}"
    source = load_image_folder(root, images="stream", **FORM)
    assert source.sample_ids == load_image_folder(photos, images="stream", **FORM).sample_ids
    assert len(list(copies.iterdir())) == 12
    store.asked.clear()
    again = load_image_folder(root, images="stream", **FORM)
    assert torch.equal(in_memory(again.pool_images), in_memory(source.pool_images))
    assert set(store.asked) == {"listing"}
    for copy in copies.iterdir():
        copy.write_bytes(copy.read_bytes()[:5])
    with pytest.raises(
        ValueError, match=r"5 bytes came of the .* or remove the local cache, whose copy may be incompl"
    ):
        in_memory(again.pool_images)


def test_mistakes_are_one_line_that_says_what_to_do(photos: Path, tmp_path: Path) -> None:
    fsspec.register_implementation("nowhere", "no_such_module.FileSystem", errtxt="Install nowherefs", clobber=True)
    for root, error, words in (
        ("flaky://none", ValueError, r"^flaky://none must (be a folder of images in a store|have image files in it)"),
        ("unknown://photos", ValueError, r"^unknown://photos must be a URL that fsspec knows; Protocol not known"),
        ("nowhere://photos", ImportError, r"^nowhere://photos: Install nowherefs; pip install .*s3://"),
        ("s3:/bucket/photos", ValueError, r"^s3:/bucket/photos: .* has two slashes, s3://bucket/photos$"),
        (f"file://{photos}", ValueError, r"^file://.*: write a directory of this machine as a path, without file://"),
        (f"{URL}/.trash/", ValueError, r"^flaky://photos/\.trash must have one directory for each of its classes"),
    ):
        with pytest.raises(error, match=words):
            load_image_folder(root, **FORM)
    (tmp_path / "images.csv").write_text("path,label\na.png,ok\n")
    with pytest.raises(ValueError, match="root must be a directory of this machine where the images are in a manifest"):
        load_manifest(tmp_path / "images.csv", root=URL, **FORM)


@pytest.mark.parametrize("text", ["photos", "/data/photos", "C:/photos", "a::b/photos", "./s3:/photos"])
def test_a_path_of_this_machine_is_no_url(text: str) -> None:
    assert folder_of_url(text) is None
