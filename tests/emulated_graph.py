# mypy: disable-error-code="no-untyped-call"
"""CUDA graphs on the emulated GPU: what is captured are the operators below autograd, with the numbers and the memory
that they were called with, and a replay calls them once more, with those numbers, on that memory.

Therefore a replay goes wrong where it would on the real device: a number of Python that should have changed stays as it
was, and a tensor that was bound anew since is not the one that is read and written. As there, nothing that is captured
happens before the first replay, and a wait in a capture is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from assl_lightning.learning import step_graph
from tests import emulated_device


class Recording:
    """The operators of a capture, in their order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[], Any], Any]] = []
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # memory, and what it held, by its address
        self._generator = torch.get_rng_state()

    def run(self, operator: Any, args: Any, kwargs: Any) -> Any:
        """Call an operator, and note it."""
        self._keep([leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)])
        result = operator(*args, **kwargs)
        self.calls.append((lambda: operator(*args, **kwargs), result))
        return result

    def note(self, call: Callable[[], Any], tensors: list[torch.Tensor]) -> None:
        """Note the launch of a kernel on these tensors."""
        self._keep(tensors)
        self.calls.append((call, None))

    def undo(self) -> None:
        """Put all back that was written to, and the generator: a capture computes nothing."""
        for tensor, before in self._before.values():
            tensor.copy_(before)
        torch.set_rng_state(self._generator)

    def replay(self) -> None:
        """Call all once more; results go where they went."""
        for call, result in self.calls:
            for old, new in zip(tree_leaves(result), tree_leaves(call()), strict=result is not None):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def _keep(self, tensors: list[torch.Tensor]) -> None:
        """Keep what they hold: some may be written to, and not every operator says which."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._before:
                whole = torch.empty(0, dtype=torch.uint8).set_(storage)
                self._before[storage.data_ptr()] = (whole, whole.clone())


class EmulatedGraph:
    """In place of `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.recording: Recording | None = None

    def replay(self) -> None:
        assert self.recording is not None, "nothing was captured"
        emulated_device._present[-1].counts.launches["graph"] += 1
        with torch.no_grad(), _disable_current_modes(), torch._C._DisableTorchDispatch():
            self.recording.replay()


class _Stream:
    def __init__(self, *_: object) -> None:
        pass

    def wait_stream(self, other: object) -> None:
        """Nothing to do: there is one stream."""


@contextmanager
def _capturing(graph: EmulatedGraph, **_: object) -> Iterator[None]:
    with torch.no_grad(), _disable_current_modes(), torch._C._DisableTorchDispatch():
        graph.recording = Recording()
    emulated_device._present[-1].recordings.append(graph.recording)
    try:
        yield
    finally:
        emulated_device._present[-1].recordings.pop()
        with torch.no_grad(), _disable_current_modes(), torch._C._DisableTorchDispatch():
            graph.recording.undo()


@contextmanager
def emulated_graphs() -> Iterator[None]:
    """Within, and within `emulated_cuda_gpu`, torch has streams and graphs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "CUDAGraph", EmulatedGraph)
        patch.setattr(torch.cuda, "graph", _capturing)
        patch.setattr(torch.cuda, "Stream", _Stream)
        patch.setattr(torch.cuda, "current_stream", _Stream)
        patch.setattr(torch.cuda, "stream", lambda _: nullcontext())
        step_graph._stream_of.cache_clear()
        yield
        step_graph._stream_of.cache_clear()
