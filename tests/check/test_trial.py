"""The shortened run of a check keeps nothing in the directory of the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assl_lightning.check.trial import _shorten
from assl_lightning.config.schema import Config


def test_what_a_strategy_keeps_below_the_runs_directory_is_kept_below_the_trials(
    compose_run: Callable[..., Config],
) -> None:
    config = compose_run(
        "run_dir=runs/mine",
        "acquisition=random",
        "acquisition.strategy._target_=their.Strategy",
        "acquisition.strategy.directory=${run_dir}/kept",
        "acquisition.strategy.parts={own: '${run_dir}/own', other: runs/mine_too, number: 3}",
    )
    assert _shorten(config, Path("/trial/run"), devices=1).acquisition.strategy == {
        "_target_": "their.Strategy",
        "directory": "/trial/run/kept",
        "parts": {"own": "/trial/run/own", "other": "runs/mine_too", "number": 3},
    }
