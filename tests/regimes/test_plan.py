"""The runs that are planned, and those that are left."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assl_lightning.config.compose import with_config_dir
from assl_lightning.config.schema import Config
from assl_lightning.loop.records import RoundRecord, write_record
from assl_lightning.report.labels_needed.starts import start_of
from benchmarks.planning import CONF, FIRST_SEED
from benchmarks.regimes import ablation
from benchmarks.regimes.plan import STAGES, STARTS, main, make_sweep

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SWEEPS = [sweep for stage in STAGES for sweep in stage.sweeps]


def finish(directory: Path, rounds: int = 1, trained: int = 2) -> None:
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(f"rounds: {rounds}\n")
    for number in range(trained):
        write_record(directory, RoundRecord(number, 10, 90, 1, 0.5, 0.5, queried=[1] if number < rounds else []))


def test_no_run_is_planned_twice() -> None:
    runs = [sweep.directory(seed, Path("runs")) for sweep in SWEEPS for seed in sweep.seeds]

    assert len(set(runs)) == len(runs)


def test_seeds_are_those_that_no_tuning_saw() -> None:
    assert FIRST_SEED == 1000
    assert {min(sweep.seeds) for sweep in SWEEPS} == {1000, 1010}


@pytest.mark.parametrize("regime", sorted({sweep.regime for sweep in SWEEPS}))
def test_every_regime_is_an_experiment_whose_runs_are_called_by_it(
    compose_run: Callable[..., Config], regime: str
) -> None:
    sweep = make_sweep(regime, "random", range(1))
    overrides = sweep.words([7], Path("runs"))
    config = compose_run(*with_config_dir(overrides, ROOT / CONF))

    assert config.name == regime
    assert config.run_dir == f"runs/{regime}/random/seed_7"


@pytest.mark.parametrize("rule", sorted({sweep.method.partition("+")[0] for sweep in SWEEPS}))
def test_every_rule_is_an_acquisition(compose_run: Callable[..., Config], rule: str) -> None:
    assert compose_run(f"acquisition={rule}").acquisition.name == rule


@pytest.mark.parametrize(
    ("start", "expected"),
    [("", "random"), ("pixels", "herding of pixels"), ("warm", "herding of network, after simclr")],
)
@pytest.mark.parametrize("experiment", sorted({sweep.regime for sweep in SWEEPS}))
def test_a_start_is_the_same_in_every_regime(
    compose_run: Callable[..., Config], start: str, expected: str, experiment: str
) -> None:
    config = compose_run(*with_config_dir([f"+experiment={experiment}", *STARTS[start]], ROOT / CONF))

    settings = config.settings
    found = start_of(
        {
            "initial_acquisition": settings.initial_acquisition,
            "initial_features": settings.initial_features,
            "warm_up": config.warm_up,
        }
    )
    assert found == expected


def test_a_command_is_a_sweep_over_the_seeds_that_are_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = STAGES[0].sweeps[0]
    finish(first.directory(1000, tmp_path))
    finish(first.directory(1001, tmp_path), trained=1)

    assert main(["--runs", str(tmp_path), "--stages", "1"]) == 0

    words = shlex.split(capsys.readouterr().out.splitlines()[0])
    assert words[:3] == [sys.executable, "-m", "assl_lightning"]
    assert "seed=" + ",".join(str(1000 + seed) for seed in range(1, 10)) in words
    assert f"run_dir={tmp_path}/{first.regime}/{first.method}/seed_${{seed}}" in words
    assert f"+experiment={first.regime}" in words


def test_what_is_left_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(STAGES[0].sweeps[0].directory(1003, tmp_path))

    assert main(["--runs", str(tmp_path), "--count"]) == 0

    assert capsys.readouterr().out.splitlines()[:2] == [
        "core: 399 of 400 runs left",
        "more regimes: 280 of 280 runs left",
    ]


def test_the_protocol_has_the_numbers_of_runs(capsys: pytest.CaptureFixture[str]) -> None:
    protocol = (ROOT / "results" / "fewer_labels" / "PROTOCOL.md").read_text()
    rows = [line.split("|") for line in protocol.splitlines() if line.startswith(("| 1 ", "| 2 ", "| 3 ", "| 4 "))]

    assert [int(row[5]) for row in rows] == [sum(len(sweep.seeds) for sweep in stage.sweeps) for stage in STAGES]


@pytest.mark.parametrize("method", [*ablation.RULES, *ablation.AFTER_WARM_UP])
def test_the_ablation_changes_one_term_of_herding(compose_run: Callable[..., Config], method: str) -> None:
    """So says its protocol, which has the number of runs too."""

    def terms(*overrides: str) -> dict[str, object]:
        config = compose_run(*overrides)
        return {"features": config.settings.acquisition_features, **config.acquisition.strategy}

    words = ablation.make_sweep("digits_short", method, range(1)).words([7], Path("runs"))
    found, default = terms(*with_config_dir(words, ROOT / CONF)), terms("acquisition=herding")
    differing = [name for name, value in found.items() if default.get(name) != value]

    assert len(differing) == (method.partition("+")[0] != "herding") or method == "random"
    protocol = (ROOT / "results" / "herding_terms" / "PROTOCOL.md").read_text()
    assert f"`{method}`" in protocol
    *first, after_warm_up = (sum(len(sweep.seeds) for sweep in stage.sweeps) for stage in ablation.STAGES)
    assert f"{sum(first)} runs" in protocol
    assert f"{after_warm_up} runs" in protocol


def test_the_seeds_of_the_ablation_are_in_no_claim() -> None:
    assert max(max(sweep.seeds) for stage in ablation.STAGES for sweep in stage.sweeps) < 100
