"""Every experiment composes, is valid, and has its own name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assl_lightning.config.compose import with_config_dir
from assl_lightning.config.instantiate import check_arguments, nodes
from assl_lightning.config.schema import Config

CONF = Path(__file__).parents[2] / "benchmarks" / "regimes" / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_validates_and_names_classes_that_take_its_arguments(
    compose_run: Callable[..., Config], name: str
) -> None:
    config = compose_run(*with_config_dir([f"+experiment={name}"], CONF))

    assert config.run_dir == f"runs/{name}/seed_0"
    assert [line for key, node in nodes(config) for line in check_arguments(key, node)] == []


def test_every_data_set_is_used_by_an_experiment() -> None:
    used = {
        line.split()[-1]
        for path in CONF.rglob("experiment/*.yaml")
        for line in path.read_text().splitlines()
        if "override /data:" in line
    }

    assert used == {path.stem for path in (CONF / "data").glob("*.yaml")}
