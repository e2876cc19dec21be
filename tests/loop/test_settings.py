from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assl_lightning.loop.settings import KEYS, RoundSettings, in_groups
from tests.shell import run_python

SETTINGS = RoundSettings(rounds=3, initial_labels=10, labels_per_round=5, hold_out=2)


@pytest.mark.e2e
def test_the_settings_wait_for_no_heavy_import() -> None:
    heavy = "{'torch', 'numpy', 'lightning', 'hydra'} & sys.modules.keys()"
    code = f"import sys, assl_lightning.loop.settings; print(sorted({heavy}))"

    assert run_python("-c", code).stdout.strip() == "[]"


def test_each_setting_stands_once_in_the_configuration_of_a_run() -> None:
    config = {"acquisition": {"name": "assl", "strategy": {"_target_": "a.ASSL"}}, "data": {"name": "digits"}}
    content = replace(SETTINGS, acquisition_weights="ema", config=config).as_dict()

    assert content["acquisition"] == {
        **{"unvisited": "exclude", "weights": "ema", "features": "inference"},
        **{"name": "assl", "strategy": {"_target_": "a.ASSL"}},
    }
    assert content["algorithm"] == {"weight_ema": 0.999}
    assert content["data"] == {"name": "digits"}
    assert content["score"] == {"alpha": 0.8, "c_u": 0.5, "c_i": 2.0, "variance": "post", "reset": True}
    assert not {*KEYS, "config"} & content.keys()


@pytest.mark.parametrize("group", [{"name": "assl"}, {"name": "assl", "unvisited": "random"}, None])
def test_a_setting_at_the_top_is_moved_to_its_group_which_has_the_last_word(group: dict[str, str] | None) -> None:
    """Earlier versions wrote it to both."""
    before = {"seed": 1, "unvisited": "random", **({} if group is None else {"acquisition": group})}

    assert in_groups(before) == {"seed": 1, "acquisition": {"unvisited": "random", **(group or {})}}
    assert in_groups(in_groups(before)) == in_groups(before)


def test_a_setting_stays_at_the_top_where_its_group_is_no_group() -> None:
    content = {"unvisited": "random", "acquisition": "assl"}

    assert in_groups(content) == content


@pytest.mark.parametrize(
    ("changes", "num_images", "message"),
    [
        ({}, 27, None),
        (
            {},
            26,
            "rounds=3, labels_per_round=5, hold_out=2, initial_labels=10: hold_out + initial_labels + rounds × "
            "labels_per_round = 27 labels, but the pool has 26 images (why); lower one of them, for example rounds=2",
        ),
        (
            {"hold_out": 0},
            24,
            "rounds=3, labels_per_round=5, initial_labels=10: initial_labels + rounds × labels_per_round = 25 labels, "
            "but the pool has 24 images (why); lower one of them, for example rounds=2",
        ),
        ({}, 12, "rounds=3, labels_per_round=5, hold_out=2, initial_labels=10: hold_out + initial_labels + "),
        ({}, 11, "hold_out=2, initial_labels=10: must be at most 11 together, the images in the pool (why)"),
        ({"hold_out": 0}, 0, "initial_labels=10: there is no image to label in the pool (why)"),
        ({"hold_out": 0}, 9, "initial_labels=10: must be at most 9, the images in the pool (why)"),
        ({"rounds": 0}, 12, None),
    ],
)
def test_more_labels_than_images_are_told_with_what_to_lower(
    changes: dict[str, Any], num_images: int, message: str | None
) -> None:
    found = [str(shortage) for shortage in replace(SETTINGS, **changes).find_shortage(num_images, because="why")]

    assert found == [] if message is None else found[0].startswith(message)


def test_averaged_weights_that_are_not_kept_are_a_contradiction_for_each_setting_that_asks_for_them() -> None:
    settings = RoundSettings(acquisition_weights="ema", continue_from="ema", weight_ema=None)

    assert [str(contradiction).partition(":")[0] for contradiction in settings.find_contradictions()] == [
        "acquisition_weights=ema, weight_ema=None",
        "continue_from=ema, weight_ema=None",
    ]
    assert replace(settings, weight_ema=0.5).find_contradictions() == []
