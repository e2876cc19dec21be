"""Classification data sets of torchvision, by the names of their Python classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from torchvision import datasets

from assl_lightning.base.paths import expanded
from assl_lightning.base.words import nearest
from assl_lightning.data.class_names import read_class_names
from assl_lightning.data.decoding import ImageFormat, Resize
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.items import (
    DrawnTest,
    Fault,
    Items,
    Namer,
    iterate_items,
    make_source,
    numbered,
    own_class_names,
    read_items,
    refuse_pictures_of_runs,
)

_SPLITS: Mapping[str, tuple[Any, Any]] = {"train": (True, False), "split": ("train", "test")}
"""Argument by which a data set chooses one of its parts → its values for the pool and for the test."""


def load_torchvision(
    dataset: str,
    image_size: Sequence[int],
    channels: int,
    num_classes: int,
    root: str | Path | None = None,
    download: bool = False,
    pool: Mapping[str, Any] | None = None,
    test: Mapping[str, Any] | None = None,
    test_fraction: float = 0.2,
    test_seed: int = 0,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
) -> PoolSource:
    """Read `torchvision.datasets.DATASET`, a Python class whose items are an image and one label.

    `pool` and `test` are its arguments for the two parts, such as {"split": "train"}. Where both are None, the parts
    are chosen by the argument `train` or `split`, whichever the class takes. Where it takes neither, or `test` alone is
    None, the test is `test_fraction` of the pool's labelled images, drawn by their sample ids and `test_seed`. The
    classes are `class_names`, the data set's own, or numbers up to `num_classes`. A sample id is the name of the data
    set, its part and the index, "CIFAR10/train/000042".

    Raises:
        RuntimeError: the files are not there, or not whole.
        ValueError: there is no such class, or it takes other arguments; its items are not an image and one label; or
            `make_source` refuses it.
    """
    form = ImageFormat(image_size, channels, resize)
    kind = _find(dataset)
    taken = inspect.signature(kind).parameters
    if pool is None and test is None:
        by = next((name for name in _SPLITS if name in taken), None)
        pool, test = ({by: value} for value in _SPLITS[by]) if by else ({}, None)
    of_pool = _open(kind, taken, root, download, pool or {})
    of_test = None if test is None else _open(kind, taken, root, download, test)
    names = class_names or own_class_names(of_pool, num_classes) or numbered(num_classes)
    return make_source(
        _read(of_pool, form, _name(dataset, pool or {}), num_classes),
        None if of_test is None else _read(of_test, form, _name(dataset, test or {}), num_classes),
        read_class_names(names),
        DrawnTest(test_fraction, test_seed),
    )


def _find(name: str) -> type[Dataset[Any]]:
    kinds = {key: kind for key, kind in vars(datasets).items() if inspect.isclass(kind) and issubclass(kind, Dataset)}
    if name in kinds:
        return kinds[name]
    raise ValueError(
        f"dataset must be the name of a class of torchvision.datasets, such as STL10; got {name!r}"
        f"{nearest(name, kinds)}"
    )


def _open(
    kind: type[Dataset[Any]],
    taken: Mapping[str, Any],
    root: str | Path | None,
    download: bool,
    arguments: Mapping[str, Any],
) -> Dataset[Any]:
    unknown = [name for name in arguments if name not in taken]
    if unknown:
        raise ValueError(
            f"{kind.__name__} takes no argument {unknown[0]!r}; it takes {', '.join(taken)}; name those that make the "
            f"part in pool and test"
        )
    if download and "download" not in taken:
        raise ValueError(
            f"torchvision cannot download {kind.__name__}; fetch it yourself, lay it under {root}, and set download: "
            f"false"
        )
    directory = {} if root is None or "root" not in taken else {"root": str(expanded(root))}
    fetch = {"download": download} if "download" in taken else {}
    try:
        return kind(**directory, **fetch, **arguments)
    except (RuntimeError, OSError) as error:
        raise RuntimeError(
            f"torchvision's {kind.__name__} must lie under {root}, whole ({error}); set download: true to fetch it "
            f"where torchvision can, or copy the files there"
        ) from error


def _name(dataset: str, arguments: Mapping[str, Any]) -> str:
    parts = [("train" if value else "test") if name == "train" else str(value) for name, value in arguments.items()]
    return "/".join([dataset, *parts])


def _read(dataset: Any, form: ImageFormat, name: str, num_classes: int) -> Items:
    refuse_pictures_of_runs(dataset)
    namer = Namer(name, lambda index: f"{name}/{index:06d}")
    return read_items(_pairs(dataset, name), len(dataset), form, namer, num_classes)


def _pairs(dataset: Any, name: str) -> Iterator[tuple[object, object]]:
    for index, item in enumerate(iterate_items(dataset)):
        if isinstance(item, Fault):
            yield item, None
            continue
        if not isinstance(item, tuple) or len(item) != 2:
            raise ValueError(f"{name} must have items of an image and a label; item {index} is a {type(item).__name__}")
        yield item
