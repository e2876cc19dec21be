"""Make the objects that the nodes of a configuration name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pkgutil import resolve_name
from typing import Any, TypeVar

import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import nn

from assl_lightning.base.words import nearest, one_line
from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.trainer_keys import TRAINER_KEYS
from assl_lightning.config.values import Node, show
from assl_lightning.learning.accelerators import AUTO, auto_accelerator, auto_precision, has_gpu
from assl_lightning.learning.accepting import require_algorithm
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.simclr import SimCLR
from assl_lightning.learning.step_graph import StepGraph
from assl_lightning.loop.round_log import MakeLogger, end_wandb_run
from assl_lightning.method.candidates import Acquisition
from assl_lightning.networks.adapt import with_features
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.stopping.rules import StopRule

Kind = TypeVar("Kind")


def nodes(config: Config) -> Iterator[tuple[str, Node]]:
    """Yield the key and the node of every part that names a class."""
    yield "data.source", config.data.source
    yield "data.weak", config.data.weak
    yield "data.strong", config.data.strong
    yield "network", config.network
    yield "algorithm.module", config.algorithm.module
    yield "acquisition.strategy", config.acquisition.strategy
    if config.warm_up is not None:
        yield "warm_up", config.warm_up
    if config.stop is not None:
        yield "stop", config.stop
    yield "trainer", {key: value for key, value in config.trainer.items() if key not in TRAINER_KEYS}
    yield "oracle", config.oracle


def _hint(key: str, value: object) -> str:
    """Say which data group takes a data set of the user's own, where one was given to another group."""
    is_own = key in ("data.source.pool", "data.source.test") and isinstance(value, Mapping) and "_target_" in value
    return ". For a data set of your own say data=dataset too" if is_own else ""


def check_arguments(key: str, node: Mapping[str, Any]) -> list[str]:
    """Return a line for each class under `key` that cannot be imported, and for each argument that it does not take."""
    errors = []
    if "_target_" in node:
        name = node["_target_"]
        try:
            taken = inspect.signature(resolve_name(name)).parameters
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            return [
                f"{show(f'{key}._target_', name)}: cannot be imported ({one_line(error)}); name package.module.Class"
            ]
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in taken.values()):
            errors += [
                f"{show(f'{key}.{argument}', value)}: {name.rpartition('.')[2]} takes no argument {argument!r}"
                f"{nearest(argument, taken)}; it takes {', '.join(taken)}{_hint(f'{key}.{argument}', value)}"
                for argument, value in node.items()
                if argument not in taken and not argument.startswith("_")
            ]
    for argument, value in node.items():
        if isinstance(value, Mapping):
            errors += check_arguments(f"{key}.{argument}", value)
    return errors


def instantiate_node(key: str, node: Node) -> Any:
    """Make the object of a node; an error of its class becomes a `ConfigurationError` that names the `key`."""
    with error_at(key, node):
        return instantiate(node, _convert_="all")


def instantiate_as(kind: type[Kind], key: str, node: Node) -> Kind:
    """Instantiate a node; raise unless the object is of the `kind`."""
    made = instantiate_node(key, node)
    check_kind(made, kind, key, node)
    return made  # type: ignore[no-any-return]


def check_kind(made: object, kind: type, key: str, node: Node) -> None:
    """Raise unless the object of a node is of the `kind`."""
    if not isinstance(made, kind):
        raise ConfigurationError(
            f"{show(f'{key}._target_', node['_target_'])}: must make an object of "
            f"{kind.__module__}.{kind.__qualname__}, but made one of {type(made).__name__}; name another class"
        )


def make_network(config: Config) -> FeatureNetwork:
    """Make the network, with an output for each class of the data."""
    network = instantiate_as(nn.Module, "network", config.network)
    with error_at("network", config.network):
        made = with_features(network, config.data.num_classes, (config.data.channels, *config.data.image_size))
    memory_format = config.trainer.get("memory_format", "auto")
    with error_at("trainer", {"memory_format": memory_format}):
        made.lay_out(memory_format)
    return made


def make_algorithm(config: Config, network: FeatureNetwork) -> Algorithm:
    """Make the learning algorithm around a network."""
    make_module = instantiate_node("algorithm.module", config.algorithm.module | {"_partial_": True})
    with error_at("algorithm.module", config.algorithm.module):
        algorithm = require_algorithm(make_module(network))
        algorithm.configure_optimizers()  # which checks the optimizer's arguments
        return algorithm


