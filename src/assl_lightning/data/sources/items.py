"""Items of other libraries' data sets, an image and a label each, as a `PoolSource`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assl_lightning.base.tables import is_missing
from assl_lightning.base.words import first_few
from assl_lightning.data.decoding import Faults, ImageFormat, Images, attempt, convert
from assl_lightning.data.image_stream import StoredImages, take_images
from assl_lightning.data.image_table import UNKNOWN, is_drawn
from assl_lightning.data.outputs import pictures_of_runs
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.undecodable import refuse_undecodable

Label = int | str | None
"""The number of a class, its name, or None where it is unknown."""

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Items:
    """N images with their sample ids and labels: the pool or the test set of a source."""

    images: StoredImages  # (N, channels, height, width) uint8; an image that cannot be decoded is black
    labels: Sequence[Label]
    sample_ids: Sequence[str]
    faults: Faults

    def take(self, rows: Sequence[int]) -> Items:
        """Return the items at `rows`, in that order."""
        return Items(
            images=take_images(self.images, torch.tensor(rows, dtype=torch.int64)),
            labels=[self.labels[row] for row in rows],
            sample_ids=[self.sample_ids[row] for row in rows],
            faults={index: self.faults[row] for index, row in enumerate(rows) if row in self.faults},
        )


@dataclass(frozen=True)
class DrawnTest:
    """A test set that is drawn from the labelled images by `is_drawn`, where a data set has none of its own."""

    fraction: float
    seed: int


@dataclass(frozen=True)
class Namer:
    """Name items: a function of an item's index and image that returns its sample id.

    With `known`, the id depends on the index alone. Otherwise it is the `part`, the index and a digest of the pixels,
    so that another image at that index has another name; "undecodable" where there are no pixels.
    """

    part: str
    known: Callable[[int], str] | None = None

    def __call__(self, index: int, image: Image.Image | None) -> str:
        if self.known is not None:
            return self.known(index)
        digest = "undecodable" if image is None else short_digest(image.tobytes())
        return f"{self.part}/{index:06d}-{digest}"


def iterate_items(dataset: Any) -> Iterator[object]:
    """Yield each item, or a `Fault` where the data set raises, since many open and decode an image only then."""
    for index in range(len(dataset)):
        item = attempt(f"item {index}", partial(_get_item, dataset, index))
        yield Fault(item) if isinstance(item, str) else item[0]


class Fault(str):
    """The description of a fault, in the place of an item's image."""

    __slots__ = ()


def _get_item(dataset: Any, index: int) -> tuple[object]:
    return (dataset[index],)


def read_items(
    pairs: Iterable[tuple[object, object]], count: int, form: ImageFormat, name: Namer, num_classes: int | None = None
) -> Items:
    """Read `count` pairs of an image (see `to_pillow`) and a label (see `to_label`).

    An image that raises when it is decoded is one of the faults, and so is a `Fault` in the place of an image.
    """
    images = torch.zeros(count, *form.shape, dtype=torch.uint8)
    labels: list[Label] = []
    sample_ids: list[str] = []
    faults: Faults = {}
    for index, (image, label) in enumerate(pairs):
        labels.append(to_label(label, f"item {index}", num_classes))
        pixels, sample_id = _read_item(image, index, form, name)
        sample_ids.append(sample_id)
        if isinstance(pixels, str):
            faults[index] = pixels
        else:
            images[index].numpy()[:] = pixels
    return Items(images, labels, sample_ids, faults)


def _read_item(image: object, index: int, form: ImageFormat, name: Namer) -> tuple[Images | str, str]:
    """Return the pixels, or their fault, and the sample id."""
    where = f"item {index}"
    if isinstance(image, Fault):
        return image, name(index, None)
    stored = to_pillow(image, where)
    named = attempt(where, lambda: (name(index, stored),))
    if isinstance(named, str):  # the name is made of the pixels, which are read only now
        return named, name(index, None)
    return convert(stored, form, where), named[0]


def refuse_pictures_of_runs(dataset: object) -> None:
    """Refuse a data set whose list of files, such as `samples` of ImageFolder, has pictures that a run has written.

    Raises:
        ValueError: with the first of them.
    """
    samples = getattr(dataset, "samples", None)
    items = samples if isinstance(samples, list) else []
    files = [item[0] for item in items if isinstance(item, (tuple, list)) and item]
    found = pictures_of_runs(Path(file) for file in files if isinstance(file, (str, Path)))
    if found:
        raise ValueError(
            f"{type(dataset).__name__} has {len(found)} pictures in it that a run has written, such as {found[0]}; "
            f"move the run's directory away from the images, or read them with data=image_folder, which passes it over"
        )


