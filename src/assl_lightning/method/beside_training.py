"""Forward passes beside the training, which leave weights, buffers, modes and generators as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from assl_lightning.base.generators import generators_kept
from assl_lightning.base.seeding import derive_key


@contextmanager
def side_pass(module: nn.Module, key: int | None = None) -> Iterator[None]:
    """Run the block in evaluation mode, without gradients and with generators of its own; then put all of it back.

    For passes of one's own in an `observe` function: in training mode a pass would move the statistics of batch norms,
    and what it draws would change the training that follows.

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
    modes = [(part, part.training) for part in module.modules()]
    buffers: list[tuple[Tensor, Tensor]] = []

    def copy_buffers(*_: object) -> None:
        if not buffers:  # before the first call of a module, so that a block without any copies nothing
            buffers.extend((buffer, buffer.clone()) for buffer in module.buffers())

    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = {parameter.device for parameter in module.parameters()}
    with torch.no_grad(), generators_kept(devices, key):
        watch = register_module_forward_pre_hook(copy_buffers)
        try:
            if key is not None:
                random.seed(key)
                np.random.seed(key % 2**32)
            for part, _ in modes:
                part.training = False
            yield
        finally:
            watch.remove()
            for part, mode in modes:
                part.training = mode
            for buffer, value in buffers:
                buffer.copy_(value)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def step_key(seed: int, step: int, rank: int) -> int:
    """Return the key of a step's passes: it depends on the training's seed, and on no generator's state."""
    return derive_key(seed, "observe", step, rank)
