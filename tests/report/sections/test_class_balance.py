from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.report.analysis.classes import describe_changes
from assl_lightning.report.drawing import svg
from assl_lightning.report.sections.accuracy import accuracy_blocks
from assl_lightning.report.sections.class_balance import class_balance_blocks, class_counts, draw_shares, evenness
from assl_lightning.report.views import Illustration, Paragraph, Table

if TYPE_CHECKING:
    from tests.report.conftest import Runs


@pytest.mark.parametrize("counts", [[1, 2, 3, 4], [5, 0, 5, 0], [1, 1], [9, 1, 0]])
def test_evenness_is_the_entropy_over_that_of_equal_shares(counts: list[int]) -> None:
    shares = [count / sum(counts) for count in counts]
    expected = -sum(share * log(share) for share in shares if share > 0) / log(len(counts))
    assert evenness(np.array(counts)) == pytest.approx(expected)


def test_answers_of_all_rounds_are_counted_and_missing_ones_are_not(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, 0.6], queried_labels=[0, 2, 2, -1])
    counts = class_counts(runs.setting().methods["assl"].runs[0])
    assert counts is not None
    assert counts.tolist() == [2, 0, 4, 0]


def test_answers_count_as_the_classes_that_theirs_became_and_these_have_names(runs: Runs) -> None:
    named = {"data.source.class_names": ["ok", "damage", "crack"], "data.num_classes": 3}
    runs.add("assl", 0, [0.5, 0.6, 0.7], queried_labels=[0, 1, 2, -1], changes=named)
    run = runs.setting().methods["assl"].runs[0]
    history = ClassHistory.begin(["ok", "dent", "scratch"]).merge(["dent", "scratch"], "damage", 2).add(["crack"], 2)
    write_history(run.directory, history)
    counts = class_counts(run)
    assert counts is not None
    assert counts.tolist() == [3, 2 + 1 + 1, 0 + 1 + 1], "round 0 asked when 2 was a scratch"
    figure = class_balance_blocks(runs.setting())[1]
    assert isinstance(figure, Illustration)
    assert "in this order: ok, damage, crack." in figure.caption
    assert describe_changes(run.directory, run.records) == (
        "Classes: 3 at first, from round 2 on 3 classes (without dent and scratch, with damage and crack). Accuracies "
        "before and after such a round are of different tasks."
    )
    assert describe_changes(run.directory, run.records[:2]) == ""
    paragraphs = [block.text for block in accuracy_blocks(runs.setting()) if isinstance(block, Paragraph)]
    assert any(text.startswith("Classes: 3 at first, from round 2 on") for text in paragraphs)


def test_the_table_has_means_over_seeds(runs: Runs) -> None:
    runs.add("assl", 0, [0.5], queried_labels=[0, 1, 2, 3])
    runs.add("assl", 1, [0.5], queried_labels=[0, 0, 0, 0, 1, 1])
    runs.add("random", 0, [0.5])
    sentence, figure, table = class_balance_blocks(runs.setting())
    assert isinstance(sentence, Paragraph)
    assert isinstance(figure, Illustration)
    assert "assl: 0 46 %, 1 29 %, 2 12 %, 3 12 %" in figure.alternative
    assert isinstance(table, Table)
    second = -(2 / 3 * log(2 / 3) + 1 / 3 * log(1 / 3)) / log(4)
    assert table.rows == (("assl", "2", "5", f"{(1 + second) / 2:.3f}", "12.5", "45.8"),)


def test_the_drawing_has_a_part_as_wide_as_its_share() -> None:
    figure = draw_shares(
        {"assl": np.array([0.5, 0.25, 0.25]), "random, with a name of several lines": np.array([0.1, 0.9, 0])}
    )
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == [0.5, 0.25, 0.25, 0.1, 0.9, 0]
    assert [bar.get_x() for bar in bars] == pytest.approx([0, 0.5, 0.75, 0, 0.1, 1])
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1", "2", "0", "1"]
    assert len(svg(figure).content) > 1000


def test_many_classes_are_a_table_alone(runs: Runs) -> None:
    runs.add("assl", 0, [0.5], queried_labels=[0, 99], changes={"data.num_classes": 100})
    _, table = class_balance_blocks(runs.setting())
    assert isinstance(table, Table)


def test_runs_without_answers_have_no_section(runs: Runs) -> None:
    runs.add("assl", 0, [0.5])
    assert class_balance_blocks(runs.setting()) == ()


@pytest.mark.parametrize("classes", [2, 8, 9, 20])
def test_every_class_has_a_colour_of_its_own_and_a_name_in_the_legend(classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    figure = draw_shares({"assl": np.full(classes, 1 / classes)}, names)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    bars = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert len(set(bars)) == classes
    assert [patch.get_facecolor() for patch in legend.get_patches()] == bars
