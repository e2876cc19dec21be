from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from assl_lightning.records import RoundRecord, append_record
from assl_lightning.report.__main__ import main
from assl_lightning.report.comparison import markdown_table, paired_difference, read_methods

ACCURACIES = {
    "ours": {"seed_0": [0.5, 0.9], "seed_1": [0.6, 0.8], "seed_2": [0.55, 0.95]},
    "random": {"seed_0": [0.5, 0.8], "seed_1": [0.6, 0.78], "seed_2": [0.55, 0.81]},
}


@pytest.fixture
def directories(tmp_path: Path) -> list[Path]:
    for method, seeds in ACCURACIES.items():
        for seed, accuracies in seeds.items():
            run = tmp_path / method / seed
            run.mkdir(parents=True)
            for number, accuracy in enumerate(accuracies):
                append_record(run, RoundRecord(number, 10 * (number + 1), 90, 5, accuracy, 0.1))
    return [tmp_path / method for method in ACCURACIES]


def test_the_paired_interval_is_scipys(directories: list[Path]) -> None:
    methods = read_methods(directories)
    found = paired_difference(methods["ours"], methods["random"])
    expected = ttest_rel([90, 80, 95], [80, 78, 81]).confidence_interval(0.95)
    assert found.seeds == 3
    assert [found.mean, found.low, found.high] == pytest.approx([26 / 3, expected.low, expected.high])


def test_the_table_has_mean_and_deviation_of_each_round(directories: list[Path]) -> None:
    lines = markdown_table(read_methods(directories), against="random").splitlines()
    assert lines[0] == "| labels | 10 | 20 | last round − random [95 %] |"
    assert lines[2] == "| ours (n = 3) | 55.0 ± 5.0 | 88.3 ± 7.6 | +8.7 [-6.5, +23.8] |"
    assert lines[3] == "| random (n = 3) | 55.0 ± 5.0 | 79.7 ± 1.5 |  |"


def test_the_command_prints_the_table_and_draws(
    directories: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "figures" / "curves.png"
    assert main([*map(str, directories), "--against", "random", "--output", str(figure), "--title", "digits"]) == 0
    assert "| ours (n = 3) |" in capsys.readouterr().out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_the_command_needs_neither_torch_nor_lightning(directories: list[Path]) -> None:
    code = (
        "import sys; from assl_lightning.report.__main__ import main; main(sys.argv[1:]); "
        "sys.exit(bool({'torch', 'lightning', 'hydra'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, *map(str, directories)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--against", "best"], "--against best: must be one of the methods, ours, random"),
        (["nowhere"], r"nowhere holds no run (no */rounds.jsonl)"),
    ],
)
def test_wrong_arguments_are_one_line(
    directories: list[Path], extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*map(str, directories), *extra]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_unfinished_run_is_named(directories: list[Path]) -> None:
    append_record(directories[0] / "seed_0", RoundRecord(2, 30, 90, 5, 0.5, 0.1))
    with pytest.raises(
        ValueError, match=r"as many rounds to be compared, but ours/seed_1 has 2 and others have up to 3"
    ):
        read_methods(directories)


def test_runs_of_several_configurations_are_not_averaged(directories: list[Path]) -> None:
    for seed, alpha in (("seed_0", 0.8), ("seed_1", 0.5), ("seed_2", 0.8)):
        (directories[0] / seed / "config.yaml").write_text(f"seed: {seed[-1]}\nscore:\n  alpha: {alpha}\n")
    with pytest.raises(
        ValueError, match=r"several configurations, .* \(seed_0 and seed_1: score\.alpha was 0\.8, now 0\.5\)"
    ):
        read_methods(directories)


def test_one_shared_seed_gives_no_interval(directories: list[Path]) -> None:
    methods = read_methods(directories)
    with pytest.raises(ValueError, match="needs two seeds that both methods have; they share 1"):
        paired_difference({"seed_0": methods["ours"]["seed_0"]}, methods["random"])
