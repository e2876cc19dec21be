from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.report.comparing import comparison_page

if TYPE_CHECKING:
    from tests.report.conftest import Runs

TITLES = [
    "Accuracy",
    "Differences to random",
    "Settings and versions",
]


def test_one_setting_is_a_page_of_one_level(runs: Runs) -> None:
    runs.method("assl", [[0.5, 0.6], [0.5, 0.7]])
    runs.method("random", [[0.5, 0.6], [0.5, 0.7]])
    page = comparison_page([runs.setting()], people={})
    assert page.title == "Digits: small CNN, 4 classes"
    assert [section.title for section in page.sections] == [*TITLES[:2], "Who beats whom", *TITLES[2:]]
    assert {section.level for section in page.sections} == {2}
    assert page.lead[0].startswith("2 methods")


def test_several_settings_share_one_matrix_and_have_a_part_each(runs: Runs) -> None:
    for init in ("rand", "continue"):
        for method in ("assl", "random"):
            runs.method(method, [[0.5, 0.6], [0.5, 0.7]], where=f"{method}_{init}", changes={"init": init})
    page = comparison_page(runs.settings(), title="Both", people={})
    names = [setting.name for setting in runs.settings()]
    assert page.title == "Both"
    assert [(section.title, section.level) for section in page.sections] == [
        *(("Who beats whom", 2), ("Mean over settings", 2)),
        *((title, 2 + bool(place)) for name in names for place, title in enumerate([name, *TITLES])),
    ]
    assert [text.partition(": ")[0] for text in page.lead] == names


def test_what_there_is_something_of_has_a_section_in_its_place(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5, 0.6], seconds={"train": 1.0}, queried_labels=[1, 2])
    runs.write_sheet(run / "round_00" / "queried.png", [(200, 0, 0)])
    runs.write_histograms(run / "round_00" / "histograms.json")
    runs.write_evaluation(run / "round_01")
    page = comparison_page([runs.setting()], people={})
    assert [section.title for section in page.sections] == [
        "Accuracy",
        "Accuracy by class",
        "Confused classes",
        "Confident errors",
        "Confidence",
        "Time",
        "Classes of the queries",
        "Pictures of the queries",
        "Scores of the queries",
        "Settings and versions",
    ]
    assert all(section.blocks for section in page.sections)


def test_another_reference_can_be_chosen(runs: Runs) -> None:
    runs.method("assl", [[0.5, 0.6], [0.5, 0.7]])
    runs.method("entropy", [[0.5, 0.6], [0.5, 0.7]])
    assert comparison_page([runs.setting()], people={}).sections[1].title == "Differences"
    assert comparison_page([runs.setting()], "entropy", people={}).sections[1].title == "Differences to entropy"
