"""The two plans of one augmentation, and the choice between them.

A third way makes all views of a step at once, in one launch on a CUDA device: `fused`, of the same bits.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from assl_lightning.augment import dense


class Plan(Protocol):
    """Steps from which views are made. Both plans give the same bits.

    b rows, c channels (1 or 3), h × w pixels; images are (b, c, h, w) uint8. `change` and `cut_out` take contiguous
    images, and may work in place.
    """

    def crop(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return new views: pixel (y, x) of row i is pixel (rows[i, y], columns[i, x]) of its image.

        `rows` (b, h) and `columns` (b, w) are int32.
        """

    def change(self, images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
        """Apply operation `OPERATIONS[code[i]]` to row i.

        `code`, `magnitude` (1 … 10) and `sign` (±1) are (b,) int64. The geometric operations read the sign; the others
        do not, and some read no magnitude either.
        """

    def cut_out(self, images: Tensor, first_y: Tensor, first_x: Tensor, side_y: int, side_x: int) -> Tensor:
        """Draw a grey box on row i from (first_y[i], first_x[i]) to `side_y` and `side_x` further, both included.

        `first_y` and `first_x` (b,) are int64, from 0 up; the part beyond the image is not drawn.
        """


def plan_for(device: torch.device) -> Plan:
    """Return a device's plan: a CPU computes only the operations that were drawn; a GPU must not be waited for."""
    if device.type != "cpu":
        return dense
    from assl_lightning.augment import compiled  # compiles its loops

    return compiled
