from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.loop.picked_accuracy import newest_picked_accuracy, picked_accuracy, picked_at_random
from assl_lightning.report.analysis.runs import Run, find_runs
from assl_lightning.report.sections.picked_accuracy import picked_accuracy_blocks
from assl_lightning.report.views import Paragraph, Table
from assl_lightning.stopping import PickedAccuracy

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


def wrong_picks(run: Path) -> tuple[bool | None, ...] | None:
    """Which of the picks that count were predicted wrong, after the first round; all of them weigh the same."""
    of_run = only(run)
    found = picked_accuracy(of_run.directory, of_run.config, of_run.records[0])
    assert found is None or found.is_uniform
    return None if found is None else found.wrong


def change_records(run: Path, **values: Any) -> None:
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    (run / "rounds.jsonl").write_text("".join(json.dumps({**line, **values}) + "\n" for line in lines))


@pytest.mark.parametrize(("share", "picks"), [(0.0, 0), (0.2, 1), (0.5, 2), (0.99, 4)])
def test_a_share_of_the_picks_is_drawn_at_random_rounded_down(runs: Runs, share: float, picks: int) -> None:
    run = only(runs.add("herding", 0, [0.5, 0.6], changes=herding(share)))
    assert picked_at_random(run.config, 5) == picks


def test_all_picks_of_the_random_strategy_are_and_none_of_others(runs: Runs) -> None:
    assert picked_at_random(only(runs.add("random", 0, [0.5, 0.6], changes=RANDOM)).config, 5) == 5
    assert picked_at_random(only(runs.add("assl", 0, [0.5, 0.6])).config, 5) == 0


def test_the_random_share_of_a_strategy_from_elsewhere_may_be_another() -> None:
    config = {"acquisition": {"strategy": {"_target_": "my_package.FirstAtRandom", "random_share": 0.5}}}
    assert picked_at_random(config, 10) == 0


def test_the_last_picks_count_where_they_were_answered_and_predicted(runs: Runs) -> None:
    run = runs.add("herding", 0, [0.5, 0.6], queried_labels=[0, 1, 2, 3, -1, 1], changes=herding(0.7))
    write_predictions(run, [0, 1, 0, 3, 0, ""])  # of the last four one is wrong, one right, two are not known

    assert wrong_picks(run) == (True, False, None, None)


def test_samples_that_had_no_score_are_no_draw_of_the_strategy(runs: Runs) -> None:
    run = runs.add("herding", 0, [0.5, 0.6], queried_labels=[0, 1, 2, 3, 0, 0], changes=herding(0.5))
    change_records(run, drawn_at_random=2)
    write_predictions(run, [1, 1, 2, 0, 1, 1])

    assert wrong_picks(run) == (False, True), "the third and the fourth pick"


def test_predictions_and_answers_are_compared_as_present_classes(runs: Runs) -> None:
    run = runs.add("random", 0, [0.5, 0.6], queried_labels=[0, 1, 1, 2], changes=RANDOM)
    write_predictions(run, [0, 1, 2, 3])  # ok, dent, scratch, hole; then dent and scratch are merged
    history = ClassHistory.begin(["ok", "dent", "scratch", "hole"]).merge(["dent", "scratch"], "damage", 1)
    write_history(run, history)

    assert wrong_picks(run) == (False,) * 4


def test_a_run_whose_files_are_gone_or_whose_picks_have_no_label_tells_nothing(runs: Runs) -> None:
    assert wrong_picks(runs.add("random", 0, [0.5, 0.6], queried_labels=[0, 1], changes=RANDOM)) is None
    skipped = runs.add("random", 1, [0.5, 0.6], queried_labels=[-1, -1], changes=RANDOM)
    write_predictions(skipped, [0, 1])
    assert wrong_picks(skipped) is None


def test_all_picks_count_by_their_probabilities_where_these_are_known(runs: Runs) -> None:
    run = runs.add("power", 0, [0.5, 0.6], queried_labels=[0, 1, 3])
    change_records(run, drawn_at_random=1, candidates=4, pick_probabilities=[0.5, 0.25])
    write_predictions(run, [1, 1, 0])
    found = picked_accuracy(run, only(run).config, only(run).records[0])

    assert found == PickedAccuracy((pytest.approx(2 / 3), pytest.approx(4 / 3)), (True, False))  # type: ignore[arg-type]


def test_uniform_probabilities_tell_what_a_random_strategy_tells_without_them(runs: Runs) -> None:
    found = []
    for seed, known in enumerate([{}, {"candidates": 8, "pick_probabilities": [1 / 8, 1 / 7, 1 / 6]}]):
        run = runs.add("random", seed, [0.5, 0.6], queried_labels=[0, 1, 3], changes=RANDOM)
        change_records(run, **known)
        write_predictions(run, [0, 2, 3])
        found.append(str(picked_accuracy(run, only(run).config, only(run).records[0])))
    assert found[0] == found[1] == "66.7 % [20.8, 93.9] accuracy without a hold-out, by 3 picks drawn at random"


def test_the_newest_round_with_answers_is_told(runs: Runs) -> None:
    run = only(runs.add("random", 0, [0.5, 0.6], queried_labels=[0, 1], changes=RANDOM))
    write_predictions(run.directory, [0, 1])
    waiting = [run.records[0], replace(run.records[1], queried_labels=[])]
    found = newest_picked_accuracy(run.directory, run.config, waiting)
    assert found == (0, PickedAccuracy((1.0, 1.0), (False, False)))
    assert newest_picked_accuracy(run.directory, run.config, []) is None


def test_a_prediction_that_is_no_class_is_named(runs: Runs) -> None:
    run = runs.add("random", 0, [0.5, 0.6], queried_labels=[0, 1], changes=RANDOM)
    write_predictions(run, [0, "dent"])
    with pytest.raises(ValueError, match=r"queried\.csv must have the number of a class as each prediction"):
        picked_accuracy(run, only(run).config, only(run).records[0])


def test_the_table_adds_up_the_seeds_beside_the_test_accuracy_of_the_same_weights(runs: Runs) -> None:
    for seed in (0, 1):
        path = runs.add("random", seed, [0.5, 0.6], queried_labels=[0, 1, 2, 3], changes=RANDOM)
        write_predictions(path, [0, 1, 2, seed])
    path = runs.add("herding", 0, [0.5, 0.6], queried_labels=[0, 1, 2, 3], changes=herding(0.5))
    write_predictions(path, [1, 0, 2, 3])
    path = runs.add("power", 0, [0.5, 0.6], queried_labels=[0, 1])
    change_records(path, candidates=4, pick_probabilities=[0.5, 0.25])
    write_predictions(path, [1, 1])

    paragraph, table = picked_accuracy_blocks(runs.setting())
    assert isinstance(table, Table)
    assert table.header == ("accuracy, %", "10 labels", "20 labels")
    by_name = {row[0]: row[1:] for row in table.rows}
    assert by_name["random: at random"][0] == "75.0 [40.9, 92.9], n = 8"
    assert by_name["random: test"] == ("49.0", "59.0")  # raw, as the weights that choose
    assert by_name["herding: at random"][0] == "100.0 [34.2, 100.0], n = 2"
    assert by_name["herding: test"] == ("50.0", "60.0")
    assert by_name["power: weighed"][0].startswith("66.7 [")
    assert isinstance(paragraph, Paragraph)
    assert "LURE" in str(paragraph)


def test_without_such_picks_there_is_no_section(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, 0.6], queried_labels=[0, 1])

    assert picked_accuracy_blocks(runs.setting()) == ()
