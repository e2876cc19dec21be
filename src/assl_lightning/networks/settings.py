"""The settings of any network; nothing here imports torch."""

from __future__ import annotations

from typing import Literal

MemoryFormat = Literal["auto", "contiguous", "channels_last"]
"""Order of images, maps and weights in memory: by channels, or a pixel's channels side by side; "auto": as made."""
