from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_rel, wilcoxon

from assl_lightning.loop.records import read_records, write_record
from assl_lightning.report.conclusions import conclusions
from assl_lightning.report.drawing import svg
from assl_lightning.report.sections.accuracy import accuracy_table
from assl_lightning.report.sections.contrasts import (
    AUBC,
    LAST_ROUND,
    contrast_blocks,
    contrast_table,
    contrasts,
    draw_contrasts,
    reference_of,
    verdict,
)
from assl_lightning.report.views import Illustration, Paragraph, Table

if TYPE_CHECKING:
    from tests.report.conftest import Runs

RANDOM = [[0.50, 0.60], [0.52, 0.63], [0.48, 0.58], [0.51, 0.60], [0.49, 0.61]]
BETTER = [[0.50, 0.70], [0.52, 0.74], [0.48, 0.69], [0.51, 0.71], [0.49, 0.70]]
SAME = [[0.50, 0.61], [0.52, 0.60], [0.48, 0.60], [0.51, 0.58], [0.49, 0.62]]


@pytest.fixture
def three(runs: Runs) -> Runs:
    runs.method("better", BETTER)
    runs.method("random", RANDOM)
    runs.method("same", SAME)
    return runs


def test_the_last_round_is_compared_as_scipy_does(three: Runs) -> None:
    better, same = contrasts(three.setting(), "random").of(LAST_ROUND)
    last = {name: np.array(rows)[:, -1] for name, rows in (("better", BETTER), ("random", RANDOM), ("same", SAME))}
    for found, name in ((better, "better"), (same, "same")):
        expected = ttest_rel(last[name], last["random"])
        bounds = expected.confidence_interval(0.95)
        assert found.method == name
        assert [found.test.interval.low, found.test.interval.high] == pytest.approx([bounds.low, bounds.high])
        assert found.test.p_value == pytest.approx(expected.pvalue)
        assert found.test.interval.n == 5
    assert better.wilcoxon == pytest.approx(wilcoxon(last["better"] - last["random"]).pvalue)
    assert better.holm == pytest.approx(2 * better.test.p_value)
    assert same.holm == pytest.approx(same.test.p_value)
    assert false_discovery_control([better.test.p_value, same.test.p_value])[0] == pytest.approx(better.holm)


def test_the_area_is_compared_over_all_rounds(three: Runs) -> None:
    better, _ = contrasts(three.setting(), "random").of(AUBC)
    expected = np.array(BETTER).mean(1) - np.array(RANDOM).mean(1)  # two rounds: the trapezoid is their mean
    assert better.difference == pytest.approx(expected)


def test_methods_are_paired_over_the_seeds_that_both_have(runs: Runs) -> None:
    for seed in (0, 1, 3):
        runs.add("random", seed, [0.5, 0.6 + 0.01 * seed])
    for seed in (1, 2, 3):
        runs.add("assl", seed, [0.5, 0.7])
    (last, _) = contrasts(runs.setting(), "random").found
    assert last.difference == pytest.approx([0.7 - 0.61, 0.7 - 0.63])


def test_a_method_without_a_shared_seed_is_named_and_not_compared(runs: Runs) -> None:
    runs.add("random", 0, [0.5, 0.6])
    runs.add("assl", 1, [0.5, 0.6])
    setting = runs.setting()
    compared = contrasts(setting, "random")
    assert compared.unpaired == ("assl",)
    assert contrast_blocks(setting, compared) == (Paragraph("assl shares no seed with random and is not compared."),)


def test_the_verdict_needs_five_seeds_and_a_corrected_p(three: Runs) -> None:
    compared = contrasts(three.setting(), "random")
    assert [verdict(one) for one in compared.of(LAST_ROUND)] == ["better", "not significant"]
    assert [verdict(one) for one in contrasts(three.setting(), "better").of(LAST_ROUND)] == ["worse", "worse"]


def test_a_difference_that_only_stands_uncorrected_is_not_told(runs: Runs) -> None:
    """A paired t of 4.27 at 4 degrees of freedom has p = 0.013, which is 0.052 among four comparisons."""
    gains = [0.01, 0.02, 0.03, 0.04, 0.015]
    runs.method("random", RANDOM)
    for name in ("a", "b", "c", "d"):
        runs.method(name, [[first, last + gain] for (first, last), gain in zip(RANDOM, gains, strict=True)])
    found = contrasts(runs.setting(), "random").of(LAST_ROUND)
    assert all(one.test.p_value < 0.05 < one.holm for one in found)
    assert {verdict(one) for one in found} == {"not significant"}


