from __future__ import annotations

import pytest

from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import ConfigurationError

NODE = {
    "_target_": "package.load",
    "root": "photos/of/mine",
    "name": "resnet",
    "cache": None,
    "test_fraction": 2,
    "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "weight_decay": -1},
}
WITH = "(with … name=resnet, cache=null, test_fraction=2, optimizer.lr=0.1, optimizer.weight_decay=-1)"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("name must be a network"), "data.source.name=resnet: name must be a network"),
        (ValueError("Root is no path"), "data.source.root=photos/of/mine: Root is no path"),
        (OSError("there is no photos/of/mine"), "data.source.root=photos/of/mine: there is no photos/of/mine"),
        (TypeError("got `name='x'` of a root"), "data.source.name=resnet: got `name='x'` of a root"),
        (TypeError("invalid: `name=3`, a root"), "data.source.name=resnet: invalid: `name=3`, a root"),
        (TypeError("the `root` of a name is odd"), "data.source.root=photos/of/mine: the `root` of a name is odd"),
        (
            ValueError("Invalid weight_decay value: -1"),
            "data.source.optimizer.weight_decay=-1: Invalid weight_decay value: -1",
        ),
        (RuntimeError("out\n  of memory"), f"data.source: out of memory {WITH}"),
        (
            ValueError("no name, and resnets are no resnet_18"),
            f"data.source: no name, and resnets are no resnet_18 {WITH}",
        ),
        (ImportError(), f"data.source: ImportError {WITH}"),
        (
            ValueError("optimizer must learn more than 0.1"),
            "data.source.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.1, wei...: optimizer must "
            "learn more than 0.1",
        ),
    ],
)
def test_a_refusal_begins_with_the_key_and_value_that_it_is_about(error: Exception, line: str) -> None:
    with pytest.raises(ConfigurationError) as caught, error_at("data.source", NODE):
        raise error

    assert caught.value.lines == (line,)


def test_a_node_of_one_value_is_the_keys_own() -> None:
    with pytest.raises(ConfigurationError) as caught, error_at("run_dir", {"run_dir": "runs/x"}):
        raise ValueError("it holds another run")

    assert caught.value.lines == ("run_dir=runs/x: it holds another run",)


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(ConfigurationError) as caught, error_at("data", {"mean": [0.123456789] * 20}):
        raise ValueError("mean must be shorter")

    assert caught.value.lines[0].startswith("data.mean=[0.123456789, 0.123456789, ")
    assert caught.value.lines[0].endswith("...: mean must be shorter")
    assert len(caught.value.lines[0]) < 100
    with pytest.raises(ConfigurationError) as caught, error_at("data", {str(number): "x" * 20 for number in range(9)}):
        raise ValueError("out of memory")
    assert caught.value.lines[0].startswith("data: out of memory (with … 5=xxx")
    assert len(caught.value.lines[0]) < 130
