from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

from assl_lightning.base.proportions import Proportion
from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.report.analysis.random_picks import picked_at_random, predicted_at_random
from assl_lightning.report.analysis.runs import Run, find_runs
from assl_lightning.report.sections.random_picks import random_pick_blocks
from assl_lightning.report.views import Table

if TYPE_CHECKING:
    from tests.report.conftest import Runs

CONF = Path(__file__).parents[3] / "conf" / "acquisition"
RANDOM = {"acquisition.strategy": OmegaConf.to_container(OmegaConf.load(CONF / "random.yaml").strategy)}


def herding(share: float) -> dict[str, Any]:
    strategy: Any = OmegaConf.to_container(OmegaConf.load(CONF / "herding.yaml").strategy)
    assert "random_share" in strategy
    return {"acquisition.strategy": strategy | {"random_share": share}, "acquisition.weights": "ema"}


def write_predictions(run: Path, predictions: Sequence[int | str]) -> None:
    """Write queried.csv of each round with these predictions."""
    for number in range(2):
        path = run / f"round_{number:02}" / "queried.csv"
        path.parent.mkdir()
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["rank", "index", "sample_id", "prediction"])
            writer.writerows([rank, rank, str(rank), prediction] for rank, prediction in enumerate(predictions))


def only(run: Path) -> Run:
    (found,) = find_runs([run])
    return found


@pytest.mark.parametrize(("share", "picks"), [(0.0, 0), (0.2, 1), (0.5, 2), (0.99, 4)])
def test_a_share_of_the_picks_is_drawn_at_random_rounded_down(runs: Runs, share: float, picks: int) -> None:
    assert picked_at_random(only(runs.add("herding", 0, [0.5, 0.6], changes=herding(share))), 5) == picks


def test_all_picks_of_the_random_strategy_are_and_none_of_others(runs: Runs) -> None:
    assert picked_at_random(only(runs.add("random", 0, [0.5, 0.6], changes=RANDOM)), 5) == 5
    assert picked_at_random(only(runs.add("assl", 0, [0.5, 0.6])), 5) == 0


def test_the_last_picks_count_where_they_were_answered_and_predicted(runs: Runs) -> None:
    run = runs.add("herding", 0, [0.5, 0.6], queried_labels=[0, 1, 2, 3, -1, 1], changes=herding(0.7))
    write_predictions(run, [0, 1, 0, 3, 0, ""])  # of the last four one is wrong, one right, two are not known

    found = only(run)
    assert predicted_at_random(found, found.records[0]) == Proportion(1, 2)


def test_samples_that_had_no_score_are_no_draw_of_the_strategy(runs: Runs) -> None:
    run = runs.add("herding", 0, [0.5, 0.6], queried_labels=[0, 1, 2, 3, 0, 0], changes=herding(0.5))
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    (run / "rounds.jsonl").write_text("".join(json.dumps({**line, "drawn_at_random": 2}) + "\n" for line in lines))
    write_predictions(run, [1, 1, 2, 0, 1, 1])

    found = only(run)
    assert predicted_at_random(found, found.records[0]) == Proportion(1, 2), "the third and the fourth pick"


def test_predictions_and_answers_are_compared_as_present_classes(runs: Runs) -> None:
    run = runs.add("random", 0, [0.5, 0.6], queried_labels=[0, 1, 1, 2], changes=RANDOM)
    write_predictions(run, [0, 1, 2, 3])  # ok, dent, scratch, hole; then dent and scratch are merged
    history = ClassHistory.begin(["ok", "dent", "scratch", "hole"]).merge(["dent", "scratch"], "damage", 1)
    write_history(run, history)

    found = only(run)
    assert predicted_at_random(found, found.records[0]) == Proportion(4, 4)


def test_a_run_whose_files_are_gone_tells_nothing(runs: Runs) -> None:
    found = only(runs.add("random", 0, [0.5, 0.6], queried_labels=[0, 1], changes=RANDOM))

    assert predicted_at_random(found, found.records[0]) == Proportion(0, 0)


def test_the_table_adds_up_the_seeds_beside_the_test_accuracy_of_the_same_weights(runs: Runs) -> None:
    for seed in (0, 1):
        path = runs.add("random", seed, [0.5, 0.6], queried_labels=[0, 1, 2, 3], changes=RANDOM)
        write_predictions(path, [0, 1, 2, seed])
    path = runs.add("herding", 0, [0.5, 0.6], queried_labels=[0, 1, 2, 3], changes=herding(0.5))
    write_predictions(path, [1, 0, 2, 3])

    _, table = random_pick_blocks(runs.setting())
    assert isinstance(table, Table)
    assert table.header == ("accuracy, %", "10 labels", "20 labels")
    by_name = {row[0]: row[1:] for row in table.rows}
    assert by_name["random: at random"][0] == "75.0 [40.9, 92.9], n = 8"
    assert by_name["random: test"] == ("49.0", "59.0")  # raw, as the weights that choose
    assert by_name["herding: at random"][0] == "100.0 [34.2, 100.0], n = 2"
    assert by_name["herding: test"] == ("50.0", "60.0")


def test_without_such_picks_there_is_no_section(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, 0.6], queried_labels=[0, 1])

    assert random_pick_blocks(runs.setting()) == ()
