"""MiniImageNet: 60,000 colour images of 84 × 84 pixels in 100 of ImageNet's classes (Vinyals et al. 2016)."""

from __future__ import annotations

import csv
import os
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from assl_lightning.base.paths import expanded
from assl_lightning.data.decoding import Faults, ImageFormat, Images, attempt, read_all
from assl_lightning.data.file_reading import read_file
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.undecodable import refuse_undecodable
from assl_lightning.data.unpickling import load_plain_pickle

_IMAGE_SIZE = 84
_FORM = ImageFormat((_IMAGE_SIZE, _IMAGE_SIZE), 3, "squash")
_NUM_CLASSES = {"train": 64, "val": 16, "test": 20}  # Ravi & Larochelle 2017; merged here in this order


def load_mini_imagenet(root: str | Path, images_per_class: int = 600, test_per_class: int = 120) -> PoolSource:
    """Read the 100 classes of all three splits as one data set: of each class, 120 images are the test, 480 the pool.

    The test has the first of each class. ALFA-Mix, and with it the paper, divides them so: 48,000 and 12,000 images
    (N, 3, 84, 84), class by class. Classes are numbered in the order of the files, train, val, test. `root` has either

    * mini-imagenet-cache-train.pkl, -val.pkl and -test.pkl, each a dictionary of `image_data` (n, 84, 84, 3) uint8 and
      `class_dict`, class → rows; taken where all three are there. They are read by `load_plain_pickle`.
    * train.csv, val.csv and test.csv with the columns filename and label, and the files in images/. An image of another
      size is resized to 84 × 84 by Pillow's BILINEAR, which is antialiased; the aspect ratio is not kept.

    A sample id is the class and the position among the class's images in the file, "mini_imagenet/n01532829/00120".
    The two formats may list images in different orders: compare accuracies within one format.

    A pool image that cannot be decoded is black and listed in the source's `unreadable`; one of the test set is an
    error.

    Raises:
        FileNotFoundError: neither format is there in full, or an image is missing.
        OSError: a file cannot be read at all.
        UndecodableImagesError: a test image cannot be decoded, or no image of the pool can be.
        ValueError: a file is damaged or not as above, a split has not its 64, 16 or 20 classes, a class has not
            `images_per_class` images, or `test_per_class` leaves the pool or the test set without any.
    """
    if not 1 <= test_per_class < images_per_class:
        raise ValueError(
            f"test_per_class must be in 1 … {images_per_class - 1}, so that every class has images in the test set and "
            f"in the pool; got {test_per_class}"
        )
    root = expanded(root)
    pool_per_class = images_per_class - test_per_class
    num_classes = sum(_NUM_CLASSES.values())
    pool_images = torch.empty(num_classes * pool_per_class, 3, _IMAGE_SIZE, _IMAGE_SIZE, dtype=torch.uint8)
    test_images = torch.empty(num_classes * test_per_class, 3, _IMAGE_SIZE, _IMAGE_SIZE, dtype=torch.uint8)
    names: list[str] = []
    test_faults: Faults = {}
    pool_faults: Faults = {}
    for split in _open_splits(root):
        _check(split, names, images_per_class)
        for name, rows in split.classes.items():
            pixels, faults = split.read(rows)
            images = torch.from_numpy(pixels)
            first_test, first_pool = len(names) * test_per_class, len(names) * pool_per_class
            test_images[first_test:][:test_per_class] = images[:test_per_class]
            pool_images[first_pool:][:pool_per_class] = images[test_per_class:]
            for position, fault in faults.items():
                if position < test_per_class:
                    test_faults[first_test + position] = fault
                else:
                    pool_faults[first_pool + position - test_per_class] = fault
            names.append(name)
    labels = torch.arange(num_classes)
    sample_ids, test_ids = (
        tuple(f"mini_imagenet/{name}/{position:05d}" for name in names for position in positions)
        for positions in (range(test_per_class, images_per_class), range(test_per_class))
    )
    refuse_undecodable(pool_faults, test_faults, sample_ids, test_ids)
    return PoolSource(
        pool_images=pool_images,
        hidden_labels=labels.repeat_interleave(pool_per_class),
        test_images=test_images,
        test_labels=labels.repeat_interleave(test_per_class),
        class_names=tuple(names),
        sample_ids=sample_ids,
        unreadable=torch.tensor(sorted(pool_faults), dtype=torch.int64),
        reasons=tuple(reason for _, reason in sorted(pool_faults.items())),
    )


@dataclass(frozen=True)
class _Split:
    """The classes of one file, in its order, with the rows or paths of their images."""

    name: str
    path: Path
    classes: Mapping[str, Sequence[Any]]
    read: Callable[[Sequence[Any]], tuple[Images, Faults]]  # rows or paths → images; black where there is a fault


