"""Cells as texts, whatever a format has for a missing value; and files that are no tables."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from assl_lightning.base.tables import Columns, TableError, cell_text, read_table


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


def test_only_the_columns_that_are_known_are_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    missing = pyarrow.array([float("nan"), None])
    parquet.write_table(pyarrow.table({"a": [1, 2], "b": [["x"], None], "c": missing}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", "t", Columns(("a",), ("c", "d")))
    assert [row.cells for row in table.rows] == [{"a": "1", "c": "", "d": ""}, {"a": "2", "c": "", "d": ""}]
    assert (table.unused, table.faults) == (("b",), ())


def test_a_sheet_of_a_spreadsheet_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"^t must be CSV or Parquet; save the sheet as CSV UTF-8$"):
        read_table(tmp_path / "t.xlsx", "t", Columns(("a",)))


def test_every_thing_that_is_wrong_with_a_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("ä,b\n".encode("latin-1"))
    with pytest.raises(TableError) as caught:
        read_table(path, "t", Columns(("a",)))
    assert caught.value.problems == (
        "t, line 1: the bytes must be UTF-8; line 1 has 0xe4. Save the file as UTF-8",
        "t, line 1: the column must be a; a missing, there is '\\udce4', 'b'",
    )
