"""Data sets of Hugging Face's library `datasets`: from a directory that it has saved, or by their names."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.extras import install_command
from assl_lightning.base.paths import expanded
from assl_lightning.base.tables import cell_text
from assl_lightning.base.words import with_kind
from assl_lightning.data.class_names import class_order, read_class_names
from assl_lightning.data.decoding import Faults, ImageFormat, Images, Resize, attempt, decode_bytes
from assl_lightning.data.file_reading import read_file
from assl_lightning.data.image_cache import Storage
from assl_lightning.data.image_stream import StoredImages, StreamedImages, count_pixels
from assl_lightning.data.outputs import pictures_of_runs
from assl_lightning.data.remote import StoreError
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.items import (
    DrawnTest,
    Items,
    Label,
    make_source,
    numbered,
    short_digest,
    to_label,
)

_AT_ONCE = 256  # rows whose files are in memory together


def load_huggingface(
    path: str | Path,
    image_size: Sequence[int],
    channels: int,
    num_classes: int,
    name: str | None = None,
    split: str | None = "train",
    test_split: str | None = "test",
    image: str = "image",
    label: str | None = "label",
    sample_id: str | None = None,
    test_fraction: float = 0.2,
    test_seed: int = 0,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
    data_files: Mapping[str, Any] | None = None,
    images: Storage = "memory",
) -> PoolSource:
    """Return the rows of `split` as the pool and those of `test_split` as the test; None: `test_fraction` of the pool.

    `path` is a directory that `save_to_disk` wrote, or anything that `datasets.load_dataset` takes, with the
    configuration `name`; no code of the data set is run. Shards are named in `data_files`, such as
    {"train": "s3://bucket/train-*.parquet"} with the `path` "parquet".

    `image` names the column of the feature Image, `label` the column of the classes (None: all labels are unknown): a
    ClassLabel with its names, whole numbers, or texts. The classes are `class_names`, the names of the ClassLabel, the
    texts in `class_order`, or numbers up to `num_classes`.

    With `images` "memory" the pixels are a tensor. With "stream" they stay in the table's Arrow files, which are mapped
    from the disk, and are decoded by row when they are looked at; all are decoded once now, to find the faults.

    Sample ids are in the column `sample_id`. None: an id is the split, the row and a digest of the image's bytes, so
    that the same rows in another order are another data set.

    Raises:
        ImportError: `datasets` is not installed.
        OSError: there is no such data set or file, or it cannot be loaded.
        TypeError: it streams, its column of images has another feature, or `data_files` is no mapping.
        ValueError: it has no such split or column; or `make_source` refuses it.
    """
    form = ImageFormat(image_size, channels, resize)
    require_one_of("images", images, Storage)
    loaded = _load(path, name, data_files)
    rows = find_split(loaded, split, "split")
    tests = None if test_split is None else find_split(loaded, test_split, "test_split")
    _check_columns(rows, image, label, sample_id)
    pool = _read(rows, form, image, label, sample_id, split or "rows", num_classes, images)
    test = None
    if tests is not None:
        _check_columns(tests, image, label, None)
        test = _read(tests, form, image, label, None, test_split or "rows", num_classes, images)
    names = class_names or _class_names(rows, label, pool, num_classes)
    return make_source(pool, test, read_class_names(names), DrawnTest(test_fraction, test_seed))


def find_split(loaded: Any, split: str | None, key: str) -> Any:
    """Return the rows of one `split` of what `datasets` has loaded.

    Raises:
        TypeError: it streams.
        ValueError: it has no such split.
    """
    import datasets

    if isinstance(loaded, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        raise TypeError(
            "a pool needs its rows by their numbers, and a data set that streams has none; load it without streaming"
        )
    if isinstance(loaded, datasets.Dataset):
        if split is None or str(loaded.split) == split:
            return loaded
        raise ValueError(f"{key} must be null, since the data set is one table without splits; got {split!r}")
    if split in loaded:
        return loaded[split]
    raise ValueError(f"{key} must be one of {', '.join(loaded)}, the splits that the data set has; got {split!r}")


def _load(path: str | Path, name: str | None, data_files: Mapping[str, Any] | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "data=huggingface needs the package datasets, which is not installed; install it with "
            f"{install_command('huggingface')}"
        ) from error
    if data_files is not None:
        return _load_files(path, name, data_files)
    directory = expanded(path)
    if any((directory / file).is_file() for file in ("dataset_dict.json", "state.json")):
        return datasets.load_from_disk(str(directory))
    return datasets.load_dataset(str(directory) if directory.exists() else str(path), name)


def _load_files(path: str | Path, name: str | None, data_files: Mapping[str, Any]) -> Any:
    """Load the files of each split, which may lie in a store; an error of the store's library becomes a sentence."""
    import datasets

    if not isinstance(data_files, Mapping):
        raise TypeError(f"data_files must name files by split, such as {{train: photos/*.parquet}}; got {data_files!r}")
    try:
        return datasets.load_dataset(str(path), name, data_files=dict(data_files))
    except Exception as error:
        is_wrapped = isinstance(error, datasets.exceptions.DatasetGenerationError)
        reason = (error.__cause__ if is_wrapped else None) or error
        if isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EDQUOT):
            raise reason from None  # the local disk is full
        raise StoreError(
            f"data_files cannot be loaded: {with_kind(reason)}; see that `path` names their format and `name` one of "
            f"its configurations, that each pattern matches a file, and that the store answers"
        ) from error


