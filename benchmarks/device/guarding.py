"""Figures of which one that fails, or has no time left, is a row of the table, and does not end the rest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch

from benchmarks.figures import Figure


@dataclass(frozen=True)
class Part:
    """What a part of the check is given.

    Attributes:
        device: a CUDA device, or the CPU, on which what needs one is not measured.
        quick: tiny sizes, which show that the part runs, and nothing of speed.
        seconds: until the part is ended.
    """

    device: torch.device
    quick: bool
    seconds: float
    started: float = field(default_factory=time.perf_counter)

    @property
    def is_cuda(self) -> bool:
        """True on a CUDA device."""
        return self.device.type == "cuda"

    def may_begin(self, needs: float) -> bool:
        """Return whether something that needs so many seconds would hardly be cut off."""
        return time.perf_counter() - self.started + needs < self.seconds


def attempt(figure: Figure, measure: Callable[[], float | tuple[float, ...]]) -> Figure:
    """Return the figure with what `measure` returns, or with its error as a note."""
    try:
        found = measure()
    except Exception as error:
        return failed(figure, error)
    return replace(figure, values=found if isinstance(found, tuple) else (found,))


def guarded(figures: Iterator[Figure], rest: Figure) -> Iterator[Figure]:
    """Yield the figures; after an error, `rest` with its note."""
    try:
        yield from figures
    except Exception as error:
        yield failed(rest, error)


def failed(figure: Figure, error: Exception) -> Figure:
    """Return a figure that was not measured, with the reason."""
    traceback.print_exc()
    return replace(figure, values=(), note=f"Failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def not_measured(figure: Figure, part: Part) -> Figure:
    """Return a figure without values, and why: there is no GPU, or no time."""
    return replace(
        figure, values=(), note="Not measured: no time was left." if part.is_cuda else "Not measured: no CUDA device."
    )
