from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assl_lightning.report.analysis.classes import class_names_of
from assl_lightning.report.analysis.runs import Run


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ({}, ("0", "1", "2")),
        ({"classes": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"classes": ["a", "b"]}, ("0", "1", "2")),
        ({"classes": ["a", "b", "c"], "source": {"class_names": ["x", "y", "z"]}}, ("x", "y", "z")),
    ],
)
def test_classes_have_the_names_that_config_yaml_has(
    tmp_path: Path, written: dict[str, Any], names: tuple[str, ...]
) -> None:
    data = {"num_classes": 3, "source": written.pop("source", {})}
    assert class_names_of(Run(tmp_path, {"data": data, **written}, ())) == names
