"""What several test files need."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from assl_lightning.config.compose import compose, conf_dir
from assl_lightning.config.schema import Config
from tests.interpreted import INTERPRETS
from tests.isolation import _isolated, _nowhere, pytest_collection_finish, pytest_configure, pytest_runtest_setup
from tests.operations import watch
from tests.unprivileged import shared_directory

__all__ = [
    "INTERPRETS",
    "_isolated",
    "_nowhere",
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_runtest_setup",
    "shared_directory",
    "watch",
]


@pytest.fixture
def compose_run() -> Callable[..., Config]:
    """The validated configuration of the command line `compose_run(*overrides)`."""

    def compose_overrides(*overrides: str) -> Config:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="test"):
            return compose(GlobalHydra.instance().hydra, list(overrides))

    return compose_overrides