def _check_columns(rows: Any, image: str, label: str | None, sample_id: str | None) -> None:
    import datasets

    for key, column in (("image", image), ("label", label), ("sample_id", sample_id)):
        if column is not None and column not in rows.column_names:
            raise ValueError(f"{key} must be one of the columns {', '.join(rows.column_names)}; got {column!r}")
    if not isinstance(rows.features[image], datasets.Image):
        raise TypeError(
            f"the column {image} must have the feature Image; it is {type(rows.features[image]).__name__}: cast it "
            f"with cast_column({image!r}, datasets.Image())"
        )


def _class_names(rows: Any, label: str | None, pool: Items, num_classes: int) -> Sequence[str]:
    names: Sequence[str] | None = None if label is None else getattr(rows.features[label], "names", None)
    texts = {text for text in pool.labels if isinstance(text, str)}
    return names or class_order(texts) or numbered(num_classes)


@dataclass(frozen=True)
class TableRow:
    """The image of a row, which is read when it is looked at."""

    rows: Any = field(repr=False)  # the table's column of images alone, not decoded
    number: int

    def __str__(self) -> str:
        return f"row {self.number}"

    def read(self) -> bytes | str:
        """Return the content of the image's file, or the reason why it cannot be read."""
        (cell,) = self.rows[self.number].values()
        return _content(cell, str(self))


def _read(
    rows: Any,
    form: ImageFormat,
    image: str,
    label: str | None,
    sample_id: str | None,
    part: str,
    num_classes: int,
    storage: Storage,
) -> Items:
    import datasets

    rows = rows.with_format(None).cast_column(image, datasets.Image(decode=False))
    pixels = torch.zeros(len(rows) if storage == "memory" else 0, *form.shape, dtype=torch.uint8)
    histogram = torch.zeros(form.channels, 256, dtype=torch.int64)
    labels: list[Label] = []
    sample_ids: list[str] = []
    faults: Faults = {}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for first in range(0, len(rows), _AT_ONCE):
            columns = rows[first : first + _AT_ONCE]
            indices = range(first, first + len(columns[image]))
            contents = list(threads.map(_read_cell, indices, columns[image]))
            labels += [
                to_label(columns[label][index - first] if label else None, f"row {index}", num_classes)
                for index in indices
            ]
            sample_ids += (
                [_name(name, index) for name, index in zip(columns[sample_id], indices, strict=True)]
                if sample_id
                else [
                    f"{part}/{index:06d}-{'undecodable' if isinstance(content, str) else short_digest(content)}"
                    for index, content in zip(indices, contents, strict=True)
                ]
            )
            decoded = list(threads.map(partial(_decode, form=form), indices, contents))
            faults |= {index: found for index, found in zip(indices, decoded, strict=True) if isinstance(found, str)}
            if storage == "stream":
                readable = [found for found in decoded if not isinstance(found, str)]
                histogram += count_pixels(torch.from_numpy(np.stack(readable))) if readable else 0
                continue
            for index, found in zip(indices, decoded, strict=True):
                if not isinstance(found, str):
                    pixels[index].numpy()[:] = found
    images: StoredImages = pixels
    if storage == "stream":
        column = rows.select_columns([image])
        unreadable = torch.tensor(sorted(faults), dtype=torch.int64)
        images = StreamedImages([TableRow(column, number) for number in range(len(rows))], form, unreadable, histogram)
    return Items(images, labels, sample_ids, faults)


def _name(cell: object, index: int) -> str:
    name = cell_text(cell)
    if not name:
        raise ValueError(f"row {index} has no sample_id; fill it in, or name no column for it")
    return name


def _decode(index: int, content: bytes | str, form: ImageFormat) -> Images | str:
    return content if isinstance(content, str) else decode_bytes(content, form, f"row {index}")


def _read_cell(index: int, cell: Any) -> bytes | str:
    """Return the bytes of an image's file, empty for a row without an image; or the reason why it cannot be read."""
    path = Path(cell["path"]) if cell is not None and cell["bytes"] is None and cell["path"] else None
    if path is not None and pictures_of_runs([path]):
        raise ValueError(
            f"{path} is a picture that a run has written, a copy of an image; move the run's directory away from the "
            f"images, or read them with data=image_folder, which passes it over"
        )
    return attempt(f"row {index}", partial(_content, cell, f"row {index}"))


def _content(cell: Any, name: str) -> bytes | str:
    if cell is None:
        return b""
    if cell["bytes"] is not None:
        return bytes(cell["bytes"])
    content = read_file(Path(cell["path"]))
    return f"{name} ({cell['path']}: {content})" if isinstance(content, str) else content
