"""Numbers that YAML reads otherwise than they were written, by their file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from assl_lightning.config.yaml_numbers import Misread, find_misread


@pytest.mark.parametrize(
    ("written", "values", "text", "value"),
    [
        ("[0010, 0020]", [8, 16], "0010", 8),
        ("[12:30, ok]", [750, "ok"], "12:30", 750),
        ("[1, 1_0]", [1, 10], "1_0", 10),
        ("[0x10, '08']", [16, "08"], "0x10", 16),
        ("[+1, 2]", [1, 2], "+1", 1),
    ],
)
def test_a_number_that_is_read_otherwise_is_found(
    tmp_path: Path, written: str, values: list[object], text: str, value: int
) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(f"data:\n  source:\n    names: {written}\n")
    assert find_misread([tmp_path], "names", values) == Misread(file, 3, text, value)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("names: [0, 1, 10]", [0, 1, 10]),
        ("names: ['0010', 3]", ["0010", 3]),
        ("names: [0010, 0020]", [8, 17]),
        ("names: [0010]", [8, 16]),
        ("others: [0010, 0020]", [8, 16]),
        ("names: 0010", [8]),
        ("names: [[0010, 0020]]", [8, 16]),
        ("names: [", [8]),
        ("", [8]),
    ],
)
def test_what_is_as_it_was_written_or_belongs_to_something_else_is_not(
    tmp_path: Path, content: str, values: list[object]
) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    assert find_misread([tmp_path, tmp_path / "nowhere"], "names", values) is None
