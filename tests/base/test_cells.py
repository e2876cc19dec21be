"""A cell as a text, whatever a format has for what is missing."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.base.cells import cell_text, read_parquet


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (Decimal("NaN"), ""),
        (Decimal("sNaN"), ""),
        ("", ""),
        ("nan", "nan"),
        ("00123", "00123"),
        (" a ", " a "),
        (0, "0"),
        (1.0, "1"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (Decimal("1.10"), "1.10"),
        (True, "True"),
        (date(2026, 1, 31), "2026-01-31"),
        (datetime(2026, 1, 31, 14, 5, tzinfo=timezone.utc), "2026-01-31T14:05:00+00:00"),
    ],
)
def test_a_cell_is_its_text_and_a_missing_one_is_empty(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_what_pandas_calls_missing_is_missing() -> None:
    pandas = pytest.importorskip("pandas")
    assert (cell_text(pandas.NaT), cell_text(pandas.NA)) == ("", "")


@pytest.mark.parametrize("value", [["ok"], {"a": 1}, b"ok", ("ok",)])
def test_what_holds_several_things_is_no_cell(value: Any) -> None:
    with pytest.raises(TypeError, match=f"must be a text, a number or a time; got a {type(value).__name__}"):
        cell_text(value)


def test_only_the_columns_that_are_chosen_are_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    missing = pyarrow.array([float("nan"), None])
    parquet.write_table(pyarrow.table({"a": [1, 2], "b": ["x", "y"], "c": missing}), tmp_path / "t.parquet")
    known, rows = read_parquet(tmp_path / "t.parquet", "t", lambda names: [name for name in names if name != "b"])
    assert known == ["a", "c"]
    assert [[cell_text(value) for value in row] for row in rows] == [["1", ""], ["2", ""]]
