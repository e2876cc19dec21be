"""Copies of a module's buffers, which a step that is left out puts back, without a number that the host must read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a number


class KeptBuffers:
    """Buffers as they were at the last `keep`. Tensors of one type are copied in one call.

    >>> buffer = torch.tensor([1.0, 2.0])
    >>> kept = KeptBuffers()
    >>> kept.keep([buffer])
    >>> _ = buffer.fill_(torch.nan)
    >>> kept.put_back_where(torch.tensor(True))
    >>> buffer
    tensor([1., 2.])
    """

    def __init__(self) -> None:
        self._groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}  # the buffers, and their copies

    @torch.no_grad()
    def keep(self, buffers: Iterable[Tensor]) -> None:
        """Copy the buffers, into the memory of the last copies where they are of the same shapes and devices."""
        by_type: dict[torch.dtype, list[Tensor]] = defaultdict(list)
        for buffer in buffers:
            by_type[buffer.dtype].append(buffer)
        before, self._groups = self._groups, {}
        for dtype, present in by_type.items():
            _, copies = before.get(dtype, ([], []))
            if [_form(copy) for copy in copies] != [_form(buffer) for buffer in present]:
                copies = [torch.empty_like(buffer) for buffer in present]
            torch._foreach_copy_(copies, present)
            self._groups[dtype] = present, copies

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the buffers the numbers that they had."""
        for buffers, copies in self._groups.values():
            torch._foreach_copy_(buffers, copies)

    @torch.no_grad()
    def put_back_where(self, flag: Tensor) -> None:
        """Do so if `flag` () bool is True. Nothing waits for the device; the copies are used up.

        The choice is made by products of the numbers' bits, taken as integers: NaN · 0 would be NaN.
        """
        for dtype, (buffers, copies) in self._groups.items():
            integer = _BITS.get(dtype.itemsize)
            if integer is None:  # complex128
                for buffer, copy in zip(buffers, copies, strict=True):
                    buffer.copy_(torch.where(flag, copy, buffer))
                continue
            bits, bits_before = [buffer.view(integer) for buffer in buffers], [copy.view(integer) for copy in copies]
            torch._foreach_mul_(bits, (~flag).to(integer))
            torch._foreach_mul_(bits_before, flag.to(integer))
            torch._foreach_add_(bits, bits_before)


def _form(tensor: Tensor) -> tuple[torch.Size, torch.device]:
    return tensor.shape, tensor.device
