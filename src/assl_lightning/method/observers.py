"""Observers of a training step, which the callback asks: the makers, and functions of the user's own."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from assl_lightning.method.beside_training import side_pass, step_key
from assl_lightning.method.contracts import Observation, TrainingStep
from assl_lightning.method.regions import RegionGrid
from assl_lightning.method.view_scores import Views, as_logits, check_kind, observe_views

KEYS = ("index", "logits_weak", "logits_strong")
"""Keys of what `training_step` returns, which are observed if nothing else is said."""


class Observer(ABC):
    """Something that gives the observation of a training step.

    `start` is called before the first batch of a fit, `begin_step` before each batch, `observe` after it, and `stop`
    after the last batch, also when the fit ends with an error.
    """

    gives_features = False
    """Its observations have features, so that the callback keeps them unless it is told otherwise."""

    grid: RegionGrid | None = None
    """The regions of each image that it scores one by one; None: it scores whole samples."""

    def start(self, module: nn.Module) -> None:  # noqa: B027
        """Prepare for a fit of `module`, such as by hooks on its parts."""

    def begin_step(self) -> None:  # noqa: B027
        """Prepare for a batch."""

    @abstractmethod
    def observe(self, step: TrainingStep) -> Observation | None:
        """Return the observation of a step, or None to skip it; without waiting for the device, but at the first."""

    def stop(self) -> None:  # noqa: B027
        """Undo what `start` did."""

    def __call__(self, outputs: Any, batch: Any, module: nn.Module) -> Observation | None:
        """Observe a step as a function of the user's own does."""
        return self.observe(TrainingStep(outputs, batch, module))


class ViewObserver(Observer):
    """An observer that finds predictions (B, C) of one or two views, and scores them by Eq. 1 and 4.

    Args:
        from_probabilities: the predictions are probabilities, (B, C) in [0, 1] with the sum 1, instead of logits.
    """

    def __init__(self, *, from_probabilities: bool = False) -> None:
        self.from_probabilities = from_probabilities
        self._num_classes: int | None = None

    @abstractmethod
    def find(self, step: TrainingStep) -> Views | None:
        """Find the predictions of a step, detached."""

    def start(self, module: nn.Module) -> None:
        """Forget the number of classes of an earlier fit."""
        self._num_classes = None

    def logits(self, step: TrainingStep, *, dim: int = 1, dense: bool = False) -> Views | None:
        """Return the views of a step with logits, checked: (B, C), or with the classes along `dim` if `dense`."""
        views = self.find(step)
        if views is None:
            return None
        for name, values in (("logits_weak", views.weak), ("logits_strong", views.strong)):
            if values is not None:
                self._check(name, values, step.is_first, dim, dense)
                if len(values) != len(views.index):
                    raise ValueError(
                        f"'{name}' has {len(values)} rows, but the batch has {len(views.index)} samples to score; got "
                        f"shape {tuple(values.shape)}, which must begin with the samples"
                    )
        if not self.from_probabilities:
            return views
        return views.with_predictions(as_logits(views.weak), None if views.strong is None else as_logits(views.strong))

    def observe(self, step: TrainingStep) -> Observation | None:
        """Return Eq. 1 and 4 of the step's predictions."""
        views = self.logits(step)
        return None if views is None else observe_views(views)

    def _check(self, name: str, values: Tensor, is_first: bool, dim: int, dense: bool) -> None:
        if not dense and values.ndim != 2:
            raise ValueError(
                f"'{name}' must have shape (B, C), a row of classes for each sample; got {tuple(values.shape)}. In a "
                f"dense task, (B, C, H, W), wrap the maker: observe.dense(observe.…, dim=1); a network with one logit "
                f"a sample: observe.binary(observe.…)"
            )
        if dense and (values.ndim < 3 or not -values.ndim <= dim < values.ndim or dim % values.ndim == 0):
            raise ValueError(
                f"'{name}' must have a row of classes for each place of a sample, such as (B, C, H, W); got shape "
                f"{tuple(values.shape)} with the classes on dim={dim}. With one row for each sample leave "
                f"observe.dense out"
            )
        count = values.shape[dim]
        if count < 2:
            raise ValueError(
                f"'{name}' must have a logit for each of at least 2 classes; got shape {tuple(values.shape)}: a "
                f"network with one logit is read by observe.binary(observe.…)"
            )
        if is_first:
            check_kind(name, values, from_probabilities=self.from_probabilities, dim=dim)
            self._num_classes = count
        elif self._num_classes not in (None, count):
            raise ValueError(
                f"'{name}' had {self._num_classes} classes in the first batch and has {count} now, in shape "
                f"{tuple(values.shape)}: axis {dim} cannot be the classes; bring the classes to axis 1"
            )


