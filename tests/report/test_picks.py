from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from assl_lightning.loop.records import RoundRecord, write_record
from assl_lightning.report.analysis.runs import find_runs
from assl_lightning.report.picks import compare_directories, compare_picks, main
from tests.shell import run_python

GROUP = {"name": "x"}
CONFIG = {
    **{"rounds": 2, "initial_labels": 10, "labels_per_round": 2},
    **dict.fromkeys(("data", "network", "algorithm", "acquisition"), GROUP),
}


def write_run(
    directory: Path, seed: int, queried: Sequence[list[int]], accuracies: Sequence[float] = (0.5, 0.6, 0.7)
) -> Path:
    directory.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create({**CONFIG, "seed": seed}), directory / "config.yaml")
    for number, picks in enumerate([*queried, []]):
        write_record(
            directory,
            RoundRecord(
                round=number,
                labels=10 + 2 * number,
                unlabelled=90 - 2 * number,
                steps=5,
                test_accuracy_ema=0.1,
                test_accuracy_raw=accuracies[number],
                queried=picks,
                seconds={"acquire": 0.5 + number} if picks else {},
            ),
        )
    return directory


def test_the_first_query_that_differs_is_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "0", 0, [[1, 2], [3, 4]])
    write_run(tmp_path / "b" / "0", 0, [[2, 1], [4, 5]], accuracies=(0.5, 0.6, 0.9))
    (found,) = compare_directories(tmp_path / "a", tmp_path / "b")
    assert (found.round, found.share, found.budget, found.candidates) == (1, 0.5, 2, 88)
    assert found.by_chance == pytest.approx(2 / 88)
    assert found.seconds == (1.5, 1.5)


def test_what_follows_from_other_labels_is_not_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "0", 0, [[1, 2], [3, 4]])
    write_run(tmp_path / "b" / "0", 0, [[7, 8], [3, 4]], accuracies=(0.5, 0.1, 0.2))
    (found,) = compare_directories(tmp_path / "a", tmp_path / "b")
    assert (found.round, found.share) == (0, 0.0)


def test_runs_that_never_differ_share_everything(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name / "0", 0, [[1, 2], [3, 4]])
    (found,) = compare_directories(tmp_path / "a", tmp_path / "b")
    assert (found.round, found.share) == (1, 1.0)


def test_runs_that_trained_otherwise_are_refused(tmp_path: Path) -> None:
    one = write_run(tmp_path / "a" / "0", 0, [[1, 2]])
    other = write_run(tmp_path / "b" / "0", 0, [[1, 2]], accuracies=(0.4, 0.6))
    with pytest.raises(ValueError, match=r"must be trained identically .* round 0 test_accuracy_raw is 0\.5 and 0\.4"):
        compare_picks(*find_runs([one, other]))


def test_seeds_are_paired_and_the_table_ends_with_their_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, picks in ((0, [1, 9]), (1, [1, 2]), (3, [1, 2])):
        write_run(tmp_path / "post" / str(seed), seed, [[1, 2]])
        write_run(tmp_path / "pre" / str(seed), seed + (seed == 3), [picks])
    assert main([str(tmp_path / "post"), str(tmp_path / "pre")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| seed | round | picked | in common % | by chance % | post, s | pre, s |"
    assert lines[2:] == [
        "| 0 | 0 | 2 of 90 | 50.0 | 2.22 | 0.50 | 0.50 |",
        "| 1 | 0 | 2 of 90 | 100.0 | 2.22 | 0.50 | 0.50 |",
        "| n = 2 |  |  | 75.0 | 2.22 | 0.50 | 0.50 |",
    ]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [((0, 5), "have no seed in common"), ((0, 0, 0), "must hold one run for each seed"), ((0,), "does not exist")],
)
def test_what_cannot_be_paired_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: tuple[int, ...], message: str
) -> None:
    write_run(tmp_path / "a" / "first", seeds[0], [[1, 2]])
    for number, seed in enumerate(seeds[1:]):
        write_run(tmp_path / "b" / str(number), seed, [[1, 2]])
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert message in capsys.readouterr().err


def test_runs_without_a_query_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, 0, [])
    with pytest.raises(ValueError, match="have no query in common"):
        compare_directories(tmp_path / "a", tmp_path / "b")


@pytest.mark.e2e
def test_the_command_needs_no_torch() -> None:
    run_python("-c", "import sys, assl_lightning.report.picks; sys.exit('torch' in sys.modules)")