def _open_splits(root: Path) -> Iterator[_Split]:
    """Return the three splits, in whichever of the two formats is there."""
    pickles = {name: root / f"mini-imagenet-cache-{name}.pkl" for name in _NUM_CLASSES}
    tables = {name: root / f"{name}.csv" for name in _NUM_CLASSES}
    if all(path.is_file() for path in pickles.values()):
        return (_open_pickle(name, path) for name, path in pickles.items())  # one at a time: each is up to 800 MB
    if all(path.is_file() for path in tables.values()) and (root / "images").is_dir():
        return iter([_open_table(name, path) for name, path in tables.items()])
    missing = ", ".join(path.name for path in pickles.values() if not path.is_file())
    missing_tables = ", ".join(
        [path.name for path in tables.values() if not path.is_file()] + ["images/"] * (not (root / "images").is_dir())
    )
    raise FileNotFoundError(
        f"MiniImageNet must lie in {root}, either as pickles (missing: {missing}) or as tables and images (missing: "
        f"{missing_tables}); it cannot be downloaded here: copy the mini-imagenet-cache-*.pkl files of few-shot "
        f"learning there, or ImageNet's images with the train.csv, val.csv and test.csv of Ravi & Larochelle"
    )


def _check(split: _Split, earlier: Sequence[str], images_per_class: int) -> None:
    """Raise unless a split has its classes, each with all its images and in no `earlier` split, and no image twice."""
    if len(split.classes) != _NUM_CLASSES[split.name]:
        raise ValueError(
            f"{split.path} must have {_NUM_CLASSES[split.name]} classes, those of MiniImageNet's {split.name} split; "
            f"it has {len(split.classes)}"
        )
    for name, rows in split.classes.items():
        if name in earlier:
            raise ValueError(f"{split.path} has the class {name}, which an earlier split has too; fetch it again")
        if len(rows) != images_per_class:
            raise ValueError(
                f"{split.path} must have images_per_class={images_per_class} images of each class; it has {len(rows)} "
                f"of {name}"
            )
    seen = set()
    for name, rows in split.classes.items():
        for row in rows:
            if row in seen:
                raise ValueError(f"{split.path} has the image {row} twice, the second time in {name}; fetch it again")
            seen.add(row)


# --- pickles ---------------------------------------------------------------------------------------------------------


def _open_pickle(name: str, path: Path) -> _Split:
    content = load_plain_pickle(path)
    match content:
        case {"image_data": np.ndarray() as images, "class_dict": dict() as classes}:
            pass
        case _:
            raise ValueError(f"{path} must hold a dictionary of image_data, an array, and class_dict, a dictionary")
    if images.dtype != np.uint8 or images.shape[1:] != (_IMAGE_SIZE, _IMAGE_SIZE, 3):
        raise ValueError(
            f"{path} must hold image_data of shape (n, {_IMAGE_SIZE}, {_IMAGE_SIZE}, 3) and type uint8; got "
            f"{images.shape} and {images.dtype}"
        )
    return _Split(
        name,
        path,
        {str(label): _check_rows(path, label, rows, len(images)) for label, rows in classes.items()},
        lambda rows: (images[rows].transpose(0, 3, 1, 2), {}),
    )


def _check_rows(path: Path, label: object, rows: object, num_images: int) -> list[int]:
    """Return the rows of one class as integers in [0, `num_images`)."""
    try:
        numbers = np.asarray(rows if isinstance(rows, (list, tuple, np.ndarray)) else None)
    except ValueError:  # rows of rows, not all as long
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or not np.all((numbers >= 0) & (numbers < num_images)):
        raise ValueError(f"{path} must give class_dict[{label!r}] as a list of rows of its {num_images} images")
    plain: list[int] = numbers.tolist()
    return plain


# --- tables and images -----------------------------------------------------------------------------------------------


def _open_table(name: str, path: Path) -> _Split:
    directory = path.parent / "images"
    (_, header), *lines = _read_lines(path) or [(1, [])]
    if header != ["filename", "label"]:
        raise ValueError(f"{path} must begin with the line filename,label; it begins with {','.join(header)!r}")
    classes: dict[str, list[Path]] = {}
    missing = []
    for number, cells in lines:
        where = f"{path}, line {number}"
        if len(cells) != 2 or not all(cells):
            raise ValueError(f"{where} must have a filename and a label; got {','.join(cells)!r}")
        filename, label = cells
        if filename != Path(filename).name or "\0" in filename or filename == "..":
            raise ValueError(
                f"{where} names {filename!r}, which must be a file's name in {directory}, and no path; correct it"
            )
        classes.setdefault(label, []).append(directory / filename)
        if not os.path.isfile(directory / filename):  # noqa: PTH113  (Path.is_file raises for a name that is too long)
            missing.append((where, filename))
    if missing:
        where, filename = missing[0]
        raise FileNotFoundError(
            f"{where} names {filename}, which is not in {directory} (images missing in all: {len(missing)}); copy them "
            f"there"
        )
    return _Split(name, path, classes, _read_images)


def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the number, from 1, and the cells of each line that is not empty; a cell in quotes may span lines."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise ValueError(f"{path} cannot be read as a table ({problem}); fetch it again") from problem


def _read_images(files: Sequence[Path]) -> tuple[Images, Faults]:
    _, parts, faults = zip(*read_all(files, _read_image, _FORM), strict=True)
    return np.concatenate(parts), dict(ChainMap(*faults))


def _read_image(file: Path) -> Images | str:
    """Return the image, or the reason why it cannot be decoded."""
    content = read_file(file)
    return f"{file} ({content})" if isinstance(content, str) else attempt(str(file), partial(_decode, content))


def _decode(content: bytes) -> Images:
    with Image.open(BytesIO(content)) as stored:
        image = stored.convert("RGB")
    if image.size != (_IMAGE_SIZE, _IMAGE_SIZE):
        image = image.resize((_IMAGE_SIZE, _IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)
