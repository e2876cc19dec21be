"""Find the image, the label and the name in an item of a given data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from assl_lightning.base.words import closest

IMAGE, LABEL, SAMPLE_ID = "image", "label", "sample_id"
_MEANINGS = (IMAGE, LABEL, SAMPLE_ID)


@dataclass(frozen=True)
class ItemShape:
    """The keys of dictionaries, and the fields of other items, such as ("index", "image", "label").

    Raises:
        ValueError: the fields name no image, or one thing twice.
    """

    image: str = IMAGE
    label: str = LABEL
    fields: tuple[str, ...] | None = None  # None: (image, label)

    def __post_init__(self) -> None:
        """Check the fields."""
        fields = self.fields or ()
        if self.fields is not None and LABEL not in fields and (like := closest(LABEL, map(str, fields), 0.75)):
            raise ValueError(
                f"fields must call the label {LABEL!r}, and has {like!r}; got [{','.join(map(str, fields))}]"
            )
        if self.fields is not None and (
            any(not isinstance(field, str) for field in fields)
            or fields.count(IMAGE) != 1
            or any(fields.count(meaning) > 1 for meaning in _MEANINGS)
        ):
            raise ValueError(
                f"fields must name the parts of an item in their order, with {IMAGE} once and {LABEL} and {SAMPLE_ID} "
                f"at most once, such as [index,image,label]; got [{','.join(map(str, fields))}]"
            )

    @property
    def has_names(self) -> bool:
        """True if each item has its sample id in it."""
        return SAMPLE_ID in (self.fields or ())

    def parts(self, item: object, part: str, where: str) -> Mapping[str, object]:
        """Return the image, and the label and the sample id where there are, by these names. An image alone is one.

        Args:
            item: an item of the data set.
            part: "pool" or "test", for errors.
            where: names the item in errors.

        Raises:
            ValueError: the item has another shape; with what to set.
        """
        if self.fields is None and hasattr(item, "_asdict") and self.image in item._asdict():
            item = item._asdict()
        if isinstance(item, Mapping):
            return self._of_mapping(item, part, where)
        if isinstance(item, (Image.Image, Tensor, np.ndarray)) and not self.has_names:
            return {IMAGE: item}
        fields = self.fields or (IMAGE, LABEL)
        if isinstance(item, (tuple, list)) and len(item) == len(fields):
            return dict(zip(fields, item, strict=True))
        found = f"a {_kind(item)}"
        if isinstance(item, (tuple, list)):
            found = f"{len(item)} parts ({', '.join(map(_kind, item))})"
        raise ValueError(
            f"{part} must have items ({', '.join(fields)}), or dictionaries with the key {self.image}; {where} is "
            f"{found}; name its parts in order with data.source.fields, such as [index,image,label] or "
            f"[image,label,{SAMPLE_ID}]"
        )

    def _of_mapping(self, item: Mapping[Any, object], part: str, where: str) -> Mapping[str, object]:
        if self.image not in item:
            keys = ", ".join(map(str, item))
            raise ValueError(
                f"{part} must have items (image, label), or dictionaries with the key {self.image}; {where} is a "
                f"dictionary with the keys {keys}: set data.source.image=KEY and data.source.label=KEY to two of them"
            )
        found = {IMAGE: item[self.image], LABEL: item.get(self.label)}
        return found | ({SAMPLE_ID: item.get(SAMPLE_ID)} if self.has_names else {})


def _kind(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"
