"""Any map-style `torch.utils.data.Dataset` of images and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from assl_lightning.base.tables import cell_text
from assl_lightning.data.class_names import read_class_names
from assl_lightning.data.decoding import ImageFormat, Resize
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.item_shape import IMAGE, LABEL, SAMPLE_ID, ItemShape
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
    fields: Sequence[str] | None = None,
) -> PoolSource:
    """Return the images of the data set `pool` and those of `test`; None: `test_fraction` of the pool's labelled ones.

    Both have a length and items (image, label), or dictionaries (and named tuples) with the keys `image` and `label`.
    `fields` names the parts of items of another shape, such as ("index", "image", "label") or ("image", "label",
    "sample_id"): "image" is needed; "label" and "sample_id" are read too, and parts of other names are not.

    An image is a Pillow image, or pixels as an array (height, width, channels) or a tensor (channels, height, width):
    uint8, or floating point in [0, 1], which become the nearest of 0, 1/255, …, 1 (see `to_pillow`). A label is the
    number or the name of a class, or one-hot over the `num_classes`; None and −1 are unknown. The classes are
    `class_names`, the attribute `classes` of the pool, or numbers.

    `sample_ids` names an attribute of `pool` that has the sample ids, one for each item. None: an id is the item's
    index and a digest of its pixels, so that the same items in another order are another data set.

    Raises:
        ValueError: a part is no such data set, or has not one sample id for each item; or `make_source` refuses it.
    """
    form = ImageFormat(image_size, channels, resize)
    names = class_names or own_class_names(pool, num_classes) or numbered(num_classes)
    shape = ItemShape(image, label, None if fields is None else tuple(fields))
    if sample_ids is not None and shape.has_names:
        raise ValueError(f"sample_ids={sample_ids} and the field {SAMPLE_ID} both name the items; give one of them")
    of_pool = _read(pool, "pool", shape, form, num_classes, _namer(pool, sample_ids))
    of_test = None if test is None else _read(test, "test", shape, form, num_classes, Namer("test"))
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


def _read(dataset: Any, part: str, shape: ItemShape, form: ImageFormat, num_classes: int, name: Namer) -> Items:
    if isinstance(dataset, (str, type)) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        advice = "a data set that streams cannot be a pool"
        if isinstance(dataset, (str, type)):
            advice = f"give one, on the command line with data.source.{part}._target_=package.Class"
        raise ValueError(
            f"{part} must be a data set with a length and items by their indices; "
            f"{dataset if isinstance(dataset, str) else type(dataset).__name__} is none: {advice}"
        )
    refuse_pictures_of_runs(dataset)
    names: dict[int, str] = {}
    if shape.has_names:
        name = Namer(part, lambda index: names.get(index, f"{part}/{index:06d}-undecodable"))
    return read_items(_pairs(dataset, part, shape, names), len(dataset), form, name, num_classes)


def _pairs(dataset: Any, part: str, shape: ItemShape, names: dict[int, str]) -> Iterator[tuple[object, object]]:
    """Yield the image and the label of each item, and write its name, where items have one, into `names`."""
    for index, item in enumerate(iterate_items(dataset)):
        if isinstance(item, Fault):
            yield item, None
            continue
        where = f"item {index} of {type(dataset).__name__}"
        parts = shape.parts(item, part, where)
        if shape.has_names:
            names[index] = cell_text(parts.get(SAMPLE_ID))
            if not names[index]:
                raise ValueError(f"{SAMPLE_ID} must name each item; {where} has {parts.get(SAMPLE_ID)!r}")
        yield parts[IMAGE], parts.get(LABEL)
