"""What a method is called, and what chose its first labels."""

from __future__ import annotations

from typing import Any

import pytest

from assl_lightning.report.labels_needed.starts import rule_of, start_of


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "random"),
        ({"initial_acquisition": "random", "initial_features": "pixels", "warm_up": None}, "random"),
        ({"initial_acquisition": "kmeans_plus_plus"}, "kmeans_plus_plus"),
        ({"initial_acquisition": "herding", "initial_features": "pixels"}, "herding of pixels"),
        ({"initial_acquisition": "typiclust", "initial_features": "auto", "warm_up": None}, "typiclust of pixels"),
        (
            {"initial_acquisition": "herding", "initial_features": "auto", "warm_up": {"_target_": "a.SimCLR"}},
            "herding of network, after simclr",
        ),
        ({"initial_acquisition": "random", "warm_up": {"_target_": "a.SimCLR"}}, "random, after simclr"),
        (
            {
                "initial_acquisition": "herding",
                "initial_features": "network",
                "warm_up": {"name": "simclr", "steps": 4},
            },
            "herding of network, after simclr",
        ),
    ],
)
def test_a_start_is_its_choice_its_features_and_its_warm_up(config: dict[str, Any], expected: str) -> None:
    assert start_of(config) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("random", "random"),
        ("random, warm_up=simclr, warm_up.steps=40", "random"),
        ("herding, c_u=0, warm_up.steps=400, initial_features=pixels", "herding, c_u=0"),
        ("herding, warm_up_of_another_kind=1", "herding, warm_up_of_another_kind=1"),
    ],
)
def test_a_rule_is_what_is_left_of_the_name_without_the_start(method: str, expected: str) -> None:
    assert rule_of(method) == expected
