from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assl_lightning.report.sections.labelling_more import labelling_more_blocks
from assl_lightning.report.views import Block, Paragraph, Table
from assl_lightning.stopping.agreement import count

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
    assert rows["herding: changed, %"][:2] == ("–", "20.0 [13.3, 28.9]")  # Wilson's interval of 20 in 100
    assert rows["herding: bound on accuracy, points"][1] == "± 28.9"
    assert rows["herding: κ"][1].startswith("0.600 [0.443, 0.757]")  # 0.6 ± 1.96 · 0.08
    assert [cell == "–" for cell in rows["herding: κ, same labels"]] == [True] * 4 + [False]


def test_several_seeds_show_their_spread(runs: Runs) -> None:
    for seed, wrong in enumerate([20, 10]):
        compare(runs.add("herding", seed, COURSE), [wrong] * 4)
    rows = rows_of(labelling_more_blocks(runs.setting()), "Predictions that changed")
    assert rows["herding: changed, %"][1] == "15.0 ± 7.1"
    assert rows["herding: κ"][1] == "0.700 ± 0.141"
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


def test_what_is_not_known_is_said(runs: Runs) -> None:
    runs.add("herding", 0, COURSE[:3])
    sentences = [block.text for block in labelling_more_blocks(runs.setting()) if isinstance(block, Paragraph)]
    assert sentences[0].startswith("How many predictions changed from round to round is not known")
    assert "there are 3 rounds, and a curve of accuracy against labels needs 4" in sentences[1]
