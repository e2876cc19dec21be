"""What keeps the tests apart from the machine and from one another does so."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from assl_lightning.loop.settings import RoundSettings
from tests import isolation, small_runs
from tests.isolation import ROOT
from tests.shell import run, run_python


@pytest.fixture
def noted() -> Callable[[], list[str]]:
    """What the test has done wrong so far, which is forgiven."""

    def take() -> list[str]:
        found = list(isolation.touched)
        isolation.touched.clear()
        return found

    return take


def test_the_working_directory_is_empty_and_outside_of_the_checkout() -> None:
    assert not Path.cwd().is_relative_to(ROOT)
    assert list(Path.cwd().iterdir()) == []
    Path("left").mkdir()
    Path("left", "behind").touch()


def test_what_a_test_leaves_in_its_working_directory_is_gone_for_the_next() -> None:
    assert list(Path.cwd().iterdir()) == []


def test_the_home_is_one_of_the_tests_and_few_variables_are_seen() -> None:
    assert Path.home() == Path(os.environ[isolation.HOME])
    assert Path.home().is_dir()
    others = ("SLURM_", "SUBMITIT_", "HYDRA_", "XDG_", "WANDB_", "MLFLOW_", "HF_TOKEN", "DISPLAY", "COLUMNS", "CI")
    assert [name for name in os.environ if name.startswith(others)] == []


@pytest.mark.parametrize("place", ["runs", "runs/digits/seed_0"])
def test_a_look_at_the_runs_of_the_checkout_is_noted(place: str, noted: Callable[[], list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolation, "OF_A_RUN", (*isolation.OF_A_RUN, str(ROOT / "tests" / "report")))
        list((ROOT / "tests" / "report").iterdir())
        assert noted() == [f"{ROOT / 'tests' / 'report'} was read"]
    with pytest.raises(FileNotFoundError):
        list((ROOT / place / "that is not there").iterdir())
    assert noted() == [f"{ROOT / place / 'that is not there'} was read"]


def test_a_file_written_into_the_checkout_is_noted_and_a_file_that_is_read_is_not(
    noted: Callable[[], list[str]],
) -> None:
    (ROOT / "pyproject.toml").read_text()
    assert noted() == []
    with pytest.raises(FileNotFoundError):
        (ROOT / "not there" / "file").write_text("")
    assert noted() == [f"{ROOT / 'not there' / 'file'} was written"]


def test_a_trainer_that_names_no_device_is_noted_when_it_trains(noted: Callable[[], list[str]]) -> None:
    settings: dict[str, Any] = {"max_steps": 1, "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    Trainer(accelerator="cpu", **settings).fit(BoringModel())
    assert noted() == []
    unnamed = Trainer(**settings)
    assert noted() == []
    unnamed.fit(BoringModel())
    assert noted() == ["a Trainer without accelerator='cpu' or trainer.accelerator=cpu has trained"]


def test_a_python_process_is_noted_and_another_program_is_not(noted: Callable[[], list[str]]) -> None:
    run("true")
    assert noted() == []
    run_python("-c", "")
    assert noted() == [isolation.A_PROCESS]


def test_a_round_that_is_trained_by_a_test_which_is_not_marked_is_noted(
    noted: Callable[[], list[str]], tmp_path: Path
) -> None:
    small_runs.run(tmp_path / "run", settings=RoundSettings(rounds=0, initial_labels=4, steps_per_round=1))
    assert noted() == [isolation.A_ROUND]


@pytest.mark.parametrize("there_is", [True, False])
def test_a_test_that_needs_a_gpu_is_skipped_where_there_is_none(
    there_is: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is)
    request.node.add_marker("gpu")
    with nullcontext() if there_is else pytest.raises(pytest.skip.Exception, match="needs a CUDA device"):
        isolation.pytest_runtest_setup(request.node)
