"""A CUDA graph of the training step: the host launches a whole step as one, in place of some two hundred kernels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from assl_lightning.learning.algorithm import TrainedNetwork
from assl_lightning.learning.graph_conditions import why_not
from assl_lightning.method.contracts import Replayable

log = logging.getLogger(__name__)

WARM_UP_STEPS = 3
_HOOKS = ("training_step", "backward", "optimizer_zero_grad", "optimizer_step")


class Mode(Enum):
    """Kind of execution of a step."""

    PLAIN = "its kernels are launched one by one"
    WARM_UP = "likewise, on the stream on which steps will be captured"
    CAPTURE = "its kernels are noted down in a graph, which then makes the step"
    REPLAY = "the graph makes the step"


class StepGraph(Callback):
    """Capture a step of each fit in a CUDA graph, and replay it for the steps that follow.

    The graph has all that Lightning does with a batch: forward pass, loss, backward pass, clipping of gradients and the
    optimizer's step; and then the parts of callbacks that are `Replayable`: averaged weights, latest predictions, the
    table of statistics. Before it a step copies its batch to where the graph reads it; so do the steps that prepare the
    capture, in which Triton then compiles what a capture could not. Lightning's loop, its counters,
    logs and checkpoints, and all other callbacks, go on as without a graph, so that a run may be saved and resumed at
    any step. What `training_step` returned is overwritten by the next step.

    The first three steps of a fit run without the graph, and so does a step whose batch has another shape than the
    first. Where no graph can be had, a warning says why, and all steps run without one. Python code in a step, such as
    `random.random()` in a network's forward pass, runs at the capture alone.

    Never run on a GPU: in tests an emulated one replays what was captured, and all that a run leaves is equal to the
    last bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reason: str | None = None  # why this fit has no graph
        self.replayed_steps = 0  # of this fit
        self._own: dict[str, Callable[..., Any]] = {}  # the module's hooks, while this callback stands in for them
        self._forget()

    def _forget(self) -> None:
        self._mode, self._warmed_up = Mode.PLAIN, 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream: torch.cuda.Stream | None = None
        self._inputs: dict[str, Tensor] = {}  # where the graph reads a batch
        self._outputs: dict[str, Any] = {}  # where it writes what `training_step` returns
        self._form: dict[str, Any] = {}
        self._settings: list[dict[str, Any]] = []
        self._parts: list[Replayable] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stand in for the module's hooks, or say why not."""
        self._forget()
        self.replayed_steps, self.reason = 0, why_not(trainer, pl_module)
        if self.reason is not None:
            log.warning("steps are made without a CUDA graph, since %s", self.reason)
            return
        assert isinstance(pl_module, TrainedNetwork)
        self._module, self._trainer = pl_module, trainer
        self._stream = _stream_of(pl_module.device)
        self._own = {name: getattr(pl_module, name) for name in _HOOKS}
        for name in _HOOKS:
            setattr(pl_module, name, getattr(self, f"_{name}"))
        pl_module.is_graphed = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Decide how the step is made, and bring its batch to where the graph reads it."""
        if not self._own:
            return
        self._mode = self._mode_of(batch, trainer.optimizers[0])
        if self._mode is not Mode.PLAIN:
            self._take_in(batch)
        if self._mode is Mode.CAPTURE:
            parts = [one for one in trainer.callbacks if isinstance(one, Replayable)]  # type: ignore[attr-defined]
            self._parts = [one for one in parts if one.can_be_replayed()]
        for part in self._parts:
            part.is_replayed = self._mode in (Mode.CAPTURE, Mode.REPLAY)

    def _take_in(self, batch: Mapping[str, Any]) -> None:
        """Copy the tensors of a batch to where the graph reads them."""
        if self._inputs:
            torch._foreach_copy_(list(self._inputs.values()), [batch[name] for name in self._inputs])
        else:
            self._inputs = {name: value.clone() for name, value in batch.items() if isinstance(value, Tensor)}

    def _mode_of(self, batch: Any, optimizer: Optimizer) -> Mode:
        form, settings = _form_of(batch), _settings_of(optimizer)
        if not self._form:
            self._form, self._settings = form, settings
        if not form:
            self._stop("a batch is no dictionary with tensors")
        if settings != self._settings:
            self._stop("the optimizer's settings have changed during the training")
        if self.reason is not None or form != self._form:
            return Mode.PLAIN
        if self._graph is not None:
            return Mode.REPLAY
        self._warmed_up += 1
        return Mode.WARM_UP if self._warmed_up <= WARM_UP_STEPS else Mode.CAPTURE

    # ---- in place of the module's hooks; Lightning calls `_optimizer_step`, whose closure calls the others ----------

    def _optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Callable[[], Any]) -> None:
        step = partial(self._own["optimizer_step"], epoch, batch_idx, optimizer, closure)
        if self._mode is Mode.PLAIN:
            step()
        elif self._mode is Mode.WARM_UP:
            self._warm_up(step)
        else:
            if self._mode is Mode.CAPTURE:
                self._capture(step)
            closure()

    def _training_step(self, batch: Any, batch_idx: int) -> Any:
        if self._mode is Mode.REPLAY:
            assert self._graph is not None
            self._graph.replay()
            self.replayed_steps += 1
            outputs = dict(self._outputs)
        else:
            captures = self._mode is Mode.CAPTURE
            given = batch if self._mode is Mode.PLAIN else {**batch, **self._inputs}
            outputs = self._own["training_step"](self._inputs if captures else given, batch_idx)
            if captures:
                self._outputs = tree_map_only(Tensor, Tensor.detach, outputs)
                return outputs
        with _waits_allowed():
            self._module.count_step()
        return outputs

    def _backward(self, loss: Tensor, *arguments: Any, **keywords: Any) -> None:
        if self._mode is not Mode.REPLAY:
            self._own["backward"](loss, *arguments, **keywords)

    def _optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        if self._mode is not Mode.REPLAY:
            self._own["optimizer_zero_grad"](epoch, batch_idx, optimizer)

    # ---- capturing --------------------------------------------------------------------------------------------------

    def _warm_up(self, step: Callable[[], Any]) -> None:
        """Make a step on the stream of the capture; in the last one look out for waits, which cannot be captured."""
        assert self._stream is not None
        waits: list[str] = []
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            if self._warmed_up == WARM_UP_STEPS:
                with _noting_waits(waits):
                    step()
            else:
                step()
        torch.cuda.current_stream().wait_stream(self._stream)
        if waits:
            self._stop(f"a step waits for the device ({waits[0]})")

    def _capture(self, step: Callable[[], Any]) -> None:
        graph = torch.cuda.CUDAGraph()
        counters = self._trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress
        before = counters.state_dict()
        try:
            # "thread_local": threads that pin the memory of batches to come go on meanwhile
            with (
                _said_to_be_capturable(self._trainer.optimizers[0]),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                step()
                for part in self._parts:
                    part.step_on_device(self._trainer, self._module, self._outputs)
        except Exception as error:
            raise RuntimeError(
                f"a step could not be captured in a CUDA graph ({type(error).__name__}: {error}); with "
                f"trainer.cuda_graph=false the same command goes on from the last checkpoint"
            ) from error
        counters.load_state_dict(before)  # nothing has been computed yet
        self._graph, self._mode = graph, Mode.REPLAY

    def _stop(self, reason: str) -> None:
        """Go on without a graph."""
        if self.reason is None:
            log.warning("from here on steps are made without a CUDA graph, since %s", reason)
        self.reason = reason

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the module as it was, and free the graph's memory."""
        self._stand_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Do so after an error, too."""
        self._stand_back()

    def _stand_back(self) -> None:
        if not self._own:
            return
        for name in _HOOKS:
            delattr(self._module, name)
        for part in self._parts:
            part.is_replayed = False
        self._module.is_graphed = False
        self._module.zero_grad(set_to_none=True)  # the gradients lie in the graph's memory
        self._own = {}
        self._forget()


@cache
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of all captures, since cuBLAS keeps a workspace for each stream that it computed in."""
    return torch.cuda.Stream(device)


def _form_of(batch: Any) -> dict[str, Any]:
    """Return type and shape of each tensor of a batch."""
    if not isinstance(batch, Mapping):
        return {}
    return {name: (value.dtype, value.shape) for name, value in batch.items() if isinstance(value, Tensor)}


def _settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the numbers of each parameter group, which a graph holds fast."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


@contextmanager
def _said_to_be_capturable(optimizer: Optimizer) -> Iterator[None]:
    """Tell a fused Adam or AdamW that it is captured; it counts its steps on the device in any case.

    A checkpoint does not say so: on a CPU torch would refuse to go on with it.
    """
    groups = [group for group in optimizer.param_groups if group.get("capturable") is False]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


@contextmanager
def _noting_waits(places: list[str]) -> Iterator[None]:
    """Add the places of the block at which the host waits for the device; other warnings are given again."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for one in caught:
        if "synchronizing CUDA operation" in str(one.message):
            places.append(f"{Path(one.filename).name}, line {one.lineno}")
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


@contextmanager
def _waits_allowed() -> Iterator[None]:
    """Note no waits in this block, such as at a logging."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
