"""The key that a message names: the one that a user writes, not the one that a file of conf/ fills from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from omegaconf import OmegaConf

from assl_lightning.config.compose import conf_dir
from assl_lightning.config.prepare import check, load_source
from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.written_keys import WRITTEN, naming_written_keys

Compose = Callable[..., Config]
PLACES = {"data": "data", "network": "network", "oracle": "oracle", "acquisition": "acquisition"}
REFERENCE = re.compile(r"\$\{([\w.]+)(\[0\])?\}")


def references(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield each key below `path` that has the value of another one, with that one."""
    for name, value in node.items():
        key = f"{path}.{name}"
        if isinstance(value, dict):
            yield from references(value, key)
        elif isinstance(value, str) and (match := REFERENCE.fullmatch(value)):
            yield key, match[1]


def test_every_argument_that_a_file_of_conf_fills_from_another_key_is_known() -> None:
    found = {
        pair
        for group, path in PLACES.items()
        for file in (conf_dir() / group).glob("*.yaml")
        for pair in references(OmegaConf.to_container(OmegaConf.load(file)), path)
    }
    found |= {*references(OmegaConf.to_container(OmegaConf.load(conf_dir() / "_own_images.yaml")), "data")}

    assert {(key, written) for key, written in found if WRITTEN.get(key) != written} == set()
    assert ("data.source.root", "data.root") in found
    assert ("data.source.image_size", "data.image_size") in found


@pytest.mark.parametrize(
    ("overrides", "beginning"),
    [
        (
            ["data=image_folder", "data.root=photoz", "data.num_classes=2"],
            "data.root=photoz: photoz must be a directory",
        ),
        (
            ["data=image_folder", "data.root=.", "data.num_classes=2", "data.channels=2"],
            "data.channels=2: channels must",
        ),
        (["data.image_size=[3,3]"], "data.image_size=[3, 3]: image_size must be at least 8"),
        (["data.source.image_size=3"], "data.source.image_size=3: image_size must be at least 8"),
    ],
)
def test_an_error_of_the_data_names_the_key_that_was_given(
    compose_run: Compose, overrides: list[str], beginning: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_source(compose_run(*overrides))

    (line,) = caught.value.lines
    assert line.startswith(beginning)


def test_a_network_of_another_size_lists_the_key_that_was_given(compose_run: Compose) -> None:
    config = compose_run("data.channels=4", "data.mean=null", "data.std=null", "trainer.accelerator=cpu")
    config = replace(config, network={**config.network, "width": -1, "channels": 4})

    @naming_written_keys
    def make(config: Config) -> None:
        with error_at("network", config.network):
            raise RuntimeError("no memory")

    with pytest.raises(ConfigurationError) as caught:
        make(config)

    assert caught.value.lines == ("network: no memory (with data.num_classes=10, data.channels=4, width=-1)",)


def test_other_errors_and_keys_stay_as_they_are(compose_run: Compose) -> None:
    config = compose_run("network.width=-1", "trainer.accelerator=cpu")

    with pytest.raises(ConfigurationError, match=r"^network\.width=-1: width must be"):
        check(config)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.image_size=8", "data.image_size=8: must be a list of integers, [height, width], each at least 1"),
        ("data.image_size=null", "data.image_size=null: must be a list of integers, [height, width], each at least 1"),
        (
            "score=3",
            "score=3: must have a value at score.c_u, which acquisition.strategy.c_u takes; "
            "give score.c_u=VALUE instead",
        ),
    ],
)
def test_a_value_that_another_key_cannot_take_apart_is_named_itself(
    compose_run: Compose, override: str, line: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose_run(override)

    assert caught.value.lines == (line,)


def test_a_root_beside_the_sources_own_has_no_effect_and_says_why(compose_run: Compose) -> None:
    with pytest.raises(ConfigurationError, match=r"no effect, since data\.source\.root=b is given too"):
        compose_run("data=image_folder", "data.root=a", "data.source.root=b", "data.num_classes=2")
