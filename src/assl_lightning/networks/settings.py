"""The settings of any network; nothing here imports torch."""

from __future__ import annotations

from typing import Literal

MemoryFormat = Literal["auto", "contiguous", "channels_last"]
"""Order of images, maps and weights in memory: by channels, or a pixel's channels side by side; "auto": as made."""


def layout_advice(error: BaseException) -> str | None:
    """Return what to do if `error` is of a network that calls view on maps whose channels lie side by side; else None.

    >>> print(layout_advice(ValueError("view size is not compatible")))
    None
    """
    if not (isinstance(error, RuntimeError) and "view size is not compatible" in str(error)):
        return None
    return "choose trainer.memory_format=contiguous, or call reshape instead of view in the network"
