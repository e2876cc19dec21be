"""Every example runs as it stands, in a process of its own, as its first lines say."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from runpy import run_path

import lightning.pytorch
import pytest
from lightning.pytorch import Trainer

from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from tests.shell import run_python

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]
OF_THEIR_OWN = ("assl_in_one_file.py", "weights_from_elsewhere.py", "segmentation.py", "detection.py")
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
@pytest.mark.parametrize("example", ["segmentation", "detection"])
def test_a_dense_example_runs_with_two_seeds_of_a_short_training(
    example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lightning.pytorch, "Trainer", partial(Trainer, accelerator="cpu"))
    main_of = run_path(str(ROOT / "examples" / f"{example}.py"))["main"]
    found = main_of(seeds=2, epochs=1, labels=16, pool_size=48, k=4)
    printed = capsys.readouterr().out
    for name, (mean, half) in found.items():
        assert f"{name}: {mean:+.{1 if example == 'segmentation' else 2}f} ± " in printed
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


def test_a_strategy_of_ones_own_runs_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [
        "acquisition=random",
        "acquisition.name=balanced",
        "acquisition.strategy._target_=new_acquisition.BalancedEntropy",
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
