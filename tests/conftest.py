"""What several test files need."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from assl_lightning.config.compose import compose, conf_dir
from assl_lightning.config.schema import Config
from tests.operations import watch  # noqa: F401  a fixture

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine makes no test wrong
hypothesis.settings.load_profile("untimed")


@pytest.fixture
def compose_run() -> Callable[..., Config]:
    """The validated configuration of the command line `compose_run(*overrides)`."""

    def compose_overrides(*overrides: str) -> Config:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="test"):
            return compose(GlobalHydra.instance().hydra, list(overrides))

    return compose_overrides


LONGEST_FIRST = (
    *("test_properties", "test_ddp", "test_your_own_images", "test_streaming", "test_train", "test_examples"),
    *("test_readme", "test_resuming", "test_label_your_own", "test_oracle", "test_growing_folder", "test_callback"),
    *("test_end_to_end", "test_benchmarks"),
)
"""Files whose tests take longest: of several processes, none is to begin with one of them when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