def test_fewer_than_five_seeds_cannot_tell(runs: Runs) -> None:
    runs.method("better", BETTER[:4])
    runs.method("random", RANDOM[:4])
    compared = contrasts(runs.setting(), "random")
    assert compared.found[0].holm < 0.01
    assert {verdict(one) for one in compared.found} == {"too few seeds"}
    assert not any(one.is_significant for one in compared.found)


def test_one_shared_seed_has_a_difference_and_no_interval(runs: Runs) -> None:
    runs.add("random", 0, [0.5, 0.6])
    runs.add("assl", 0, [0.5, 0.7])
    setting = runs.setting()
    compared = contrasts(setting, "random")
    row = contrast_table(compared).rows[0]
    assert row == ("assl", LAST_ROUND, "1", "+10.0", "", "", "–", "1.000", "–", "too few seeds")
    svg(draw_contrasts(setting, compared))


def test_one_round_has_no_area(runs: Runs) -> None:
    runs.method("random", [[0.5], [0.6]])
    runs.method("assl", [[0.5], [0.7]])
    compared = contrasts(runs.setting(), "random")
    assert {one.measure for one in compared.found} == {LAST_ROUND}


def test_where_labels_were_taken_back_there_is_no_area(runs: Runs) -> None:
    for method in ("assl", "random"):
        for seed in range(5):
            run = runs.add(method, seed, [0.5, 0.6, 0.7 + seed / 100])
            for record in read_records(run)[1:]:
                write_record(run, replace(record, labels=20 - record.round))
    setting = runs.setting()
    assert setting.labels == (10, 19, 18)
    assert accuracy_table(setting).rows[0][-1] == "–"
    compared = contrasts(setting, "random")
    assert {one.measure for one in compared.found} == {"last round"}
    assert "AUBC" not in conclusions(setting, compared)
    assert contrast_blocks(setting, compared)


def test_the_drawing_has_a_panel_a_measure_and_each_interval(three: Runs) -> None:
    setting = three.setting()
    compared = contrasts(setting, "random")
    panels = draw_contrasts(setting, compared).axes
    assert [axes.get_title(loc="left") for axes in panels] == [LAST_ROUND, AUBC]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["better", "same"]
    whole = compared.found[0].test.interval
    drawn = [np.asarray(line.get_xdata()).tolist() for line in panels[0].lines]
    assert pytest.approx([100 * whole.low, 100 * whole.high]) in drawn
    assert pytest.approx([100 * whole.mean]) in drawn


def test_the_section_says_how_many_comparisons_are_corrected_for(three: Runs) -> None:
    setting = three.setting()
    sentence, picture, table = contrast_blocks(setting, contrasts(setting, "random"))
    assert isinstance(sentence, Paragraph)
    assert "Holm's p is corrected for 2 comparisons in each measure" in sentence.text
    assert isinstance(picture, Illustration)
    assert isinstance(table, Table)


def test_long_names_are_drawn_in_several_lines(runs: Runs) -> None:
    runs.method("random", RANDOM)
    runs.method("assl", BETTER, where="b", changes={"steps_per_round": 200, "trainer.devices": 2, "algorithm.mu": 5})
    setting = runs.setting()
    (long,) = (name for name in setting.methods if name.startswith("assl"))
    found = contrasts(setting, next(name for name in setting.methods if name.startswith("random")))
    figure = draw_contrasts(setting, found)
    svg(figure)  # warns, and so raises, where the names leave no room for the axes
    assert len(long) > 26
    assert "\n" in figure.axes[0].get_yticklabels()[0].get_text()


def test_random_is_the_reference_where_there_is_one(three: Runs) -> None:
    setting = three.setting()
    assert reference_of(setting, None) == "random"
    assert reference_of(setting, "same") == "same"


def test_an_unknown_reference_is_an_error_that_lists_the_methods(three: Runs) -> None:
    with pytest.raises(
        ValueError, match=r"--against best: must be one of the methods of digits smallcnn: better; random;"
    ):
        reference_of(three.setting(), "best")


def test_without_random_or_another_method_nothing_is_compared(runs: Runs) -> None:
    runs.add("assl", 0, [0.5])
    setting = runs.setting()
    assert reference_of(setting, None) is None
    assert contrast_blocks(setting, None) == ()
    runs.add("entropy", 0, [0.5])
    (sentence,) = contrast_blocks(runs.setting(), None)
    assert isinstance(sentence, Paragraph)
    assert sentence.text.startswith(
        "No method is called random. Choose the method to compare the others with: --against"
    )
