"""A class of the user's own in the place of a group's, on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from assl_lightning.config import prepare
from assl_lightning.config.replaced import with_open_nodes
from assl_lightning.config.schema import Config, ConfigurationError

Compose = Callable[..., Config]


class Net(nn.Module):
    def __init__(self, num_classes: int, depth: int = 1) -> None:
        super().__init__()


class Anything(nn.Module):
    def __init__(self, width: int = 3, **more: object) -> None:
        super().__init__()


@pytest.fixture(autouse=True)
def their(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("their")
    module.Net, module.Anything = Net, Anything  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their", module)


@pytest.mark.parametrize(
    ("overrides", "node"),
    [
        (["network._target_=their.Net"], {"num_classes": 10}),
        (["network._target_=their.Net", "network.depth=3"], {"num_classes": 10, "depth": 3}),
        (["network._target_=their.Net", "+network.depth=3"], {"num_classes": 10, "depth": 3}),
        (["network._target_=their.Net", "~network.width", "~network.channels"], {"num_classes": 10}),
        (["network._target_=their.Net", "network.width=3"], {"num_classes": 10, "width": 3}),
        (["network._target_=their.Anything"], {"num_classes": 10, "width": 16}),
        (["network._target_=their.Anything", "network.depth=3"], {"num_classes": 10, "width": 16, "depth": 3}),
        (["network._target_=assl_lightning.networks.SmallCNN"], {"num_classes": 10, "channels": 1, "width": 16}),
        (["network._target_=their.Missing"], {"num_classes": 10, "channels": 1, "width": 16}),
    ],
)
def test_arguments_of_the_replaced_class_stay_where_the_new_one_takes_them_or_they_were_typed(
    compose_run: Compose, overrides: list[str], node: dict[str, object]
) -> None:
    found = compose_run(*overrides).network
    assert {name: value for name, value in found.items() if name != "_target_"} == node


def test_a_typed_argument_that_the_class_does_not_take_is_refused(compose_run: Compose) -> None:
    config = compose_run("network._target_=their.Net", "network.widht=3", "trainer.accelerator=cpu")
    with pytest.raises(ConfigurationError) as caught:
        prepare.check(config)
    assert caught.value.lines == (
        "network.widht=3: Net takes no argument 'widht' (did you mean 'depth'?); it takes num_classes, depth",
    ) or caught.value.lines == ("network.widht=3: Net takes no argument 'widht'; it takes num_classes, depth",)


def test_a_data_set_of_ones_own_is_told_its_group(compose_run: Compose) -> None:
    config = compose_run("data.source.pool._target_=their.Anything", "trainer.accelerator=cpu")
    with pytest.raises(ConfigurationError) as caught:
        prepare.check(config)
    (line,) = caught.value.lines
    assert line.startswith(
        "data.source.pool={_target_: their.Anything}: load_digits takes no argument 'pool'; it takes"
    )
    assert line.endswith(". For a data set of your own say data=dataset too")


def test_it_holds_at_any_depth_and_in_dictionaries(compose_run: Compose) -> None:
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.03}
    config = compose_run("algorithm.module.optimizer._target_=torch.optim.Adam")
    assert config.algorithm.module["optimizer"] == adam
    config = compose_run("algorithm.module.optimizer={_target_: torch.optim.Adam, eps: 1e-6}")
    assert config.algorithm.module["optimizer"] == adam | {"eps": 1e-6}


def test_a_class_is_not_asked_for_where_none_was_replaced(compose_run: Compose) -> None:
    assert compose_run("network.width=4").network["channels"] == 1


def test_a_data_set_is_named_as_any_class_is(compose_run: Compose) -> None:
    fake = "torchvision.datasets.FakeData"
    given = [f"data.source.{part}.{name}" for part in ("pool", "test") for name in (f"_target_={fake}", "size=30")]
    source = compose_run("data=dataset", "data.num_classes=2", *given).data.source
    assert source["pool"] == source["test"] == {"_target_": fake, "size": 30}


def test_keys_of_other_nodes_are_not_opened(compose_run: Compose) -> None:
    assert with_open_nodes(["a._target_=x.Y", "a.b.c=1", "ab.c=1", "~a.d", "+a.e=1", "a=b"]) == [
        *("++a._target_=x.Y", "++a.b.c=1", "ab.c=1", "~a.d", "+a.e=1", "a=b"),
    ]
    with pytest.raises(ConfigurationError, match="algorithm"):
        compose_run("network._target_=their.Net", "algorithm.depth=3")
