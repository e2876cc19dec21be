"""Runs that a rule ends: they say why, stay ended, and go on if that is what they are told."""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from assl_lightning.acquisition import RandomSampling
from assl_lightning.check.directory import read_directory
from assl_lightning.commands.status import read_status
from assl_lightning.learning.supervised import Supervised
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import (
    RoundRecord,
    State,
    complete_records,
    read_records,
    reason_of_end,
    write_state,
)
from assl_lightning.report.analysis.runs import find_runs
from assl_lightning.stopping import Progress, StopOnAgreement, StopOnPlateau, StopRule
from tests import small_runs
from tests.same_run import differences_of_runs
from tests.stripes import SGD
from tests.test_resuming import SETTINGS as RESUMABLE
from tests.test_resuming import StopAt, Stopped

pytestmark = pytest.mark.e2e

RULE = StopOnPlateau(min_gain=1.0, rounds=1)  # no gain is large enough: it ends a run at round 1
CONFIG = {"name": "stripes", "data": {"name": "stripes"}, "network": {"width": 4}}
SETTINGS = replace(RESUMABLE, rounds=3, config={**CONFIG, "stop": {"_target_": "a.Rule"}})
GOES_ON = replace(SETTINGS, config={**CONFIG, "stop": None})

run = functools.partial(small_runs.run, settings=SETTINGS, stop=RULE)


