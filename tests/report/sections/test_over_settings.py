from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from assl_lightning.report.analysis.grouping import init_pairs
from assl_lightning.report.sections.over_settings import gain_sentence, mean_table, over_settings_sections

if TYPE_CHECKING:
    from tests.report.conftest import Runs

SUPERVISED = {"algorithm.name": "supervised"}


def add(runs: Runs, where: str, method: str, table: list[list[float]], **changes: Any) -> None:
    runs.method(
        method, table, where=f"{where}/{method}", changes={key.replace("_", "."): x for key, x in changes.items()}
    )


# --- mean over settings ----------------------------------------------------------------------------------------------


def test_the_mean_is_over_rounds_and_so_is_the_deviation_over_seeds(runs: Runs) -> None:
    """Deviations of rounds under rand: 0.1 / √2 and 0.3 / √2, mean 0.1414; under continue 0, so that Total has half."""
    add(runs, "rand", "assl", [[0.5, 0.7], [0.6, 1.0]], init="rand")
    add(runs, "continue", "assl", [[0.7, 0.9], [0.7, 0.9]], init="continue")
    table = mean_table(init_pairs(runs.settings()))
    assert table.header == ("method", "RandInit", "ConInit", "Total")
    assert table.rows == (("assl (n = 2)", "70.0 ± 14.1", "80.0 ± 0.0", "75.0 ± 7.1"),)
    assert "mean over all rounds of 1 setting with each init" in table.caption
    assert "± is the mean over these rounds of the sample s.d. over n seeds, not the error of the mean" in table.caption
    assert table.caption.endswith("Total: mean of the two, and of their ±")


def test_settings_count_alike(runs: Runs) -> None:
    """Under rand 0.7 ± 0.1414 and 0.3 ± 0, under continue 0.8 ± 0 and 0.4 ± 0.1414."""
    add(runs, "1", "assl", [[0.5, 0.7], [0.6, 1.0]], init="rand")
    add(runs, "2", "assl", [[0.7, 0.9], [0.7, 0.9]], init="continue")
    add(runs, "3", "assl", [[0.3, 0.3, 0.3], [0.3, 0.3, 0.3]], init="rand", data_name="svhn")
    add(runs, "4", "assl", [[0.3, 0.3, 0.3], [0.5, 0.5, 0.5]], init="continue", data_name="svhn")
    table = mean_table(init_pairs(runs.settings()))
    assert table.rows == (("assl (n = 2)", "50.0 ± 7.1", "60.0 ± 7.1", "55.0 ± 7.1"),)
    assert "of 2 settings with each init" in table.caption


def test_a_mean_that_lacks_a_setting_is_left_out_and_so_is_its_total(runs: Runs) -> None:
    for data in ("digits", "svhn"):
        for init in ("rand", "continue"):
            add(runs, f"{data}_{init}", "assl", [[0.5], [0.5]], init=init, data_name=data)
        add(runs, f"{data}_rand", "random", [[0.4]], init="rand", data_name=data)
    add(runs, "digits_continue", "random", [[0.4]], init="continue", data_name="digits")
    assert mean_table(init_pairs(runs.settings())).rows == (
        ("assl (n = 2)", "50.0 ± 0.0", "50.0 ± 0.0", "50.0 ± 0.0"),
        ("random (n = 1)", "40.0", "–", "–"),
    )


def test_seeds_that_differ_in_number_are_told_and_one_alone_has_no_deviation(runs: Runs) -> None:
    add(runs, "rand", "assl", [[0.5], [0.5]], init="rand")
    add(runs, "continue", "assl", [[0.6]], init="continue")
    assert mean_table(init_pairs(runs.settings())).rows == (("assl (n = 1 to 2)", "50.0 ± 0.0", "60.0", "55.0"),)


# --- with and without unlabelled images ------------------------------------------------------------------------------


def test_the_gain_is_the_mean_over_acquisitions_that_were_run_both_ways(runs: Runs) -> None:
    """0.6 − 0.5 for random, 0.8 − 0.5 for entropy; assl was not run without unlabelled images."""
    add(runs, "ssl", "random", [[0.5, 0.7], [0.5, 0.7]])
    add(runs, "ssl", "entropy", [[0.8, 0.8], [0.8, 0.8]])
    add(runs, "ssl", "assl", [[0.9, 0.9], [0.9, 0.9]])
    add(runs, "al", "random", [[0.4, 0.6], [0.4, 0.6]], algorithm_name="supervised")
    add(runs, "al", "entropy", [[0.5, 0.5], [0.5, 0.5]], algorithm_name="supervised")
    assert gain_sentence([runs.setting()]) == (
        "Training on the unlabelled images too changes test accuracy (EMA weights) by +20.0 points: the mean over all "
        "rounds of 1 setting and over the acquisitions that were run with and without them, entropy and random (n = 2, "
        "2 shared seeds each)."
    )


def test_the_gain_is_over_settings_and_over_seeds_that_both_have(runs: Runs) -> None:
    """Seed 0 alone was run both ways on digits: 0.6 − 0.5; on svhn 0.3 − 0.6."""
    add(runs, "1", "random", [[0.6], [0.9]])
    add(runs, "2", "random", [[0.5]], algorithm_name="supervised")
    add(runs, "3", "random", [[0.2], [0.4]], data_name="svhn")
    add(runs, "4", "random", [[0.6], [0.6]], data_name="svhn", algorithm_name="supervised")
    sentence = gain_sentence(runs.settings())
    assert "by −10.0 points: the mean over all rounds of 2 settings" in sentence
    assert sentence.endswith(", random (n = 2, 1 to 2 shared seeds each).")


def test_methods_of_one_setting_are_paired_under_one_init(runs: Runs) -> None:
    add(runs, "1", "random", [[0.6]])
    add(runs, "2", "random", [[0.9]], init="continue")
    add(runs, "3", "random", [[0.5]], algorithm_name="supervised")
    assert "by +10.0 points" in gain_sentence([runs.setting()])


@pytest.mark.parametrize(
    "other",
    [
        {"algorithm_mu": 3},  # a second method with unlabelled images, which might be meant as well
        {"algorithm_name": "supervised", "algorithm_mu": 3},
    ],
)
def test_a_counterpart_that_is_not_the_only_one_is_none(runs: Runs, other: dict[str, Any]) -> None:
    add(runs, "1", "random", [[0.6]])
    add(runs, "2", "random", [[0.5]], algorithm_name="supervised")
    assert gain_sentence([runs.setting()])
    add(runs, "3", "random", [[0.5]], **other)
    assert gain_sentence([runs.setting()]) == ""


def test_methods_without_a_seed_in_common_have_no_gain(runs: Runs) -> None:
    runs.add("random", 0, [0.6])
    runs.add("random", 1, [0.5], where="al", changes=SUPERVISED)
    assert gain_sentence([runs.setting()]) == ""


# --- the sections ----------------------------------------------------------------------------------------------------


def test_a_section_is_there_where_it_has_something_to_say(runs: Runs) -> None:
    def titles() -> list[str]:
        return [section.title for section in over_settings_sections(runs.settings())]

    add(runs, "1", "random", [[0.5], [0.6]])
    assert titles() == []
    add(runs, "2", "random", [[0.5], [0.6]], init="continue")
    assert titles() == ["Mean over settings"]
    add(runs, "3", "random", [[0.5], [0.6]], algorithm_name="supervised")
    assert titles() == ["Mean over settings", "Gain of the unlabelled images"]
