"""The group warm_up: what it takes, what is refused before anything is written, and runs of the time before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from assl_lightning.commands import messages
from assl_lightning.commands.train import main
from assl_lightning.config import prepare
from assl_lightning.config.classifier import load_classifier
from assl_lightning.config.instantiate import make_network, make_warm_up
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.loop.records import read_records

Compose = Callable[..., Config]
SHORT = [
    *("rounds=0", "steps_per_round=2", "algorithm.batch_size=4", "algorithm.mu=2", "network.width=4"),
    *("trainer.accelerator=cpu", "run_dir=run", "initial_acquisition=random", "initial_features=network"),
]
COLD = [*SHORT, "warm_up=none"]
WARM = ["warm_up=simclr", "warm_up.steps=2", "warm_up.batch_size=4"]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)  # process-wide, not ours to change
    return tmp_path


def test_the_default_is_one_and_the_settings_of_the_paper_have_none(compose_run: Compose) -> None:
    assert compose_run() == compose_run("warm_up=simclr")
    assert compose_run("warm_up=none").warm_up is None
    assert compose_run("+experiment=svhn_vit").warm_up is None


def test_a_network_with_given_weights_has_none_unless_it_is_asked_for(compose_run: Compose) -> None:
    given = ("network=torchvision", "network.weights=resnet18.pth")
    assert compose_run("network=torchvision") == compose_run("network=torchvision", "warm_up=simclr")
    assert compose_run(*given) == compose_run(*given, "warm_up=none")
    assert compose_run(*given, "warm_up=simclr").warm_up is not None


def test_a_key_of_the_warm_up_that_given_weights_make_unnecessary_is_refused(compose_run: Compose) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose_run("network=torchvision", "network.weights=resnet18.pth", "warm_up.steps=100")
    (line,) = caught.value.lines
    assert line.startswith("warm_up.steps=100: there is no warm-up, since network.weights is given; add warm_up=simclr")


def test_its_file_makes_the_module_that_it_describes(compose_run: Compose) -> None:
    config = compose_run("warm_up=simclr")
    node = config.warm_up
    assert node is not None
    module = make_warm_up(node, make_network(config))
    assert isinstance(module, SimCLR)
    assert (module.steps, module.batch_size, module.temperature) == (800, 128, 0.5)
    widths = [(layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)]
    assert widths[1:] == [(64, node["hidden_width"]), (node["hidden_width"], node["projection_width"])]
    assert module.configure_optimizers().defaults["lr"] == node["optimizer"]["lr"]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["warm_up.steps=0"], "warm_up.steps=0: must be at least 1 and at most 1000000000"),
        (["warm_up.batch_size=1"], "warm_up.batch_size=1: must be at least 2 and at most 1000000000"),
        (["warm_up.batch_size=1.5"], "warm_up.batch_size=1.5: must be an integer, at least 2 and at most 1000000000"),
        (["warm_up.temperature=0"], "warm_up.temperature=0: must be above 0"),
        (["warm_up.projection_width=0"], "warm_up.projection_width=0: must be at least 1 and at most 1000000000"),
        (["warm_up.weight_decay=-1"], "warm_up.weight_decay=-1: must be at least 0"),
        (["warm_up.optimizer.lr=0"], "warm_up.optimizer.lr=0: must be above 0"),
        (
            ["warm_up.batch_size=7", "trainer.devices=2"],
            "warm_up.batch_size=7: must be a multiple of 2, since it is divided among trainer.devices=2; for example 8",
        ),
    ],
)
def test_an_impossible_value_is_one_line(compose_run: Compose, overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose_run("warm_up=simclr", *overrides)
    assert caught.value.lines == (line,)


def test_a_key_of_a_warm_up_that_there_is_not_says_how_to_have_one(compose_run: Compose) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose_run("warm_up=none", "warm_up.steps=100")
    line = "warm_up.steps=100: there is no warm_up whose steps it could be; choose one of auto, simclr, warm_up=OPTION"
    assert caught.value.lines == (line,)


def flat(num_classes: int, channels: int) -> nn.Module:
    """A classifier of pixels without a feature of its own."""
    return nn.Sequential(nn.Flatten(), nn.Linear(256 * channels, num_classes))


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (
            ["+warm_up.tempreature=1"],
            "warm_up.tempreature=1: SimCLR takes no argument 'tempreature' (did you mean 'temperature'?)",
        ),
        (["+warm_up.optimizer.leanring=1"], "warm_up.optimizer.leanring=1: Adam takes no argument 'leanring'"),
        (["warm_up.optimizer._target_=torch.optim.Adma"], "warm_up.optimizer._target_=torch.optim.Adma: cannot be"),
        (["warm_up.optimizer._target_=torch.nn.Linear"], "warm_up: Linear.__init__() missing 1 required"),
        (
            [f"network._target_={__name__}.flat", "~network.width"],
            "warm_up: the features of AdaptedNetwork have no parameter that can be trained before the first label",
        ),
    ],
)
def test_what_a_class_refuses_is_told_before_anything_is_written(
    compose_run: Compose, overrides: list[str], start: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        prepare.check(compose_run("warm_up=simclr", *overrides))
    assert caught.value.lines[0].startswith(start)


def test_a_class_that_is_no_warm_up_is_named(compose_run: Compose) -> None:
    node = {"_target_": "assl_lightning.learning.Supervised", "optimizer": {"_target_": "torch.optim.Adam"}}
    node["optimizer"] |= {"_partial_": True}  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match=r"warm_up\._target_=.*Supervised: must make an object of .*\.SimCLR"):
        make_warm_up(node, make_network(compose_run()))


# ---- runs that go on


@pytest.mark.e2e
def test_a_run_of_the_time_before_these_keys_goes_on_and_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COLD) == 0
    file = Path("run/config.yaml")
    config: Any = OmegaConf.load(file)
    for key in ("warm_up", "initial_features"):
        del config[key]
    OmegaConf.save(config, file)
    assert not {"warm_up", "initial_features"} & set(OmegaConf.load(file))
    assert main([*SHORT, *WARM]) == 1
    assert "another configuration (warm_up was None, now {'_target_'" in capsys.readouterr().err
    assert main([*COLD, "initial_features=pixels"]) == 1
    assert "initial_features was 'network', now 'pixels'" in capsys.readouterr().err
    assert main([*COLD, "rounds=1"]) == 0
    assert len(read_records(Path("run"))) == 2
    assert load_classifier("run").network.num_classes == 10


@pytest.mark.e2e
def test_another_setting_of_a_warm_up_is_another_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, *WARM]) == 0
    weights = Path("run/warm_up.ckpt").read_bytes()
    assert main([*SHORT, *WARM, "warm_up.steps=3"]) == 1
    assert "another configuration (warm_up.steps was 2, now 3)" in capsys.readouterr().err
    assert main(COLD) == 1
    assert "another configuration (warm_up was {'_target_'" in capsys.readouterr().err
    assert main([*SHORT, *WARM, "rounds=1"]) == 0
    assert Path("run/warm_up.ckpt").read_bytes() == weights
    assert torch.load("run/warm_up.ckpt", weights_only=True)["state_dict"].keys() >= {"trunk.0.0.weight"}


@pytest.mark.e2e
def test_a_run_is_warmed_up_before_its_first_round(capsys: pytest.CaptureFixture[str]) -> None:
    callback = "trainer.callbacks=[{_target_: assl_lightning.learning.PoolSnapshots, every_n_steps: 1}]"
    assert main([*SHORT, *WARM, f"+{callback}"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("warm-up", "round 0"))]
    assert [line.partition(":")[0] for line in lines] == ["warm-up", "round 0/0"]
    assert lines[0].startswith("warm-up: 2 steps, ")
    assert len(list(Path("run").rglob("step_*.npz"))) == 2, "of the round alone"