class StepOutput(ViewObserver):
    """Read what `training_step` returns: `index`, `logits_weak` and `logits_strong` beside `loss`. The default.

    For a module of your own, or one that you can change: a FixMatch port, UDA, any weak/strong training. `index` can
    be left out where the data set is an `IndexedDataset`, `logits_strong` where there is one view only. Optional keys
    are `features_weak` (B, d), `labelled_index` (L,) and `features_labelled` (L, d).

    Args:
        stream: the loader whose samples are scored, where there are several with an `IndexedDataset`.
        from_probabilities: the "logits" are probabilities.
    """

    def __init__(self, stream: str | None = None, *, from_probabilities: bool = False) -> None:
        super().__init__(from_probabilities=from_probabilities)
        self.stream = stream

    def find(self, step: TrainingStep) -> Views | None:
        """Return the views that a step returned; None where it returned None."""
        outputs = step.outputs
        if outputs is None or (isinstance(outputs, Mapping) and not outputs):
            return None
        present = dict(outputs) if isinstance(outputs, Mapping) else {}
        if "index" not in present and step.indices:
            present["index"] = step.index_of(self.stream)
        missing = [key for key in KEYS if key not in present]
        if missing and not (missing == ["logits_strong"] and step.indices):
            raise _missing(outputs, missing)
        for name in ("logits_weak", "logits_strong"):
            if name in present and not isinstance(present[name], Tensor):
                raise TypeError(f"'{name}' must be a tensor of shape (B, C); got {type(present[name]).__name__}")
        strong = present.get("logits_strong")
        return Views(
            present["index"],
            present["logits_weak"].detach(),
            None if strong is None else strong.detach(),
            present.get("features_weak"),
            present.get("labelled_index"),
            present.get("features_labelled"),
        )


class OwnFunction(Observer):
    """Call a function of the user's own, `observe(outputs, batch, module)`, as a pass beside the training.

    It runs in evaluation mode, without gradients, and with generators of its own, which are put back. A function with
    a parameter `index` is given the index (B,) of the batch.
    """

    def __init__(self, function: Callable[..., Observation | None]) -> None:
        self.function = function
        self._wants_index = _has_index(function)
        _check_arguments(function, ("outputs", "batch", "module"), {"index": None} if self._wants_index else {})

    def observe(self, step: TrainingStep) -> Observation | None:
        """Return what the function returns."""
        more = {"index": step.index_of(None)} if self._wants_index else {}
        with side_pass(step.module, step_key(step)):
            observation = self.function(step.outputs, step.batch, step.module, **more)
        if observation is not None and not isinstance(observation, Observation):
            raise TypeError(
                f"observe must return an assl_lightning.Observation(index, uncertainty, inconsistency), or None to "
                f"skip the batch; {_name_of(self.function)} returned {type(observation).__name__}"
            )
        return observation


def as_observer(observe: Observer | Callable[..., Any] | str | None) -> Observer:
    """Return the observer that the argument `observe` of the callback means.

    Raises:
        TypeError: it is none, and not a function either.
        ValueError: a text that is no import path of one.
    """
    if observe is None:
        return StepOutput()
    if isinstance(observe, Observer):
        return observe
    if isinstance(observe, str):
        return as_observer(_imported(observe))
    if isinstance(observe, type) and issubclass(observe, Observer):
        try:
            return observe()
        except TypeError as error:
            raise TypeError(
                f"observe={observe.__name__} needs arguments: call it, as in observe.forward('model', weak=0) ({error})"
            ) from error
    if not isinstance(observe, type) and callable(observe):
        return OwnFunction(observe)
    raise TypeError(
        f"observe must be a maker of assl_lightning.observe, a function observe(outputs, batch, module), or the import "
        f"path of one; got {observe!r}"
    )


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"observe={path!r} must be a function, or its import path, such as my_package.my_module.observe; it cannot "
            f"be imported ({error})"
        ) from error


def _has_index(function: Callable[..., Any]) -> bool:
    try:
        return "index" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _check_arguments(function: Callable[..., Any], given: tuple[str, ...], more: dict[str, None]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of C
        return
    try:
        signature.bind(*given, **more)
    except TypeError as error:
        raise TypeError(
            f"observe must be a function observe(outputs, batch, module), which may have a parameter `index` too; "
            f"{_name_of(function)}{signature} cannot be called so ({error})"
        ) from error


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _missing(outputs: Any, missing: list[str]) -> KeyError:
    present = ", ".join(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs).__name__
    return KeyError(
        f"ASSLScoreCallback expects training_step to return {', '.join(KEYS)} beside 'loss'; missing: "
        f"{', '.join(missing)}; returned: {present}. Return them detached; or wrap the data set in IndexedDataset and "
        f"say where the predictions are made: observe=assl_lightning.observe.forward('model', weak=0, strong=1)"
    )
