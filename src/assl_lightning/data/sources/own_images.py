"""Image files of your own: a folder, a folder for each class, or a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import torch

from assl_lightning.base.paths import expanded
from assl_lightning.data.decoding import Faults, ImageFormat, Resize
from assl_lightning.data.file_reading import ImageFile
from assl_lightning.data.folders import Folder
from assl_lightning.data.image_cache import Storage, read_images
from assl_lightning.data.image_stream import StoredImages, take_images
from assl_lightning.data.image_table import (
    ImageTable,
    hold_out,
    read_folder,
    read_image_folder,
    read_labels,
    read_manifest,
)
from assl_lightning.data.remote import RemoteFolder, folder_of_url
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.undecodable import refuse_undecodable

Read = Callable[[Sequence[str], Sequence[ImageFile]], tuple[StoredImages, Faults]]


def load_folder(
    root: str | Path,
    test_root: str | Path | None,
    image_size: Sequence[int],
    channels: int,
    labels: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
    images: Storage = "memory",
    cache: str | Path | None = None,
) -> PoolSource:
    """Return all images below `root` as the pool, and those below `test_root` as the test set.

    Labels of the pool are in the table `labels`, see `read_labels`; the others are unknown. `test_root` has a directory
    for each class; where it is None the test set is empty. The classes are `class_names` in that order, or these
    directories in the order of `class_order`, or, without `test_root`, the labels of the table. Sample ids are the
    paths from `root`.

    `ImageFormat` describes how images are converted, `read_images` what `images` ("memory" or "stream") and `cache` do.
    A pool image that cannot be decoded is black and listed in the source's `unreadable`; a test image that cannot be
    decoded is an error.

    Raises:
        FileNotFoundError: `root` or `test_root` is no directory, or there is no file `labels`.
        OSError: a listed file is gone, its disk failed, or the cache cannot be written.
        UndecodableImagesError: a test image cannot be decoded, or no image of the pool can be.
        ValueError: `root` and `test_root` are not apart, there are no classes, or `read_folder`, `read_image_folder`,
            `read_labels`, `ImageFormat` or `read_images` refuses what it is given.
    """
    pool_root, test = _folder(root), None
    if test_root is not None:
        pool_root, apart = _apart(root, test_root)
        test = read_image_folder(apart, class_names)
        class_names = test.class_names
    pool = read_folder(pool_root, [str(name) for name in class_names or ()])
    if labels is not None:
        pool = read_labels(expanded(labels), pool, class_names)
    if not pool.class_names:
        raise ValueError(
            "class_names must say which classes there are, such as [ok, dent], since neither a test_root nor labels do"
        )
    return _load(pool, test or pool.take([]), _reader(image_size, channels, resize, images, cache))


def load_image_folder(
    root: str | Path,
    image_size: Sequence[int],
    channels: int,
    test_root: str | Path | None = None,
    test_fraction: float = 0.2,
    test_seed: int = 0,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
    images: Storage = "memory",
    cache: str | Path | None = None,
) -> PoolSource:
    """Return all images below `root`, which has a directory for each class, as the pool; otherwise as `load_folder`.

    The test set is `test_root`, of the same layout. Where it is None, it is `test_fraction` of the images of `root`,
    drawn by `hold_out` with `test_seed`; an image that cannot be decoded is never drawn. The classes are `class_names`,
    or the directories of `root`.
    """
    read = _reader(image_size, channels, resize, images, cache)
    if test_root is None:
        draw = partial(hold_out, read_image_folder(_folder(root), class_names), test_fraction, test_seed)
        return _load(*draw(), read, draw)
    pool_root, apart = _apart(root, test_root)
    pool = read_image_folder(pool_root, class_names)
    test = read_image_folder(apart, pool.class_names)
    return _load(pool, test, read)


def load_manifest(
    manifest: str | Path,
    image_size: Sequence[int],
    channels: int,
    root: str | Path | None = None,
    test_fraction: float = 0.2,
    test_seed: int = 0,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
    images: Storage = "memory",
    cache: str | Path | None = None,
) -> PoolSource:
    """Return the images of a manifest, a CSV or Parquet file, see `read_manifest`; otherwise as `load_folder`.

    The test set has the images whose column split says so; where no image's does, `test_fraction` of the labelled
    images, drawn by `hold_out` with `test_seed`. Images without a label are in the pool.
    """
    if root is not None and folder_of_url(str(root)) is not None:
        raise ValueError(
            f"root must be a directory of this machine where the images are in a manifest; got {root}: give a folder "
            f"of a store to data=image_folder, or to data=folder with data.source.labels"
        )
    table = read_manifest(expanded(manifest), None if root is None else expanded(root), class_names)
    draw = partial(hold_out, table, test_fraction, test_seed)
    read = _reader(image_size, channels, resize, images, cache)
    return _load(*draw(), read, None if any(table.splits) else draw)


def _reader(
    image_size: Sequence[int], channels: int, resize: Resize, images: Storage, cache: str | Path | None
) -> Read:
    """Return `read_images` with the settings that all of these sources share."""
    form = ImageFormat(image_size, channels, resize)
    return partial(read_images, form=form, storage=images, cache=None if cache is None else expanded(cache))


def _load(
    pool: ImageTable,
    test: ImageTable,
    read: Read,
    draw: Callable[[Container[str]], tuple[ImageTable, ImageTable]] | None = None,
) -> PoolSource:
    """Read the images of both tables into a source.

    `draw`, where the test set is drawn, returns both tables again, with the given sample ids in the pool.
    """
    one_folder = pool.passed_over is test.passed_over
    test_images, test_faults = read(test.sample_ids, test.paths)
    if draw is not None and 0 < len(test_faults) < len(test):
        whole = [index for index in range(len(test)) if index not in test_faults]
        pool, test = draw({test.sample_ids[index] for index in test_faults})
        test_images, test_faults = take_images(test_images, torch.tensor(whole)), {}
    pool_images, pool_faults = read(pool.sample_ids, pool.paths)
    refuse_undecodable(pool_faults, test_faults, pool.sample_ids, test.sample_ids)
    return PoolSource(
        pool_images=pool_images,
        hidden_labels=torch.from_numpy(pool.labels),
        test_images=test_images,
        test_labels=torch.from_numpy(test.labels),
        class_names=pool.class_names,
        sample_ids=pool.sample_ids,
        unreadable=torch.tensor(sorted(pool_faults), dtype=torch.int64),
        reasons=tuple(reason for _, reason in sorted(pool_faults.items())),
        passed_over=pool.passed_over if one_folder else dict(Counter(pool.passed_over) + Counter(test.passed_over)),
        test_ids=test.sample_ids,
        paths=pool.paths,
    )


def _folder(root: str | Path) -> Folder:
    """Return the folder of a store that a URL names, or a directory."""
    return folder_of_url(str(root)) or expanded(root)


def _apart(root: str | Path, test_root: str | Path) -> tuple[Folder, Folder]:
    """Return both folders. One inside the other would put test images into the pool, or add a class."""
    pool, test = _folder(root), _folder(test_root)
    first, second = (
        PurePosixPath(folder.url) if isinstance(folder, RemoteFolder) else folder.resolve() for folder in (pool, test)
    )
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise ValueError(f"root and test_root must be apart, neither inside the other; got {pool} and {test}")
    return pool, test
