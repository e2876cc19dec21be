from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assl_lightning.report.sections.labelling import find_labelling
from assl_lightning.report.sections.labelling_more import labelling_more_blocks
from assl_lightning.report.views import Block, Paragraph, Table
from assl_lightning.stopping.agreement import count
from tests.report.asked import ask, say

if TYPE_CHECKING:
    from tests.report.conftest import Runs

COURSE = [0.5, 0.7, 0.78, 0.82, 0.84]


def compare(run: Path, wrong: Sequence[int], *, floor: bool = False) -> None:
    """Give the rounds after the first an agreement on 100 images, of which so many differ; and the last one a floor."""
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    for line, different in zip(lines[1:], wrong, strict=True):
        classes = [0, 1] * 50
        line["agreement"] = count(classes, [1 - label for label in classes[:different]] + classes[different:]).as_dict()
    if floor:
        lines[-1]["floor"] = lines[-1]["agreement"]
    (run / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def rows_of(blocks: Sequence[Block], caption: str) -> dict[str, tuple[str, ...]]:
    (table,) = (block for block in blocks if isinstance(block, Table) and block.caption == caption)
    return {row[0]: row[1:] for row in table.rows}


def test_one_run_shows_what_changed_with_the_interval_over_images(runs: Runs) -> None:
    compare(runs.add("herding", 0, COURSE), [20, 10, 10, 4], floor=True)
    rows = rows_of(labelling_more_blocks(runs.setting()), "Predictions that changed")
    assert rows["herding: changed, %"][0] == "20.0 [13.3, 28.9]"  # Wilson's interval of 20 in 100
    assert rows["herding: bound on accuracy, points"][0] == "± 28.9"
    assert rows["herding: κ"][0].startswith("0.600 [0.443, 0.757]")  # 0.6 ± 1.96 · 0.08
    assert [cell == "–" for cell in rows["herding: κ, same labels"]] == [True] * 3 + [False]


def test_several_seeds_show_their_spread(runs: Runs) -> None:
    for seed, wrong in enumerate([20, 10]):
        compare(runs.add("herding", seed, COURSE), [wrong] * 4)
    rows = rows_of(labelling_more_blocks(runs.setting()), "Predictions that changed")
    assert rows["herding: changed, %"][0] == "15.0 ± 7.1"
    assert rows["herding: κ"][0] == "0.700 ± 0.141"
    assert "herding: κ, same labels" not in rows


def test_the_accuracy_to_expect_is_that_of_the_next_batch(runs: Runs) -> None:
    runs.add("herding", 0, COURSE)
    rows = rows_of(labelling_more_blocks(runs.setting()), "Accuracy to expect")
    seeds, labels, now, value, interval, gain = rows["herding"]
    assert (seeds, labels, now) == ("1", "60", "84.0")
    assert 84 < float(value) < 90
    assert gain.startswith("+")
    low, high = (float(end) for end in interval.strip("[]").split(", "))
    assert low < float(value) < high


def test_what_is_not_known_beside_what_is_known_is_said(runs: Runs) -> None:
    runs.add("herding", 0, COURSE[:3], changes={"cost_per_label": 0.25})
    (sentence,) = [block.text for block in labelling_more_blocks(runs.setting()) if isinstance(block, Paragraph)]
    assert "there are 3 rounds, and a curve of accuracy against labels needs 4" in sentence


def test_nothing_is_said_where_nothing_is_known(runs: Runs) -> None:
    runs.add("herding", 0, COURSE[:3])
    assert labelling_more_blocks(runs.setting()) == ()


def test_a_run_that_a_rule_ended_says_why(runs: Runs) -> None:
    run = runs.add("herding", 0, COURSE, changes={"rounds": 9})
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    lines[-1]["stopped"] = {"rule": "R()", "rounds": 9, "reason": "it is enough"}
    (run / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = rows_of(labelling_more_blocks(runs.setting()), "Runs that a rule ended")
    assert rows == {"herding": ("0", "4 of 9", "it is enough")}


def test_labels_cost_what_was_asked_for_by_the_price_of_one(runs: Runs) -> None:
    changes = {"cost_per_label": 0.25, "hold_out": 20}
    for seed in range(2):
        runs.add("herding", seed, COURSE, queried_labels=[0, 1, 2], changes=changes)
    rows = rows_of(labelling_more_blocks(runs.setting()), "What the labels cost")
    assert rows["herding"] == ("45", "–", "11.25")  # 20 + 10 + 5 · 3


def test_a_price_that_only_some_runs_have_makes_no_cost(runs: Runs) -> None:
    runs.add("herding", 0, COURSE, changes={"cost_per_label": 0.25})
    runs.add("herding", 1, COURSE)
    rows = rows_of(labelling_more_blocks(runs.setting()), "What the labels cost")
    assert rows["herding"] == ("10", "–", "–")


def test_answers_without_a_time_tell_no_minutes(runs: Runs) -> None:
    run = runs.add("herding", 0, COURSE)
    ask(run, 1, {"a.png": "ok"})
    say(run, 1, "a.png", "ok", seconds=None)
    setting = runs.setting()
    (asked,) = find_labelling([setting]).values()
    assert rows_of(labelling_more_blocks(setting, asked), "What the labels cost")["herding"][1] == "–"


def test_peoples_minutes_are_those_of_their_timed_answers(runs: Runs) -> None:
    run = runs.add("herding", 0, COURSE)
    ask(run, 1, {"a.png": "ok", "b.png": "ok", "c.png": "dent"})
    for name, seconds in (("a.png", 30.0), ("b.png", 60.0), ("c.png", None)):
        say(run, 1, name, "ok", seconds=seconds)
    setting = runs.setting()
    (asked,) = find_labelling([setting]).values()
    rows = rows_of(labelling_more_blocks(setting, asked), "What the labels cost")
    assert rows["herding"][1] == "1.5 (2 of 3 answers timed)"
