from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from assl_lightning.report.drawing import svg
from assl_lightning.report.sections.histograms import (
    Histogram,
    draw_histograms,
    histogram_blocks,
    last_histograms,
    read_histograms,
)
from assl_lightning.report.views import Illustration

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Runs


def test_the_last_round_with_histograms_is_shown(runs: Runs) -> None:
    run = runs.add("assl", 3, [0.5, 0.6, 0.7])
    for number in (0, 1):
        runs.write_histograms(run / f"round_{number:02d}" / "histograms.json")
    setting = runs.setting()
    last = last_histograms(setting.methods["assl"].runs[3])
    assert last is not None
    assert last[0] == 1
    (figure,) = histogram_blocks(setting, {"assl": 3})
    assert isinstance(figure, Illustration)
    assert "assl: round 1, seed 3" in figure.caption


def test_each_panel_has_the_shares_of_pool_and_queries() -> None:
    edges = np.array([0.0, 0.5, 1.0])
    found = {
        "u": Histogram(edges, np.array([90.0, 10]), np.array([1.0, 3])),
        "$i": Histogram(edges, np.zeros(2), np.zeros(2)),
    }
    figure = draw_histograms({"assl": found, "random": {"u": found["u"]}})
    assert len(figure.axes) == 4
    pool, queried = (patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch))
    assert pool.get_data()[0].tolist() == [0.9, 0.1]
    assert queried.get_data()[0].tolist() == [0.25, 0.75]
    assert not figure.axes[3].patches
    assert len(svg(figure).content) > 1000


def test_a_statistic_with_one_value_has_one_bin() -> None:
    one = Histogram(np.array([0.2, 0.2]), np.array([10.0]), np.array([2.0]))
    assert len(svg(draw_histograms({"assl": {"u": one}})).content) > 1000


def test_runs_without_histograms_have_no_section(runs: Runs) -> None:
    runs.add("assl", 0, [0.5])
    assert histogram_blocks(runs.setting(), {"assl": 0}) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "must map names to edges, pool and queried"),
        ('{"u": {"edges": [0, 1], "pool": [1]}}', "must map names to .*KeyError: 'queried'"),
        ("[1]", "must map names"),
        ('{"u": {"edges": ["a", 1], "pool": [1], "queried": [1]}}', "must map names"),
        (
            '{"u": {"edges": [0, 1], "pool": [1, 2], "queried": [1]}}',
            "u has 2 edges, so pool and queried must have 1 counts",
        ),
    ],
)
def test_a_damaged_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "histograms.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"histograms.json.*{message}"):
        read_histograms(path)
