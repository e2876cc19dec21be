"""Forward passes beside the training, which leave weights, buffers, modes and generators as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from assl_lightning.base.generators import generators_kept
from assl_lightning.base.seeding import derive_key
from assl_lightning.method.contracts import TrainingStep

_IS_BESIDE: ContextVar[bool] = ContextVar("is_beside_training", default=False)


@contextmanager
def side_pass(module: nn.Module, key: int | None = None) -> Iterator[None]:
    """Run the block in evaluation mode, without gradients and with generators of its own; then put all of it back.

    For passes of one's own in an `observe` function: in training mode a pass would move the statistics of batch norms,
    and what it draws would change the training that follows. Buffers and all attributes that the block sets on the
    module's parts, such as a counter that `forward` raises, have their values from before again. What a `forward`
    changes in place, other than a buffer, stays changed: a list that it appends to, or its own weights.

    Args:
        module: the module, all of whose parts go to evaluation mode.
        key: seeds torch's, NumPy's and Python's generators within the block; None: they go on from where they are.

    >>> dropout = nn.Dropout(0.5)
    >>> with side_pass(dropout):
    ...     dropout(torch.ones(3))
    tensor([1., 1., 1.])
    >>> dropout.training
    True
    """
    parts = [_Part(part) for part in module.modules()]
    buffers: list[tuple[Tensor, Tensor]] = []

    def copy_buffers(*_: object) -> None:
        if not buffers:  # before the first call of a module, so that a block without any copies nothing
            buffers.extend((buffer, buffer.clone()) for buffer in module.buffers() if not is_lazy(buffer))

    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = {parameter.device for parameter in module.parameters()}
    with torch.no_grad(), generators_kept(devices, key):
        watch = register_module_forward_pre_hook(copy_buffers)
        token = _IS_BESIDE.set(True)
        try:
            if key is not None:
                random.seed(key)
                np.random.seed(key % 2**32)
            for part in parts:
                part.module.training = False
            yield
        finally:
            _IS_BESIDE.reset(token)
            watch.remove()
            for part in parts:
                part.put_back()
            for buffer, value in buffers:
                buffer.copy_(value)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def is_beside_training() -> bool:
    """Return True within the block of a `side_pass`."""
    return _IS_BESIDE.get()


def step_key(step: TrainingStep) -> int:
    """Return the key of a step's passes: it depends on the number of the step and the rank, and on no generator."""
    rank = int(getattr(step.module, "global_rank", 0))
    return derive_key(0, "observe", step.number + 1, rank)


class _Part:
    """A part of a module, with its mode, its attributes and its buffers as they are now."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self._kind, self._is_training = module, type(module), module.training
        self._attributes: dict[str, Any] = dict(vars(module))
        self._buffers = dict(module._buffers)

    def put_back(self) -> None:
        """Set the mode, and what is another object now: an attribute, or a buffer that was not changed in place."""
        self.module.training = self._is_training
        if type(self.module) is not self._kind:  # a lazy part that the block initialised
            return
        attributes = vars(self.module)
        for name in attributes.keys() - self._attributes.keys():
            del attributes[name]
        for name, value in self._attributes.items():
            if attributes.get(name, self) is not value:
                attributes[name] = value
        for name, buffer in self._buffers.items():
            if self.module._buffers.get(name) is not buffer:
                self.module._buffers[name] = buffer