def to_pillow(image: object, where: str) -> Image.Image:
    """Return an image as a Pillow image, which it may be already.

    Arrays are uint8 (height, width) or (height, width, 1, 3 or 4), or uint16 (height, width); tensors have the channels
    first. Floating-point pixels in [0, 1], as ToTensor makes them, become round(255 · value), halves to the even
    number: what was uint8 before is the same again.

    Raises:
        TypeError: it is none of these.
        ValueError: it has another shape, or floating-point numbers outside [0, 1], for instance, without a known white.
    """
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        tensor = image.detach().cpu()
        array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise TypeError(f"{where}: an image must be a Pillow image, an array or a tensor; got {type(image).__name__}")
    if np.issubdtype(array.dtype, np.floating):
        array = _to_uint8(array, where)
    is_grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype == np.uint8 and (is_grey or (array.ndim == 3 and array.shape[2] in _CHANNELS)):
        return Image.fromarray(array[:, :, 0] if is_grey and array.ndim == 3 else array)
    if array.dtype == np.uint16 and is_grey:
        return Image.fromarray(array.reshape(array.shape[:2]))
    raise ValueError(
        f"{where}: an image must be uint8, or floating point in [0, 1], of shape (height, width), (height, width, 1, 3 "
        f"or 4), a tensor (1, 3 or 4, height, width), or 16-bit grey; got {image.dtype} of shape {tuple(image.shape)}"
    )


def _to_uint8(array: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    """Return floating-point pixels in [0, 1] as the nearest uint8, halves to the even number.

    Raises:
        ValueError: a pixel is outside [0, 1], or NaN.
    """
    values = array.astype(np.float64)
    if not values.size or not (values.min() >= 0 and values.max() <= 1):
        found = f"in [{values.min():g}, {values.max():g}]" if values.size else "none"
        raise ValueError(
            f"{where}: floating-point pixels must be in [0, 1], as ToTensor makes them; got {found}; leave out "
            f"Normalize, or give the image as uint8 or as Pillow's"
        )
    pixels: np.ndarray[Any, Any] = np.rint(values * 255).astype(np.uint8)
    return pixels


def to_label(label: object, where: str, num_classes: int | None = None) -> Label:
    """Return a label as a whole number, a class's name, or None for −1, a blank text and a missing value such as NaN.

    An array or a list of one number is that number. One of `num_classes` numbers is one-hot: 1 for the class and 0 for
    the others; without `num_classes` it is refused.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(label, Tensor):
        label = label.detach().cpu().numpy() if label.dtype != torch.bfloat16 else label.detach().cpu().float().numpy()
    if isinstance(label, (list, tuple)) and all(isinstance(value, (int, float)) for value in label):
        label = np.array(label)
    is_numbers = isinstance(label, np.ndarray) and label.ndim == 1 and label.dtype.kind in "biuf"
    if isinstance(label, np.ndarray) and is_numbers and label.size > 1 and num_classes is not None:
        return _of_one_hot(label, where, num_classes)
    if isinstance(label, (np.ndarray, np.generic)) and label.size == 1:
        label = label.item()
    if is_missing(label) or (isinstance(label, str) and not label.strip()):
        return None
    if isinstance(label, str):
        return label
    if isinstance(label, int) and not isinstance(label, bool) and label >= UNKNOWN:
        return None if label == UNKNOWN else label
    raise ValueError(
        f"{where}: a label must be a class's number or name, or None where unknown; got {label!r} of type "
        f"{type(label).__name__}"
    )


def _of_one_hot(label: np.ndarray[Any, Any], where: str, num_classes: int) -> int:
    """Return the class that is 1, where the others are 0.

    Raises:
        ValueError: it is not so, or there are not `num_classes` of them.
    """
    if label.size != num_classes:
        raise ValueError(
            f"{where}: a one-hot label must have a number for each of the {num_classes} classes; it has {label.size}; "
            f"set data.num_classes, or give the class's number"
        )
    found = ", ".join(f"{value:g}" for value in label.tolist())
    if (label == 1).sum() != 1 or (label == 0).sum() != label.size - 1:
        raise ValueError(
            f"{where}: a label must be one class, as a number, a name or one-hot; got [{found}]: several "
            f"classes for an image, and shares of classes, are no labels of a classifier here"
        )
    return int(label.argmax())


def short_digest(content: bytes) -> str:
    """Return a digest of eight hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=4).hexdigest()