def make_warm_up(node: Node, network: FeatureNetwork) -> SimCLR:
    """Make the training before the first label around a network, from the `node` of warm_up."""
    make_module = instantiate_node("warm_up", node | {"_partial_": True})
    with error_at("warm_up", node):
        module: SimCLR = make_module(network)
    check_kind(module, SimCLR, "warm_up", node)
    with error_at("warm_up", node):
        module.configure_optimizers()
    return module


def make_strategy(config: Config) -> Acquisition:
    """Make the strategy."""
    strategy: Acquisition = instantiate_node("acquisition.strategy", config.acquisition.strategy)
    check_kind(strategy, Acquisition, "acquisition.strategy", config.acquisition.strategy)
    return strategy


def make_stop(config: Config) -> StopRule | None:
    """Make the rule that may end the run early; None if there is none."""
    if config.stop is None:
        return None
    rule: StopRule = instantiate_node("stop", config.stop)
    check_kind(rule, StopRule, "stop", config.stop)
    return rule


def trainer_factory(config: Config) -> Callable[..., Trainer]:
    """Return a maker of Trainers, whose calls take a Trainer's arguments and add those of the configuration."""
    own = {"logger", *TRAINER_KEYS}
    arguments = {key: value for key, value in config.trainer.items() if key not in own and not key.startswith("_")}
    logger = config.trainer.get("logger")
    make: Callable[..., Trainer] = instantiate_node(
        "trainer", {"_target_": config.trainer["_target_"], "_partial_": True}
    )

    def make_trainer(**keywords: Any) -> Trainer:
        configured: dict[str, Any] = instantiate_node("trainer", arguments)  # anew each time: callbacks have states
        _check_callbacks(configured.get("callbacks"))
        for name in ("callbacks", "plugins"):
            configured[name] = [*keywords.get(name, []), *(configured.get(name) or [])]
        if config.trainer.get("cuda_graph"):
            configured["callbacks"].append(StepGraph())
        torch.set_float32_matmul_precision(config.trainer.get("matmul_precision", "highest"))
        if configured.get("precision") == AUTO:
            configured["precision"] = auto_precision(configured.get("accelerator", AUTO))
        if configured.get("accelerator") == AUTO:
            configured["accelerator"] = auto_accelerator()
        if configured.get("accelerator") == "gpu" and not has_gpu():
            raise ConfigurationError(
                "trainer.accelerator=gpu: must be auto or cpu here, since PyTorch finds no GPU on this machine"
            )
        configured["logger"] = False
        if logger:
            make_logger = instantiate_node("trainer.logger", logger | {"_partial_": True})
            with error_at("trainer.logger", logger):
                configured["logger"] = made = make_logger(save_dir=keywords["default_root_dir"])
            if isinstance(made, WandbLogger):
                configured["callbacks"] = [*configured["callbacks"], _EndOfLogging()]
        with error_at("trainer", arguments):
            return make(**{**keywords, **configured})

    return make_trainer


def round_logger_factory(config: Config) -> MakeLogger | None:
    """Return a maker of loggers of accuracy against labels, for TensorBoard and Weights & Biases; None for others.

    Other loggers would begin an experiment for each round, or add nothing to rounds.jsonl, such as CSV.
    """
    node = config.trainer.get("logger")
    if not node:
        return None
    kind = resolve_name(node["_target_"])
    if not isinstance(kind, type) or not issubclass(kind, (TensorBoardLogger, WandbLogger)):
        return None

    def make_logger(*, save_dir: str, id: str | None) -> Logger:
        make: Callable[..., Logger] = instantiate_node("trainer.logger", node | {"_partial_": True})
        arguments: dict[str, Any] = {"save_dir": save_dir}
        if issubclass(kind, WandbLogger):
            name = f"{config.name}/seed_{config.settings.seed}: accuracy against labels"
            arguments |= {"id": id, "name": name}
        with error_at("trainer.logger", node):
            return make(**arguments)

    return make_logger


class _EndOfLogging(Callback):
    """End a training's run of Weights & Biases with the training, so that each has one of its own."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the run of Weights & Biases after a fit."""
        if stage == "fit":
            for logger in trainer.loggers:
                end_wandb_run(logger)


def _check_callbacks(callbacks: object) -> None:
    """Raise unless these are callbacks, which Lightning itself would notice only in a fit."""
    if callbacks is None or (isinstance(callbacks, list) and all(isinstance(item, Callback) for item in callbacks)):
        return
    raise ConfigurationError(
        f"{show('trainer.callbacks', callbacks)}: must be a list of callbacks of Lightning, each with its class in "
        f"_target_"
    )
