"""The settings of any network; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

MemoryFormat = Literal["auto", "contiguous", "channels_last"]
"""Order of images, maps and weights in memory: by channels, or a pixel's channels side by side; "auto": as made."""


def layout_advice(error: BaseException, trainer: Mapping[str, Any]) -> str | None:
    """Return what to do if `error` is of a network that calls view on maps whose channels lie side by side; else None.

    Args:
        error: of a forward pass.
        trainer: the node of the configuration, whose `memory_format` put the channels there.

    >>> print(layout_advice(RuntimeError("view size is not compatible"), {"memory_format": "contiguous"}))
    None
    """
    if trainer.get("memory_format") != "channels_last":
        return None
    if not (isinstance(error, RuntimeError) and "view size is not compatible" in str(error)):
        return None
    return "choose trainer.memory_format=contiguous, or call reshape instead of view in the network"
