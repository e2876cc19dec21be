from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from assl_lightning.base.rules import BELOW_ONE, SHARE, above, at_least, check_fields, checked, count_from

Count = Annotated[int, count_from(1)]


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (Annotated[float, SHARE], [1e-9, 0.5, 1], [0, -0.1, 1.1]),
        (Annotated[float, BELOW_ONE], [0, 0.999], [1, -1e-9, 2]),
        (Annotated[float, above(0)], [1e-9, 10**9], [0, -1]),
        (Annotated[int, at_least(0)], [0, 10**12], [-1]),
        (Count, [1, 10**9], [0, 10**9 + 1]),
        (Literal["raw", "ema"], ["raw", "ema"], ["mean", "", None, 1]),
        (float, [-1, 0.5], [nan, inf]),
    ],
)
def test_a_value_within_its_range_is_taken_and_any_other_refused(hint: Any, right: list[Any], wrong: list[Any]) -> None:
    assert [checked("value", value, hint) for value in right] == right
    for value in wrong:
        with pytest.raises(ValueError, match="value must be "):
            checked("value", value, hint)


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (Count, "3", "count must be a whole number; got '3'"),
        (Count, 2.0, r"count must be a whole number; got 2\.0"),
        (Count, None, "count must be a whole number; got None"),
        (float, True, "count must be a number; got True"),
        (bool, 1, "count must be True or False; got 1"),
    ],
)
def test_a_value_of_another_type_is_refused(hint: Any, value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        checked("count", value, hint)


def test_none_is_taken_where_the_type_says_so_and_the_message_too() -> None:
    assert checked("count", None, Count | None) is None
    with pytest.raises(ValueError, match="count must be at least 1 and at most 1000000000, or None; got 0"):
        checked("count", 0, Count | None)


@dataclass(frozen=True)
class Settings:
    count: Count = 1
    share: Annotated[float, SHARE] | None = None
    anything: object = "x"

    def __post_init__(self) -> None:
        check_fields(self)


def test_the_fields_of_a_dataclass_are_checked_and_plain() -> None:
    settings = Settings(np.int64(3), np.float32(0.5))  # type: ignore[arg-type]

    assert settings == Settings(3, 0.5)
    assert (type(settings.count), type(settings.share)) == (int, float)
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], or None; got 0"):
        Settings(share=0)
