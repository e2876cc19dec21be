"""Check before a run that a network and a learning algorithm of the user's own have what the loop needs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from assl_lightning.base.words import first_line, listed
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.networks.adapt import with_features
from assl_lightning.networks.base import FeatureNetwork

PRODUCTS = frozenset({"statistics"})
LOGGED = frozenset({"test_accuracy_raw", "test_balanced_accuracy_raw"})
_OF_TESTS = ("forward", "new_counts", "validation_step", "on_validation_epoch_start", "on_validation_epoch_end")
_GUIDE = "docs/your_loop.md shows a whole one"


def as_feature_network(made: object, num_classes: int, image_shape: Sequence[int]) -> FeatureNetwork:
    """Return what `make_network` made as a `FeatureNetwork`; any classifier is adapted (`with_features`).

    Args:
        made: an `nn.Module` that gives logits (B, C).
        num_classes: C.
        image_shape: (channels, height, width).

    Raises:
        TypeError: it is no `nn.Module`.
        ValueError: it cannot be adapted.
    """
    if not isinstance(made, nn.Module):
        raise TypeError(f"make_network must return an nn.Module that gives logits; got {_kind(made)}")
    return with_features(made, num_classes, image_shape)


def require_algorithm(made: object) -> Algorithm:
    """Return what `make_algorithm` made.

    Raises:
        TypeError: it is no `Algorithm`.
    """
    if not isinstance(made, Algorithm):
        foreign = ", a LightningModule of another kind" if isinstance(made, LightningModule) else ""
        raise TypeError(
            f"make_algorithm must return a subclass of assl_lightning.learning.Algorithm, which brings the test and "
            f"the log; got {_kind(made)}{foreign}: derive it from Algorithm, give it `produces` and a training_step "
            f"that takes a Batch; {_GUIDE}"
        )
    return made


def check_algorithm(made: object, image_shape: Sequence[int]) -> None:
    """Raise unless the loop can train and test `made`, which is used up: its test is rehearsed on blank images.

    Raises:
        TypeError: it is no `Algorithm`, or its network is of another kind.
        ValueError: it lacks a part, or its test would not give what the records need.
    """
    name, made = type(made).__name__, require_algorithm(made)
    produces = getattr(made, "produces", None)
    if not isinstance(produces, (set, frozenset)) or not produces <= PRODUCTS:
        raise ValueError(
            f"{name}.produces must be frozenset(), or frozenset({{'statistics'}}) where its training_step returns "
            f"index, logits_weak and logits_strong; got {produces!r}; {_GUIDE}"
        )
    if type(made).training_step is LightningModule.training_step:
        raise ValueError(f"{name} must have a training_step(batch, batch_idx) that returns the loss; {_GUIDE}")
    if not isinstance(made.network, FeatureNetwork):
        raise TypeError(
            f"{name}.network must be the network that make_algorithm was given; got {_kind(made.network)}; {_GUIDE}"
        )
    if made.configure_optimizers() is None:
        raise ValueError(f"{name}.configure_optimizers must return an optimizer; it returns None; {_GUIDE}")
    if any(getattr(type(made), hook) is not getattr(Algorithm, hook) for hook in _OF_TESTS):
        _rehearse(made, torch.zeros(2, *image_shape))


@torch.no_grad()
def _rehearse(algorithm: Algorithm, images: Tensor) -> None:
    """Call the hooks of a test without a Trainer; those that need one cannot be rehearsed."""
    name, shape = type(algorithm).__name__, (len(images), algorithm.network.num_classes)
    algorithm.eval()
    logged: set[str] = set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logits = algorithm(images)
            _test(algorithm, images, logged)
    except Exception as error:
        if isinstance(error, RuntimeError) and "not attached to a `Trainer`" in str(error):
            return
        raise ValueError(
            f"{name} cannot be tested: its validation_step gets a dictionary with image (B, channels, height, width) "
            f"and label (B,); it raises {type(error).__name__}: {first_line(error)}; {_GUIDE}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != shape:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else _kind(logits)
        raise ValueError(f"{name}.forward must give logits of shape {shape} for {len(images)} images; got {found}")
    missing = sorted(LOGGED - logged)
    if missing:
        raise ValueError(
            f"{name}.on_validation_epoch_end must log {listed(missing)}, which the records of the run hold; call "
            f"super().on_validation_epoch_end() and super().validation_step(batch, batch_idx) in yours"
        )


def _test(algorithm: Algorithm, images: Tensor, logged: set[str]) -> None:
    """Test with `log` and `log_dict` replaced: they add the names to `logged`."""

    def log(name: str, *_: Any, **__: Any) -> None:
        logged.add(name)

    def log_dict(values: Mapping[str, object], *_: Any, **__: Any) -> None:
        logged.update(values)

    vars(algorithm).update(log=log, log_dict=log_dict)
    try:
        algorithm.on_validation_epoch_start()
        label, position = torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images))
        algorithm.validation_step({"image": images, "label": label, "position": position}, 0)
        algorithm.on_validation_epoch_end()
    finally:
        del vars(algorithm)["log"], vars(algorithm)["log_dict"]


def _kind(made: object) -> str:
    return "None" if made is None else type(made).__name__
