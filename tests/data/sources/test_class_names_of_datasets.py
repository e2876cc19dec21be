"""The names that data sets have of their classes, whichever way they have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from assl_lightning.data.sources.items import own_class_names

OK = ["ok", "dent"]


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        (SimpleNamespace(classes=OK), OK),
        (SimpleNamespace(classes=[("tench", "Tinca tinca"), "goldfish"]), ["tench, Tinca tinca", "goldfish"]),
        (SimpleNamespace(class_to_idx={"dent": 1, "ok": 0}), OK),
        (SimpleNamespace(categories=OK), OK),
        (SimpleNamespace(dataset=SimpleNamespace(dataset=SimpleNamespace(classes=OK))), OK),
        (SimpleNamespace(class_to_idx={"dent": 1, "ok": 0, "crack": 2}), None),
        (SimpleNamespace(categories="ok"), None),
        (SimpleNamespace(classes=[]), None),
        (SimpleNamespace(), None),
    ],
)
def test_names_are_found_where_a_data_set_has_them(dataset: Any, names: list[str] | None) -> None:
    assert own_class_names(dataset, 2) == names
