from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
from rich.console import Console

from assl_lightning.commands.sweep_table import Combination, Result, summarise, terminal_table, write_table
from assl_lightning.loop.records import RoundRecord


def rounds(accuracies: Sequence[float], labels: Sequence[int] = (10, 20, 40)) -> tuple[RoundRecord, ...]:
    """Records of a run; the raw weights' accuracy is one that no table may show."""
    pairs = enumerate(zip(labels, accuracies, strict=True))
    return tuple(RoundRecord(n, count, 100 - count, 5, accuracy, 0.01) for n, (count, accuracy) in pairs)


def job(overrides: str, *accuracies: float, failed: bool = False) -> Result:
    return Result(tuple(overrides.split()), rounds(accuracies) if accuracies else (), failed)


def area_by_hand(labels: Sequence[int], accuracies: Sequence[float]) -> float:
    """The mean of the straight lines between the points, over the labels: one label after the other, in small steps."""
    steps, total = 1000, 0.0
    for left in range(len(labels) - 1):
        width = (labels[left + 1] - labels[left]) / steps
        rise = accuracies[left + 1] - accuracies[left]
        total += sum(width * (accuracies[left] + rise * (step + 0.5) / steps) for step in range(steps))
    return total / (labels[-1] - labels[0])


def printed(combinations: Sequence[Combination], width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal_table(combinations))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


SWEEP = [
    job("seed=1 score.c_u=0.5 acquisition=assl +experiment=x", 0.2, 0.4, 0.8),
    job("seed=1 score.c_u=1 acquisition=assl +experiment=x", 0.2, 0.5, 0.6),
    job("seed=2 score.c_u=0.5 acquisition=assl +experiment=x", 0.3, 0.5, 0.6),
    job("seed=2 score.c_u=1 acquisition=assl +experiment=x", failed=True),
    job("seed=3 score.c_u=0.5 acquisition=assl +experiment=x", 0.1, 0.1, 0.1),
    job("seed=3 score.c_u=1 acquisition=assl +experiment=x"),
]


def test_a_row_has_the_jobs_that_differ_in_nothing_but_the_seed() -> None:
    first, second = summarise(SWEEP)

    assert (first.values, second.values) == ({"score.c_u": "0.5"}, {"score.c_u": "1"})
    assert (first.accuracy, second.accuracy) == ((0.8, 0.6, 0.1), (0.6,))
    assert (first.failed, first.unfinished, second.failed, second.unfinished) == (0, 0, 1, 1)


def test_the_area_is_the_mean_accuracy_over_the_labels() -> None:
    first, _ = summarise(SWEEP)

    by_hand = [area_by_hand((10, 20, 40), values) for values in ((0.2, 0.4, 0.8), (0.3, 0.5, 0.6), (0.1, 0.1, 0.1))]
    assert first.aubc == pytest.approx(by_hand)


def test_each_run_is_summed_over_its_own_labels() -> None:
    results = [
        Result((f"labels_per_round={labels[1]}",), rounds((0.2, 0.4, 0.8), labels))
        for labels in ((10, 20, 40), (10, 30, 40))
    ]

    areas = [row.aubc[0] for row in summarise(results)]
    assert areas == pytest.approx([area_by_hand(labels, (0.2, 0.4, 0.8)) for labels in ((10, 20, 40), (10, 30, 40))])


def test_a_run_of_one_round_has_its_accuracy_as_area() -> None:
    (row,) = summarise([Result(("seed=1",), rounds((0.7,), (10,)))])

    assert row.aubc == row.accuracy == (0.7,)


def test_where_labels_were_taken_back_there_is_no_area() -> None:
    (row,) = summarise([Result(("seed=1",), rounds((0.2, 0.4, 0.8), (10, 20, 15))), job("seed=2", 0.2, 0.4, 0.8)])

    assert (row.aubc, row.accuracy) == ((), (0.8, 0.8))


def test_seeds_alone_make_one_row_without_a_key() -> None:
    (row,) = summarise([job("seed=1", 0.2, 0.4, 0.8), job("seed=2", 0.2, 0.4, 0.6)])

    assert (row.values, row.accuracy) == ({}, (0.8, 0.6))


