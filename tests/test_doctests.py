"""The examples in docstrings, which are run as they stand."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(directory).with_suffix("").parts).removesuffix(".__init__")
    for directory, pattern in ((ROOT / "src", "**/*.py"), (ROOT, "benchmarks/*.py"))
    for path in directory.glob(pattern)
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_print_what_they_say(name: str) -> None:
    failed, attempted = doctest.testmod(import_module(name))
    assert attempted
    assert not failed
