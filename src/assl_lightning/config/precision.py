"""The precision of a run whose configuration leaves it to the device, `trainer.precision=auto`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from assl_lightning.base.run_files import CONFIG
from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import Config
from assl_lightning.learning.accelerators import AUTO, auto_precision
from assl_lightning.loop.records import read_config

log = logging.getLogger(__name__)


def with_precision(config: Config) -> Config:
    """Return the configuration with a precision in the place of "auto".

    A run that has begun keeps the one in its config.yaml, also on another device (`change_devices`), so that all its
    rounds are trained alike. A new run takes that of the device, `auto_precision`.

    Raises:
        ConfigurationError: config.yaml cannot be read.
    """
    if config.trainer.get("precision") != AUTO:
        return config
    here, begun = auto_precision(config.trainer.get("accelerator", "auto")), _of_run(config)
    if begun is not None and begun != here:
        log.info("trainer.precision=auto: %s, in which the run began; a new run would train in %s here", begun, here)
    elif here != "32-true":
        log.info("trainer.precision=auto: %s on this GPU; trainer.precision=32-true trains in float32", here)
    return replace(config, trainer={**config.trainer, "precision": begun or here})


def _of_run(config: Config) -> str | int | None:
    """Return the precision in the run's config.yaml, as it was given; None where there is no run yet."""
    directory = Path(config.run_dir)
    if not (directory / CONFIG).exists():
        return None
    with error_at("run_dir", {"run_dir": config.run_dir}):
        trainer = read_config(directory).get("trainer")
    found = trainer.get("precision") if isinstance(trainer, Mapping) else None
    return None if found == AUTO else found