def test_a_key_that_only_some_jobs_have_tells_them_apart() -> None:
    rows = summarise([job("data=digits", 0.2, 0.4, 0.8), job("data=digits +extra=1", 0.1, 0.2, 0.3)])

    assert [row.values for row in rows] == [{"extra": ""}, {"extra": "1"}]


def test_of_a_key_that_comes_twice_the_last_one_counts() -> None:
    rows = summarise([job("rounds=1 rounds=2", 0.2, 0.4, 0.8), job("rounds=1 rounds=3", 0.1, 0.2, 0.3)])

    assert [row.values for row in rows] == [{"rounds": "2"}, {"rounds": "3"}]


def test_the_terminal_shows_per_cent_and_what_is_missing() -> None:
    lines = [line.split() for line in printed(summarise(SWEEP)).splitlines()]

    assert lines[-3:] == [
        ["score.c_u", "n", "last", "round", "AUBC", "failed", "unfinished"],
        ["0.5", "3", "50.0", "±", "36.1", "36.7", "±", "23.1", "0", "0"],
        ["1", "1", "60.0", "48.3", "1", "1"],
    ]


@pytest.mark.parametrize("width", [120, 40])
def test_a_value_in_brackets_is_shown_whole_however_narrow_the_terminal(width: int) -> None:
    rows = summarise([job("data.image_size=[8,8]", 0.2, 0.4, 0.8), job("data.image_size=[16,16]", 0.1, 0.2, 0.3)])

    text = "".join(line[:10].strip() for line in printed(rows, width).splitlines())
    assert "[16,16]" in text


def test_the_files_have_the_numbers_and_the_command(tmp_path: Path) -> None:
    write_table(summarise(SWEEP), tmp_path, "python -m assl_lightning -m seed=1,2,3")

    first, second = rows_of(tmp_path / "sweep.csv")
    mean = (0.8 + 0.6 + 0.1) / 3
    deviation = sqrt(sum((value - mean) ** 2 for value in (0.8, 0.6, 0.1)) / 2)
    assert (float(first["last_accuracy_ema_mean"]), float(first["last_accuracy_ema_sd"])) == pytest.approx(
        (mean, deviation), abs=1e-7
    )
    assert (second["score.c_u"], second["n"], second["failed"], second["unfinished"]) == ("1", "1", "1", "1")
    assert (second["last_accuracy_ema_mean"], second["last_accuracy_ema_sd"]) == ("0.6", "")
    assert float(second["aubc_ema_mean"]) == pytest.approx(area_by_hand((10, 20, 40), (0.2, 0.5, 0.6)), abs=1e-7)
    page = (tmp_path / "sweep.md").read_text()
    assert "\n    python -m assl_lightning -m seed=1,2,3\n" in page
    assert page.endswith("| 1 | 1 | 60.0 | 48.3 | 1 | 1 |\n")


def test_a_combination_without_a_run_that_is_done_has_no_numbers(tmp_path: Path) -> None:
    rows = summarise([job("rounds=1", 0.2, 0.4, 0.8), job("rounds=2", failed=True)])
    write_table(rows, tmp_path, "")

    assert list(rows_of(tmp_path / "sweep.csv")[1].values()) == ["2", "0", "", "", "", "", "1", "0"]
    assert printed(rows).splitlines()[-1].split() == ["2", "0", "–", "–", "1", "0"]


def test_what_unfinished_jobs_have_trained_is_told_apart_from_what_is_done(tmp_path: Path) -> None:
    waiting = [
        replace(job(f"seed={seed} c=1"), so_far=rounds(shares, (10, 20)[: len(shares)]))
        for seed, shares in ((2, [0.3]), (3, [0.2, 0.7]))
    ]
    rows = summarise([job("seed=1 c=1", 0.2, 0.4, 0.8), *waiting, job("seed=1 c=2", 0.1, 0.1, 0.1)])
    write_table(rows, tmp_path, "")

    assert printed(rows).splitlines()[-2].split() == [
        *("1", "1", "80.0", "50.0", "0", "2"),
        *("50.0", "±", "28.3", "(rounds", "0", "to", "1)"),
    ]
    first, second = rows_of(tmp_path / "sweep.csv")
    assert (first["last_accuracy_ema_mean"], first["unfinished_accuracy_ema_mean"]) == ("0.8", "0.5")
    assert (first["unfinished_rounds"], second["unfinished_rounds"]) == ("0 1", "")
