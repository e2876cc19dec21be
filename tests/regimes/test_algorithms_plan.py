"""The runs of results/algorithms, and their tables."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from assl_lightning.config.compose import with_config_dir
from assl_lightning.config.instantiate import check_arguments, nodes
from assl_lightning.config.schema import Config
from assl_lightning.loop.records import RoundRecord, write_record
from assl_lightning.report.analysis.runs import find_runs
from benchmarks.algorithms.plan import STAGES, main
from benchmarks.algorithms.report import main as report
from benchmarks.algorithms.report import page_of, regimes_of
from benchmarks.planning import CONF, Sweep

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SWEEPS = [sweep for stage in STAGES for sweep in stage.sweeps]
_OF_REGIMES, _OF_METHODS = {one.regime: one for one in SWEEPS}, {one.method: one for one in SWEEPS}
DIFFERENT = list(dict.fromkeys([*_OF_REGIMES.values(), *_OF_METHODS.values()]))
"""A sweep of each regime, and one of each method."""


def test_no_run_is_planned_twice_and_every_method_of_a_regime_has_the_same_seeds() -> None:
    runs = [sweep.directory(seed, Path("runs")) for sweep in SWEEPS for seed in sweep.seeds]
    assert len(set(runs)) == len(runs)
    assert {path.name for path in runs if path.parts[1].startswith("digits")} == {f"seed_{1000 + n}" for n in range(20)}
    assert {path.name for path in runs if path.parts[1].startswith("fashion")} == {f"seed_{1000 + n}" for n in range(5)}
    for regime in {sweep.regime for sweep in SWEEPS}:
        counts = {
            len([path for path in runs if path.parts[1:3] == (regime, sweep.method)])
            for sweep in SWEEPS
            if sweep.regime == regime
        }
        assert len(counts) == 1


@pytest.mark.parametrize("sweep", DIFFERENT, ids=lambda one: f"{one.regime}/{one.method}")
def test_every_sweep_is_of_one_training_at_the_defaults_of_the_default_run(
    compose_run: Callable[..., Config], sweep: Sweep
) -> None:
    words = sweep.words([7], Path("runs"))
    config = compose_run(*with_config_dir(words, ROOT / CONF))
    default = compose_run()
    assert (config.name, config.run_dir) == (sweep.regime, f"runs/{sweep.regime}/{sweep.method}/seed_7")
    assert [line for key, node in nodes(config) for line in check_arguments(key, node)] == []
    settings = config.settings
    assert (settings.rounds, settings.steps_per_round) == (0, default.settings.steps_per_round / 2)
    assert config.algorithm.batch_size == default.algorithm.batch_size
    assert (settings.weight_ema, config.network) == (default.settings.weight_ema, default.network)
    assert config.algorithm.mu == (0 if sweep.method == "supervised" else default.algorithm.mu)
    assert config.data.imbalance_factor == (20 if "tail20" in sweep.regime else 1)


def test_a_command_is_a_sweep_over_the_seeds_that_are_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = STAGES[0].sweeps[0]
    write(first.directory(1003, tmp_path), 0.5)
    assert main(["--runs", str(tmp_path), "--stages", "1"]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[0])
    assert "seed=" + ",".join(str(1000 + seed) for seed in range(10) if seed != 3) in words
    assert f"run_dir={tmp_path}/{first.regime}/{first.method}/seed_${{seed}}" in words
    assert main(["--runs", str(tmp_path), "--count"]) == 0
    total = len(STAGES[0].sweeps) * 10
    assert capsys.readouterr().out.splitlines()[0] == f"digits: {total - 1} of {total} runs left"


def test_the_protocol_has_the_numbers_of_runs() -> None:
    protocol = (ROOT / "results" / "algorithms" / "PROTOCOL.md").read_text()
    rows = [
        line.split("|") for line in protocol.splitlines() if line.startswith(("| 1 ", "| 2 ", "| 3 ", "| 4 ", "| 5 "))
    ]
    assert [int(row[5]) for row in rows] == [sum(len(sweep.seeds) for sweep in stage.sweeps) for stage in STAGES]
    for method in {sweep.method.partition("+")[0] for sweep in SWEEPS}:
        assert f"`{method}`" in protocol


# --- the report ------------------------------------------------------------------------------------------------------


def write(directory: Path, accuracy: float, *, imbalance: float = 1, seconds: float = 20.0, rate: float = 0.5) -> None:
    """Write a run of one training as a run does; its balanced accuracy is half of its accuracy."""
    regime, method, seed = directory.parts[-3:]
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(
        f"name: {regime}\nseed: {seed.removeprefix('seed_')}\nrounds: 0\ninitial_labels: 10\nlabels_per_round: 10\n"
        f"data: {{name: digits, imbalance_factor: {imbalance}}}\nnetwork: {{_target_: a.SmallCNN}}\n"
        f"algorithm: {{name: {method}}}\nacquisition: {{name: random}}\n"
    )
    record = RoundRecord(
        *(0, 10, 90, 600, accuracy, accuracy),
        test_balanced_accuracy_ema=accuracy / 2,
        mask_rate=rate,
        seconds={"train": seconds, "test": 1.0},
    )
    write_record(directory, record)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """FixMatch beside two others in a balanced pool and in a tail, five seeds."""
    for number in range(5):
        base = 0.5 + 0.02 * number
        for method, gain in (("fixmatch", 0.0), ("softmatch", 0.1 + 0.01 * number)):
            write(tmp_path / "digits_1" / method / f"seed_{number}", base + gain, seconds=40.0 if gain else 20.0)
        for method, gain in (("fixmatch", 0.0), ("softmatch", 0.0), ("softmatch+balanced", 0.2 + 0.01 * number)):
            write(tmp_path / "digits_tail" / method / f"seed_{number}", base + gain, imbalance=20)
    return tmp_path


def test_the_tables_have_differences_to_fixmatch_and_of_the_switches(results: Path) -> None:
    page = page_of(regimes_of(find_runs([results])), incomplete=0)
    tables = [block for section in page.sections for block in section.blocks]
    accuracy, difference, of_tail, _, switches, steps = tables
    assert accuracy.rows == (("fixmatch", "54.0 ± 3.2"), ("softmatch", "66.0 ± 4.7"))  # type: ignore[union-attr]
    rows = {row[0]: row[1] for row in difference.rows}  # type: ignore[union-attr]
    assert rows["softmatch"].startswith("+12.0 [+10.0, +14.0] *")
    assert of_tail.rows[0] == ("fixmatch", "27.0 ± 1.6")  # type: ignore[union-attr]
    (row,) = switches.rows  # type: ignore[union-attr]
    assert row[:2] == ("digits_tail, softmatch+balanced", "5")
    assert row[4].startswith("+11.0 ["), "balanced accuracy"
    by_method = {row[0]: row[1:] for row in steps.rows}  # type: ignore[union-attr]
    assert by_method["digits_1, softmatch"] == ("15.0", "0.50", "50.0")
    assert by_method["digits_1, fixmatch"][:2] == ("30.0", "1.00")


def test_the_report_is_written(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(results), "--output", str(tmp_path / "out")]) == 0
    tables = (tmp_path / "out" / "tables.md").read_text()
    assert tables == capsys.readouterr().out
    assert "Accuracy above that of fixmatch" in tables
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 1 + 25


def test_without_a_run_there_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert report([str(tmp_path / "empty"), "--output", str(tmp_path / "out")]) == 1
    assert "no run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
