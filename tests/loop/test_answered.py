"""What a run says of its earlier queries, to a strategy that requires it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from assl_lightning.acquisition import Herding
from assl_lightning.data.pool import Pool
from assl_lightning.loop.answered import answered_samples
from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.queried import STATISTICS
from assl_lightning.loop.records import RoundRecord
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.method.candidates import Acquisition, AnsweredSamples, Candidates, Requirement, Selection
from tests.small_runs import run
from tests.stripes import CLASSES, LABELS, POOL_SIZE

SETTINGS = RoundSettings(rounds=2, initial_labels=6, labels_per_round=3, steps_per_round=4)


class Listener:
    """The first candidates; keeps what it was told of earlier queries."""

    requires: frozenset[Requirement] = frozenset({"statistics", "answered"})

    def __init__(self) -> None:
        self.told: list[AnsweredSamples] = []

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        self.told.append(candidates.require("answered"))
        return Selection(candidates.index[:budget])


def rows(run_dir: Path, number: int) -> list[dict[str, str]]:
    with (run_dir / f"round_{number:02d}" / "queried.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.e2e
def test_a_strategy_is_told_what_the_statistics_and_the_model_said_of_each_sample_that_was_answered(
    tmp_path: Path,
) -> None:
    listener = Listener()
    assert isinstance(listener, Acquisition)
    run(tmp_path / "run", acquisition=listener, settings=replace(SETTINGS, rounds=3))

    assert [len(told.wrong) for told in listener.told] == [0, 3, 6]
    asked = [row for number in (0, 1) for row in rows(tmp_path / "run", number)]
    told = listener.told[2]
    assert told.rounds_ago.tolist() == [2, 2, 2, 1, 1, 1]
    assert told.wrong.tolist() == [int(row["prediction"]) != int(LABELS[int(row["index"])]) for row in asked]
    for name in STATISTICS:
        assert torch.equal(getattr(told.statistics, name), torch.tensor([float(row[name]) for row in asked]))
    assert told.statistics.visits.tolist() == [int(row["visits"]) for row in asked]


def queried(tmp_path: Path, text: str) -> tuple[RunDirectory, Pool]:
    pool = Pool(POOL_SIZE, CLASSES)
    directory = RunDirectory(tmp_path)
    (tmp_path / "round_00").mkdir(exist_ok=True)
    names = "rank,index,sample_id,score,uncertainty_mean,uncertainty_variance,inconsistency_mean"
    path = tmp_path / "round_00" / "queried.csv"
    path.write_text(f"{names},inconsistency_variance,visits,prediction\n{text}")
    pool.labels[:3] = torch.tensor([0, 1, -1], dtype=torch.int32)
    return directory, pool


def test_samples_without_an_answer_or_a_visit_say_nothing(tmp_path: Path) -> None:
    directory, pool = queried(tmp_path, "0,0,a,,,,,,0,1\n1,1,b,,0.5,0,0,0,2,1\n2,2,c,,0.5,0,0,0,2,1\n")
    told = answered_samples(directory, pool, 1)
    assert told.wrong.tolist() == [False]
    assert told.statistics.uncertainty_mean.tolist() == [0.5]


def test_a_table_that_lacks_a_queried_sample_is_refused(tmp_path: Path) -> None:
    directory, pool = queried(tmp_path, "0,0,a,,0.5,0,0,0,2,1\n1,1,b,,0.5,0,0,0,2,1\n")
    record = RoundRecord(0, labels=6, unlabelled=54, steps=4, test_accuracy_ema=0.5, test_accuracy_raw=0.5)
    directory.commit(replace(record, queried=[0, 1], queried_labels=[0, 1]))
    assert answered_samples(directory, pool, 1).wrong.tolist() == [True, False]
    for text, found in (("0,0,a,,0.5,0,0,0,2,1\n", 1), ("", 0)):
        queried(tmp_path, text)
        with pytest.raises(ValueError, match=rf"queried\.csv does not .*it has {found} rows, not one .*; restore it"):
            answered_samples(directory, pool, 1)


def test_predictions_of_former_classes_are_those_of_today_and_say_nothing_where_that_is_not_known(
    tmp_path: Path,
) -> None:
    directory, pool = queried(tmp_path, "0,0,a,,0.5,0,0,0,2,2\n1,1,b,,0.7,0,0,0,2,1\n")
    begun = ClassHistory.begin(["a", "b", "c", "d"][:CLASSES])
    merged = begun.merge(["a", "c"], "ac", 1)  # label 0 from now on; sample 0, taken for c, is of that class
    write_history(tmp_path, merged)
    assert answered_samples(directory, pool, 1).wrong.tolist() == [False, False]
    write_history(tmp_path, begun.merge(["a", "c"], "ac", 0).undo(1))  # whoever was taken for ac was a, or c
    directory, pool = queried(tmp_path, "0,0,a,,0.5,0,0,0,2,0\n1,1,b,,0.7,0,0,0,2,1\n")
    told = answered_samples(directory, pool, 1)
    assert told.statistics.uncertainty_mean.tolist() == pytest.approx([0.7])


@pytest.mark.parametrize("text", ["0,0,a,,0.5,0,0,0,2,\n", "0,7000,a,,0.5,0,0,0,2,1\n", "0,0,a,,x,0,0,0,2,1\n"])
def test_a_file_that_was_changed_by_hand_is_named(tmp_path: Path, text: str) -> None:
    directory, pool = queried(tmp_path, text)
    with pytest.raises(ValueError, match=r"queried\.csv"):
        answered_samples(directory, pool, 1)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"round_00/queried\.csv is missing"):
        answered_samples(RunDirectory(tmp_path), Pool(POOL_SIZE, CLASSES), 1)


@pytest.mark.e2e
def test_a_run_with_an_audited_trust_and_a_quota_is_the_same_again(tmp_path: Path) -> None:
    strategy = Herding(trust="audited", class_quota=0.5)
    settings = replace(SETTINGS, acquisition_features="training", unvisited="random", steps_per_round=2)
    first = run(tmp_path / "first", acquisition=strategy, settings=settings)
    again = run(tmp_path / "again", acquisition=strategy, settings=settings)
    assert [len(record.queried) for record in first] == [3, 3, 0]
    assert first[0].drawn_at_random > 0, "some of the picks were never visited"
    assert [record.queried for record in first] == [record.queried for record in again]
