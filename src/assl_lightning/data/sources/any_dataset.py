"""Any map-style `torch.utils.data.Dataset` of images and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from assl_lightning.base.tables import cell_text
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


def load_dataset(
    pool: Any,
    image_size: Sequence[int],
    channels: int,
    num_classes: int,
    test: Any = None,
    image: str = "image",
    label: str = "label",
    sample_ids: str | None = None,
    test_fraction: float = 0.2,
    test_seed: int = 0,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
) -> PoolSource:
    """Return the images of the data set `pool` and those of `test`; None: `test_fraction` of the pool's labelled ones.

    Both have a length and items (image, label), or dictionaries with the keys `image` and `label`. An image is a Pillow
    image, or uint8 pixels as an array (height, width, channels) or a tensor (channels, height, width). A label is the
    number or the name of a class; None and −1 are unknown. The classes are `class_names`, the attribute `classes` of
    the pool, or numbers.

    `sample_ids` names an attribute of `pool` that has the sample ids, one for each item. None: an id is the item's
    index and a digest of its pixels, so that the same items in another order are another data set.

    Raises:
        ValueError: a part is no such data set, or has not one sample id for each item; or `make_source` refuses it.
    """
    form = ImageFormat(image_size, channels, resize)
    names = class_names or own_class_names(pool, num_classes) or numbered(num_classes)
    of_pool = _read(pool, "pool", (image, label), form, _namer(pool, sample_ids))
    of_test = None if test is None else _read(test, "test", (image, label), form, Namer("test"))
    return make_source(of_pool, of_test, read_class_names(names), DrawnTest(test_fraction, test_seed))


def _namer(pool: Any, attribute: str | None) -> Namer:
    if attribute is None:
        return Namer("pool")
    ids = getattr(pool, attribute, None)
    if ids is None or not hasattr(ids, "__len__") or len(ids) != len(pool):
        found = "no such attribute" if ids is None else f"{len(ids) if hasattr(ids, '__len__') else 'no list of'} names"
        raise ValueError(
            f"sample_ids={attribute} must name an attribute of {type(pool).__name__} with a name for each of its "
            f"{len(pool)} items; it has {found}"
        )
    missing = [index for index in range(len(ids)) if not cell_text(ids[index])]
    if missing:
        raise ValueError(f"sample_ids={attribute} must name each item; item {missing[0]} has {ids[missing[0]]!r}")
    return Namer("pool", lambda index: cell_text(ids[index]))


def _read(dataset: Any, part: str, keys: tuple[str, str], form: ImageFormat, name: Namer) -> Items:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ValueError(
            f"{part} must be a data set with a length and items by their indices; {type(dataset).__name__} is none: "
            f"a data set that streams cannot be a pool"
        )
    refuse_pictures_of_runs(dataset)
    return read_items(_pairs(dataset, part, keys), len(dataset), form, name)


def _pairs(dataset: Any, part: str, keys: tuple[str, str]) -> Iterator[tuple[object, object]]:
    for index, item in enumerate(iterate_items(dataset)):
        if isinstance(item, Fault):
            yield item, None
        elif isinstance(item, Mapping) and keys[0] in item:
            yield item[keys[0]], item.get(keys[1])
        elif isinstance(item, (tuple, list)) and len(item) == 2:
            yield item[0], item[1]
        else:
            found = f"keys {', '.join(map(str, item))}" if isinstance(item, Mapping) else f"a {type(item).__name__}"
            raise ValueError(
                f"{part} must have items (image, label), or dictionaries with the key {keys[0]}; item {index} of "
                f"{type(dataset).__name__} is {found}"
            )