def make_source(pool: Items, test: Items | None, class_names: Sequence[str], drawn: DrawnTest) -> PoolSource:
    """Make a source of both parts; without a `test`, one is `drawn` from the pool's labelled images.

    Raises:
        UndecodableImagesError: a test image cannot be decoded, or no image of the pool can be.
        ValueError: a label that is no class, a test image without a label, no image or all images drawn for the test.
    """
    refuse_undecodable(pool.faults, test.faults if test else {}, pool.sample_ids, test.sample_ids if test else ())
    if test is None:
        pool, test = _draw(pool, drawn)
    pool_labels, test_labels = _numbers(pool, class_names, "pool"), _numbers(test, class_names, "test set")
    unlabelled = (test_labels == UNKNOWN).nonzero()[:, 0].tolist()
    if unlabelled:
        raise ValueError(
            f"every test image must have a label; {len(unlabelled)} have none, such as item {unlabelled[0]}"
        )
    return PoolSource(
        pool_images=pool.images,
        hidden_labels=pool_labels,
        test_images=test.images,
        test_labels=test_labels,
        class_names=tuple(class_names),
        sample_ids=tuple(pool.sample_ids),
        unreadable=torch.tensor(sorted(pool.faults), dtype=torch.int64),
        reasons=tuple(reason for _, reason in sorted(pool.faults.items())),
    )


def _draw(items: Items, drawn: DrawnTest) -> tuple[Items, Items]:
    """Return pool and test. An image that cannot be decoded is in the pool: it tests nothing, and may have no name."""
    is_test = [
        label is not None and row not in items.faults and is_drawn(name, drawn.fraction, drawn.seed)
        for row, (name, label) in enumerate(zip(items.sample_ids, items.labels, strict=True))
    ]
    pool, test = ([row for row, tests in enumerate(is_test) if tests == wanted] for wanted in (False, True))
    if not any(label is not None for label in items.labels):
        raise ValueError(
            f"none of the {len(is_test)} images has a label, and labelled ones are needed for the test; name the "
            f"images for the test, or the part of an item that is the label"
        )
    if not pool or not test:
        raise ValueError(
            f"there must be images for the pool and labelled ones for the test; "
            f"test_fraction={drawn.fraction:g} takes {len(test)} of {len(is_test)}: choose "
            f"another, or name the images for the test"
        )
    return items.take(pool), items.take(test)


def _numbers(items: Items, class_names: Sequence[str], part: str) -> Tensor:
    """Return the labels as numbers, (N,) int64 in [0, C), −1 where unknown."""
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = []
    for index, label in enumerate(items.labels):
        known = numbers.get(label) if isinstance(label, str) else label
        if label is not None and (known is None or known >= len(class_names)):
            raise ValueError(
                f"the label of item {index} of the {part}, {label!r}, is not among the {len(class_names)} classes "
                f"({first_few(class_names, most=10)}); name them all in class_names"
            )
        labels.append(UNKNOWN if known is None else known)
    return torch.tensor(labels, dtype=torch.int64)


def own_class_names(dataset: Any, num_classes: int) -> list[str] | None:
    """Return the names of a data set's classes; None where it has none.

    They are its attribute `classes`. Without it they are those of `class_to_idx` or `categories`, where there are
    `num_classes` of them, or else those of the data set of which it is a part (`dataset` of a Subset). A class that has
    several names gets all of them.
    """
    names = getattr(dataset, "classes", None)
    if names is None or not len(names):
        numbers = getattr(dataset, "class_to_idx", None)
        names = sorted(numbers, key=numbers.__getitem__) if isinstance(numbers, Mapping) else None
        names = names or getattr(dataset, "categories", None)
        if not isinstance(names, (list, tuple)) or len(names) != num_classes:
            part_of = getattr(dataset, "dataset", None)
            return None if part_of is None else own_class_names(part_of, num_classes)
    return [", ".join(map(str, name)) if isinstance(name, (list, tuple)) else str(name) for name in names]


def numbered(num_classes: int) -> list[str]:
    """Return names for classes that have none: "0", "1", …"""
    return [str(number) for number in range(num_classes)]
