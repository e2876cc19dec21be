"""Build parts of a run once and discard them, to find out before the run if they work on this machine."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from assl_lightning.base.processes import check_that_results_return
from assl_lightning.base.words import one_line
from assl_lightning.config.instantiate import check_kind, make_algorithm, make_network, make_warm_up, trainer_factory
from assl_lightning.config.refusals import error_at
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.values import show
from assl_lightning.learning.accepting import check_algorithm
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.loop.fitting import check_precision
from assl_lightning.networks.settings import layout_advice


@dataclass(frozen=True)
class StepSizes:
    """The numbers on which the images of a training step depend.

    Attributes:
        devices: number that share a step; 1 where batch norm is synchronised among them.
        labelled: images with a label in the first training; None: not known yet.
        unlabelled: images without one in the last training; None: not known yet.
    """

    devices: int
    labelled: int | None
    unlabelled: int | None


def try_trainer(config: Config) -> Trainer:
    """Make a Trainer; raise if this machine or its packages lack the devices, precision, strategy or logger."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = trainer_factory(config)(default_root_dir=directory, max_epochs=1)
    check_kind(made, Trainer, "trainer", config.trainer)
    with error_at("trainer", {"strategy": config.trainer.get("strategy")}):
        check_that_results_return(made)
    try:
        check_precision(made)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    return made


def try_network(config: Config) -> Algorithm:
    """Pass two blank images through a new network and algorithm; raise unless they give two rows of logits."""
    data = config.data
    with error_at("data", {"channels": data.channels, "image_size": data.image_size}):
        images = torch.zeros(2, data.channels, *data.image_size)
    with torch.random.fork_rng(devices=[]):
        network = make_network(config)
        algorithm = make_algorithm(config, network)
        with error_at("network", config.network), _layout_named(config), torch.no_grad():
            logits = network.eval()(images)
        if logits.shape != (2, data.num_classes):
            raise ConfigurationError(
                f"network: for images of shape {tuple(images.shape)} the logits must have shape "
                f"(2, {data.num_classes}); {type(network).__name__} gives {tuple(logits.shape)}"
            )
        with error_at("network", config.network), _layout_named(config):
            try_training(network, images, data.num_classes)
        if config.warm_up is not None:
            make_warm_up(config.warm_up, network)
        with error_at("algorithm.module", config.algorithm.module):
            check_algorithm(make_algorithm(config, network), images.shape[1:])
    return algorithm


@contextmanager
def _layout_named(config: Config) -> Iterator[None]:
    """Turn the error of a network that cannot have its maps in the layout of the run into one that names the key."""
    try:
        yield
    except RuntimeError as error:
        advice = layout_advice(error, config.trainer)
        if advice is None:
            raise
        key = show("trainer.memory_format", config.trainer["memory_format"])
        name = config.network["_target_"].rpartition(".")[2]
        raise ConfigurationError(f"{key}: {name} raises: {one_line(error)}; {advice}") from error


def check_single_images(config: Config, trainer: Trainer, labelled: int | None, num_unlabelled: int | None) -> None:
    """Raise if a run would begin with steps of one image that its network cannot train on.

    `labelled` and `num_unlabelled` are None if they are not known yet.
    """
    unlabelled = None if num_unlabelled is None else num_unlabelled - config.settings.total_labels
    devices = 1 if config.trainer.get("sync_batchnorm") else trainer.world_size
    image = torch.zeros(1, config.data.channels, *config.data.image_size)

    def make() -> Algorithm:
        return make_algorithm(config, make_network(config))

    with torch.random.fork_rng(devices=[]):
        try_single_images(config, StepSizes(devices, labelled, unlabelled), make, image)


def try_training(network: nn.Module, images: Tensor, num_classes: int) -> None:
    """Pass `images` through the network in training mode, in which some networks return more than logits.

    Raises:
        ValueError: it gives no logits of shape (B, C) while it is trained.
    """
    with torch.no_grad():
        logits = network.train()(images)
    shape = (len(images), num_classes)
    if not isinstance(logits, Tensor) or logits.shape != shape:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(
            f"while it is trained, {type(network).__name__} must give logits of shape {shape}; got {found}"
        )


def try_single_images(config: Config, sizes: StepSizes, make_algorithm: Callable[[], Algorithm], image: Tensor) -> None:
    """Raise if the run will make a step of one image, on which the network cannot be trained.

    Batch norm needs more than one value for each channel; one image has them only if the last map is larger than 1 × 1.

    Args:
        config: the run's.
        sizes: the numbers that decide how many images a step has.
        make_algorithm: makes the run's algorithm with its network; called only where a step can have one image.
        image: (1, channels, height, width).

    Raises:
        ConfigurationError: names the key by which a step comes to have one image.
    """
    if config.algorithm.batch_size // sizes.devices > 1 and sizes.labelled != 1:
        return
    algorithm = make_algorithm()
    reason = _reason_for_one(config, sizes, "statistics" in algorithm.produces and config.algorithm.mu > 0)
    if reason is None:
        return
    try:
        with torch.no_grad():
            algorithm.network.train()(image)
    except ValueError as error:
        raise ConfigurationError(f"{reason}; its batch norm cannot be trained on that ({error})") from error


def _reason_for_one(config: Config, sizes: StepSizes, looks_at_unlabelled: bool) -> str | None:
    """Return the key that leads to a step with one image on a device, why, and what to do; None if none does."""
    algorithm = config.algorithm
    runs_out = not algorithm.include_labelled and sizes.unlabelled is not None and sizes.unlabelled < 1
    if looks_at_unlabelled and not runs_out:
        return None
    when = "the last training, which has no unlabelled image left, " if looks_at_unlabelled else "training "
    network = f"network {config.network['_target_'].rpartition('.')[2]}"
    if algorithm.batch_size // sizes.devices == 1:
        on = f" on each of {sizes.devices} devices" if sizes.devices > 1 else ""
        key = show("algorithm.batch_size", algorithm.batch_size)
        return f"{key}: must be at least {2 * sizes.devices}, since {when}would give {network} one image a step{on}"
    if algorithm.labelled_stream == "passes" and sizes.labelled == 1 and not looks_at_unlabelled:
        key = show("initial_labels", config.settings.initial_labels)
        return f"{key}: must be at least 2, since the first training would give {network} one image a step"
    return None
