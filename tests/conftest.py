"""What several test files need."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from assl_lightning.cli import conf_dir
from assl_lightning.composing import compose
from assl_lightning.schema import Config


@pytest.fixture
def compose_run() -> Callable[..., Config]:
    """The validated configuration of the command line `compose_run(*overrides)`."""

    def compose_overrides(*overrides: str) -> Config:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="test"):
            return compose(GlobalHydra.instance().hydra, list(overrides))

    return compose_overrides
