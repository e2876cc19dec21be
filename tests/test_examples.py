"""Every example runs as it stands, in a process of its own, as its first lines say."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

import lightning.pytorch
import pytest
from lightning.pytorch import Trainer

from assl_lightning.acquisition import Candidates, Selection
from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from tests.same_run import differences_of_runs
from tests.shell import run_python

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]
OF_THEIR_OWN = (
    *("assl_in_one_file.py", "weights_from_elsewhere.py", "segmentation.py", "detection.py"),
    *("learning_loss.py", "ensemble_of_rounds.py"),
)
WITH_A_TEST = {ROOT / "examples" / name for name in OF_THEIR_OWN}
EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - WITH_A_TEST)


EXPECTED = {
    "add_to_your_trainer": "label these next: [",
    "custom_observe": "label these next: [",
    "new_acquisition": "picked, best first: [11, 14, 12, 15]",
    "thresholds_by_class": "label these next: [",
    "rounds_from_python": "round 2: 60 labels, test accuracy 0.",
}


@pytest.mark.filterwarnings("default")  # as for a user
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_it_stands(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the device, which it leaves to Lightning."""
    monkeypatch.setattr(lightning.pytorch, "Trainer", partial(Trainer, accelerator="cpu"))
    run_path(str(example), run_name="__main__")
    assert EXPECTED[example.stem] in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("example", "digits", "size"),
    [("segmentation", 1, {"pool_size": 48}), ("detection", 2, {"pool_size": 48}), ("learning_loss", 2, {})],
)
def test_an_example_that_measures_runs_with_two_seeds_of_a_short_training(
    example: str, digits: int, size: dict[str, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lightning.pytorch, "Trainer", partial(Trainer, accelerator="cpu"))
    main_of = run_path(str(ROOT / "examples" / f"{example}.py"))["main"]
    found = main_of(seeds=2, epochs=1, labels=16, k=4, **size)
    printed = capsys.readouterr().out
    for name, (mean, half) in found.items():
        assert f"{name}: {mean:+.{digits}f} ± " in printed
        assert half >= 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("example", "names"), [("segmentation", ["images, mean", "regions"]), ("detection", ["images"])]
)
def test_the_picks_hold_more_error_than_random_ones(
    example: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 95 % interval of the paired difference lies above 0."""
    monkeypatch.setattr(lightning.pytorch, "Trainer", partial(Trainer, accelerator="cpu"))
    found = run_path(str(ROOT / "examples" / f"{example}.py"))["main"]()
    for name in names:
        mean, half = found[name]
        assert mean - half > 0, (name, mean, half)


class Killed(Exception):
    """The end of a process right after a strategy has written what it keeps."""


@pytest.mark.filterwarnings("default")
def test_an_ensemble_of_rounds_that_is_killed_in_a_query_goes_on_as_if_it_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = run_path(str(ROOT / "examples" / "ensemble_of_rounds.py"))
    short = {"rounds": 2, "steps_per_round": 4}
    lines = example["main"](tmp_path / "straight", **short)
    assert "round 1: 40 labels, test accuracy 0." in capsys.readouterr().out

    acquire = example["EnsembleOfRounds"].acquire

    def acquire_and_die(strategy: Any, candidates: Candidates, *arguments: Any) -> Selection:
        selection: Selection = acquire(strategy, candidates, *arguments)
        if len(candidates) < 1270:  # of the second query
            raise Killed
        return selection

    with monkeypatch.context() as patched:
        patched.setattr(example["EnsembleOfRounds"], "acquire", acquire_and_die)
        with pytest.raises(Killed):
            example["main"](tmp_path / "killed", **short)
    assert example["main"](tmp_path / "killed", **short) == lines
    assert list(differences_of_runs(tmp_path / "straight", tmp_path / "killed")) == []


def test_a_run_begins_with_weights_that_were_made_elsewhere(tmp_path: Path) -> None:
    example = ROOT / "examples" / "weights_from_elsewhere.py"
    result = run_python(str(example), "trainer.accelerator=cpu", "rounds=0", cwd=tmp_path)
    assert "runs/eight_digits.pth: taken, but for the head fc, which begins anew" in result.stderr + result.stdout
    (accuracy,) = re.findall(r"round 0/0: 10 labels, test accuracy ([\d.]+)", result.stderr + result.stdout)
    assert float(accuracy) > 0.5


MY_MATCH = """
from assl_lightning.learning import PseudoLabelling, PseudoLabels

class MyMatch(PseudoLabelling):
    def judge(self, weak, labelled, index):
        confidence, label = weak.float().softmax(-1).max(-1)
        return PseudoLabels(label, confidence)
"""


def test_an_algorithm_of_ones_own_runs_as_the_document_says(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(MY_MATCH)
    (tmp_path / "conf" / "algorithm").mkdir(parents=True)
    (tmp_path / "conf" / "algorithm" / "mymatch.yaml").write_text(
        "defaults: [/_pseudo_labels]\n\nname: mymatch\nmodule:\n  _target_: my_module.MyMatch\n"
    )
    short = ["rounds=0", "warm_up=none", "steps_per_round=3", "algorithm.batch_size=4", "trainer.accelerator=cpu"]
    command = ["-m", "assl_lightning", "--config-dir", "conf", "algorithm=mymatch", *short]
    result = run_python(*command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert "round 0/0: 10 labels" in result.stderr + result.stdout


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("balanced", ["_target_=new_acquisition.BalancedEntropy"]),
        ("ensemble", ["_target_=ensemble_of_rounds.EnsembleOfRounds", "directory=${run_dir}/ensemble"]),
    ],
)
def test_a_strategy_of_ones_own_runs_from_the_command_line(
    name: str, strategy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [
        "acquisition=random",
        f"acquisition.name={name}",
        *(f"acquisition.strategy.{argument}" for argument in strategy),
        "rounds=1",
        "warm_up=none",
        "steps_per_round=3",
        "trainer.accelerator=cpu",
    ]
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    assert main(overrides) == 0
    assert len(list(tmp_path.rglob("queried.csv"))) == 1
    assert len(list(tmp_path.rglob("seed_0/ensemble/ensemble.pt"))) == (name == "ensemble")