def rounds_alone(records: Sequence[RoundRecord]) -> list[RoundRecord]:
    return [replace(record, seconds={}, stopped=None) for record in records]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that its rule has ended, and the same run without a rule."""
    root = tmp_path_factory.mktemp("runs")
    run(root / "ended")
    run(root / "whole", settings=GOES_ON, stop=None)
    return root


@pytest.fixture
def ended(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "ended", tmp_path / "run"))


def test_a_rule_ends_a_run_and_the_record_says_why(runs: Path) -> None:
    records = read_records(runs / "ended")
    assert len(records) == 2
    assert records[0].stopped is None
    assert records[1].stopped == {"rule": RULE.name, "rounds": 3, "reason": RULE.decide(progress(records))}
    assert records[1].queried == []
    assert not (runs / "ended" / "round_01" / "state.json").exists()
    assert (runs / "ended" / "round_01" / "final.ckpt").exists()
    assert rounds_alone(records[:1]) == rounds_alone(read_records(runs / "whole")[:1])


def progress(records: Sequence[RoundRecord]) -> list[Progress]:
    return [Progress(record.round, record.labels, record.test_accuracy_ema, 30) for record in records]


def test_an_ended_run_counts_as_complete_and_is_told_so(runs: Path) -> None:
    reason = reason_of_end(runs / "ended", 3)
    assert reason is not None
    assert reason.startswith("the accuracy stands still")
    assert reason_of_end(runs / "whole", 3) is None
    assert len(complete_records(runs / "ended", 3)) == 2
    status = read_status(runs / "ended")
    assert status.doing == f"ended by its rule: {reason}"
    assert "another number of rounds" in status.next
    (found,) = find_runs([runs / "ended"])
    assert found.is_complete
    state = read_directory(runs / "ended", SETTINGS)
    assert state.words == f"ended by its rule after round 1: {reason}; the run would do nothing"
    assert read_directory(runs / "ended", GOES_ON).words.startswith("holds this run, to go on with: 2 of 4")


def test_started_again_unchanged_it_says_that_it_has_ended(ended: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = {path: path.read_bytes() for path in ended.rglob("*") if path.is_file()}
    with caplog.at_level(logging.INFO, "assl_lightning"):
        records = run(ended)
    assert len(records) == 2
    assert {path: path.read_bytes() for path in ended.rglob("*") if path.is_file()} == before
    (line,) = [message for message in caplog.messages if "ended after round 1" in message]
    assert "the accuracy stands still" in line
    assert line.endswith("Another number of rounds, another rule, or stop=none goes on with it")


def test_without_its_rule_it_goes_on_to_the_same_rounds(ended: Path, runs: Path) -> None:
    records = run(ended, settings=GOES_ON, stop=None)
    assert rounds_alone(records) == rounds_alone(read_records(runs / "whole"))
    assert records[1].stopped is not None
    assert records[1].stopped["overruled"]
    assert reason_of_end(ended, 3) is None


@pytest.mark.parametrize("rounds", [2, 4])
def test_with_other_rounds_it_makes_that_many_and_the_rule_is_not_asked_again(ended: Path, rounds: int) -> None:
    settings = replace(SETTINGS, rounds=rounds)
    with pytest.raises(Stopped):
        run(ended, StopAt(2, 1), settings=settings)
    assert read_status(ended).doing.startswith("stopped (training")
    assert [record.labels for record in run(ended, settings=settings)] == [6, 9, 12, 15, 18][: rounds + 1]


def test_another_rule_is_asked_for_itself(ended: Path) -> None:
    stricter = StopOnPlateau(min_gain=1.0, rounds=2)
    assert len(run(ended, stop=stricter)) == 3
    record = read_records(ended)[2]
    assert record.stopped is not None
    assert record.stopped["rule"] == stricter.name


@dataclass(frozen=True)
class StopOnPlateauOnce(StopRule):
    """Decides as the rule does, but ends the process the first time that it would end the run."""

    flag: Path

    @property
    def name(self) -> str:
        return RULE.name

    def decide(self, rounds: Sequence[Progress]) -> str | None:
        reason = RULE.decide(rounds)
        if reason and not self.flag.exists():
            self.flag.touch()
            raise Stopped
        return reason


def test_a_run_that_was_stopped_on_its_way_ends_at_the_same_round(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path / "run", StopAt(1, 3))
    rule = StopOnPlateauOnce(tmp_path / "asked")
    with pytest.raises(Stopped):
        run(tmp_path / "run", stop=rule)
    assert json.loads((tmp_path / "run/round_01/state.json").read_text())["state"] == "trained"
    run(tmp_path / "run", stop=rule)
    assert list(differences_of_runs(runs / "ended", tmp_path / "run")) == []


def test_a_rule_that_compares_predictions_needs_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this rule compares predictions of unlabelled images, and Supervised looks"):
        run(
            tmp_path / "run",
            stop=StopOnAgreement(),
            make_algorithm=lambda network: Supervised(network, optimizer=SGD),
            acquisition=RandomSampling(),
        )


def test_the_predictions_of_a_round_are_compared_with_those_of_the_round_before(runs: Path) -> None:
    first, second = (
        torch.load(runs / f"whole/round_0{number}/predictions.pt", weights_only=True)["classes"] for number in (1, 2)
    )
    pool = torch.load(runs / "whole/round_02/pool.pt", weights_only=True)
    unlabelled = (pool["labelled_in_round"] < 0) & (first >= 0) & (second >= 0)
    record = read_records(runs / "whole")[2]
    assert record.agreement["images"] == int(unlabelled.sum()) > 30
    kappa = cohen_kappa_score(first[unlabelled], second[unlabelled])
    assert record.agreement["kappa"] == pytest.approx(kappa, abs=1e-12)
    assert read_records(runs / "whole")[0].agreement == {}


def test_a_round_that_is_trained_twice_knows_how_far_the_two_agree(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(GOES_ON, repeat_round=1)
    with pytest.raises(Stopped):
        run(tmp_path / "run", _StopRepeat(1, 3), settings=settings, stop=None)
    assert list((tmp_path / "run/round_01/repeat/resume").iterdir())
    records = run(tmp_path / "run", settings=settings, stop=None)
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_state", _stop_before_the_floor)
        with pytest.raises(Stopped):
            run(tmp_path / "again", settings=settings, stop=None)
    assert list((tmp_path / "again/round_01/repeat/resume").iterdir()), "the training is not lost"
    run(tmp_path / "again", settings=settings, stop=None)
    assert list(differences_of_runs(tmp_path / "again", tmp_path / "run")) == []
    assert [bool(record.floor) for record in records] == [False, True, False, False]
    floor = records[1].floor
    assert floor["images"] > 30
    assert 0 < floor["agreeing"] < floor["images"], "the two trainings are not the same"
    assert not (tmp_path / "run/round_01/repeat").exists()
    without = [replace(record, floor={}) for record in records]
    assert rounds_alone(without) == rounds_alone(read_records(runs / "whole")), "nothing else of the run changes"


@pytest.mark.parametrize("missing", ["round_00/final.ckpt", "round_01/predictions.pt"])
def test_a_finished_run_whose_last_round_cannot_be_repeated_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    settings = replace(GOES_ON, init="continue", rounds=1, steps_per_round=3)
    run(tmp_path / "run", settings=settings, stop=None)
    (tmp_path / "run" / missing).unlink(missing_ok=True)  # the weights were removed with the end of round 1
    with caplog.at_level(logging.INFO):
        records = run(tmp_path / "run", settings=replace(settings, rounds=2, repeat_round=1), stop=None)
    assert [bool(record.floor) for record in records] == [False, False, False]
    (line,) = [message for message in caplog.messages if "repeat_round" in message]
    assert line.startswith("round 1 is not trained once more, in spite of repeat_round=1: ")
    assert f"{tmp_path / 'run' / missing} is not there" in line


def _stop_before_the_floor(
    directory: RunDirectory, number: int, state: State, record: RoundRecord | None = None
) -> None:
    if record is not None and record.floor:
        raise Stopped
    write_state(directory.path, number, state, record)


class _StopRepeat(StopAt):
    """Ends the second training of a round."""

    def on_before_backward(self, trainer: Any, module: Any, loss: Tensor) -> None:
        if Path(trainer.default_root_dir).name == "repeat":
            super().on_before_backward(trainer, module, loss)
