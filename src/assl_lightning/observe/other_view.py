"""`observe.second_view`: a pass of another view beside a training that has one view of each sample."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from assl_lightning.base.arguments import whole_number
from assl_lightning.method.beside_training import side_pass, step_key
from assl_lightning.method.contracts import TrainingStep
from assl_lightning.method.view_scores import Views
from assl_lightning.observe.hooked_views import HookedViews, Rows, check_rows, which_rows
from assl_lightning.observe.module_calls import ModuleCalls, picked


def mirror(images: Tensor) -> Tensor:
    """Mirror images, or predictions of their places, (B, …, W) → (B, …, W): left becomes right."""
    return images.flip(-1)


class second_view(HookedViews):  # noqa: N801
    """Pass each batch, and another view of it, through a part of the module again, and compare both predictions.

    For supervised trainers, whose step sees one view of each sample (lightning-hydra-template, torchgeo's
    ClassificationTask and SemanticSegmentationTask, torchvision's reference scripts): without a second view there is an
    uncertainty, and no inconsistency. It costs two forward passes in a step that is observed.

    Both passes are made after the step, in evaluation mode, without gradients, and with generators of their own, under
    the trainer's precision. Weights, buffers, modes, attributes and generators are then as they would have been: the
    training is the same to the last bit. See `side_pass` for what a network may not change in place.

    Args:
        name: dotted name of the part, as in `named_modules()`; its first argument is the batch (B, …), by position or
            by keyword. Its other arguments are those of the training's call in both passes.
        view: makes the other view of a batch, (B, …) → (B, …); it may draw from torch's, NumPy's or Python's generator.
            None: images mirrored left to right.
        undo: brings predictions of the other view back to the places of the first, for dense tasks, such as `mirror`
            for mirrored images; None: they have no places.
        call: number of the part's call in `training_step` whose input is taken, from 0 on.
        every: make the passes in each `every`-th step, and skip the others.
        rows: which rows of the call belong to the scored samples: "all", or the "first" or "last".
        output: key, position or attribute of the logits, where the part returns several things.
        features: see `HookedViews`; of the training's own pass.
        head: see `HookedViews`.
        stream: see `HookedViews`.
        from_probabilities: see `HookedViews`.

    >>> second_view("net", every=2).every
    2
    """

    def __init__(
        self,
        name: str,
        view: Callable[[Tensor], Tensor] | None = None,
        *,
        undo: Callable[[Tensor], Tensor] | None = None,
        call: int = 0,
        every: int = 1,
        rows: Rows = "all",
        output: str | int | None = None,
        features: str | None = None,
        head: str | None = None,
        stream: str | None = None,
        from_probabilities: bool = False,
    ) -> None:
        super().__init__(
            features=features, head=head, stream=stream, labelled_stream=None, from_probabilities=from_probabilities
        )
        for what, function in (("view", view), ("undo", undo)):
            if function is not None and not callable(function):
                raise TypeError(f"{what} must be a function of a batch, (B, …) → (B, …), or left out; got {function!r}")
        self.view = view or mirror
        self.undo = undo
        self.number = whole_number("call", call)
        self.every = whole_number("every", every, least=1)
        self.rows = check_rows(rows)
        self._network = self.watch(ModuleCalls(name, output, keep_inputs=True))

    def find(self, step: TrainingStep) -> Views | None:
        """Return the predictions of both passes, or None in a step that is skipped."""
        self.end_step()
        if step.number % self.every or self.is_left_out(step):
            return None
        index = self.index(step)
        what = f"call {self.number} of {self._network.name!r}"
        call = self._network.call(self.number)
        images = call.first(self._network.name)
        rows = which_rows(images, len(index), self.rows, what)
        images = images[rows]
        features = self.scored_features(self.number, len(index), self.rows)
        network = self._network.module
        assert network is not None, "the hooks were set at the start of the fit"

        def predictions(view: Tensor) -> Tensor:
            return picked(call.again(network, view, rows), self._network.output, self._network.name)

        with side_pass(network, step_key(step)), precision_of(step.module):
            other = self._other(images)
            weak, strong = predictions(images), predictions(other)
            strong = strong if self.undo is None else self.undo(strong)
        return Views(index, weak, strong, features)

    def _other(self, images: Tensor) -> Tensor:
        other = self.view(images)
        if not isinstance(other, Tensor) or len(other) != len(images):
            found = f"shape {tuple(other.shape)}" if isinstance(other, Tensor) else type(other).__name__
            raise ValueError(
                f"view must return another view of each of the {len(images)} samples, as a tensor with as many rows; "
                f"it returned {found}"
            )
        return other


def precision_of(module: nn.Module) -> AbstractContextManager[Any]:
    """Return the context in which the module's trainer, if it has one, makes forward passes."""
    trainer = getattr(module, "_trainer", None)
    return nullcontext() if trainer is None else trainer.precision_plugin.forward_context()
