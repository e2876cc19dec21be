"""Refuse Hydra's own keys that have no effect: the loop makes its own directories, and `hydra.main` is not used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from assl_lightning.config.schema import ConfigurationError
from assl_lightning.config.values import show

BASIC_LAUNCHER = f"{BasicLauncher.__module__}.{BasicLauncher.__qualname__}"
BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"

WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "run.dir": (".", "run_dir=… names the run's directory"),
    "sweep.subdir": ("${hydra.job.num}", "run_dir=… names each run's directory"),
    "output_subdir": (None, "a run's configuration is in its run_dir, as config.yaml"),
    "job.chdir": (False, "a run stays in the working directory; run_dir=… names where it writes"),
}
"""Key below `hydra` → the value that it has by default, and what to use instead."""

_WITH_EFFECT = ("mode", "searchpath", "launcher", "sweeper", "help", "hydra_help")
_OF_LAUNCHERS = (
    "sweep.dir",
    "job.name",
    "job.env_set",
    "job.env_copy",
    "job_logging",
    "hydra_logging",
    "verbose",
    "callbacks",
)
"""Keys that other launchers (joblib, submitit, …) and sweepers read for their jobs."""


def overrides_of(settings: DictConfig) -> list[str]:
    """Return the overrides of Hydra's own keys, as they were typed: `${…}` in them is resolved for each job."""
    given: Any = OmegaConf.to_container(settings.overrides.hydra, resolve=False)
    return [str(override) for override in given]


def refuse_without_effect(settings: DictConfig) -> None:
    """Raise for Hydra's keys, in a file or on the command line, that would have no effect.

    Args:
        settings: the composed group `hydra`.

    Raises:
        ConfigurationError: a line for each of them, with what to use instead.
    """
    plain: Any = OmegaConf.to_container(settings, resolve=False)
    lines = {}
    for key, (by_default, instead) in WITHOUT_EFFECT.items():
        section, _, name = key.rpartition(".")
        value = (plain[section] if section else plain).get(name, by_default)
        if value != by_default and value is not None:
            lines[key] = f"{show(f'hydra.{key}', value)}: has no effect here; {instead}"
    is_basic = plain["launcher"]["_target_"] == BASIC_LAUNCHER and plain["sweeper"]["_target_"] == BASIC_SWEEPER
    known = (*_WITH_EFFECT, *WITHOUT_EFFECT, *(() if is_basic else _OF_LAUNCHERS))
    for override in OverridesParser.create().parse_overrides(overrides_of(settings)):
        key = override.key_or_group.replace("/", ".").removeprefix("hydra.")
        if not _is_below(key, known):
            why = "is for hydra/launcher=joblib or another" if _is_below(key, _OF_LAUNCHERS) else "has no effect here"
            lines[key] = f"{override.input_line}: {why}; leave it out"
    if lines:
        raise ConfigurationError(lines.values())


def _is_below(key: str, groups: Iterable[str]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)
