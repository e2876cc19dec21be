"""The two plans of one augmentation, and which of them computes a view."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from assl_lightning.augment import dense


class Plan(Protocol):
    """What a view is made with. Both plans give the same bits.

    b rows, c channels (1 or 3), h × w pixels; images are (b, c, h, w) uint8. `change` and `cut_out` take contiguous
    images, and may work in place.
    """

    def crop(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """New views: pixel (y, x) of row i is pixel (rows[i, y], columns[i, x]) of its image.

        `rows` (b, h) and `columns` (b, w) are int32.
        """

    def change(self, images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
        """Row i goes through operation `OPERATIONS[code[i]]`.

        `code`, `magnitude` (1 … 10) and `sign` (±1) are (b,) int64. The geometric operations read the sign; the others
        do not, and some read no magnitude either.
        """

    def cut_out(self, images: Tensor, first_y: Tensor, first_x: Tensor, side_y: int, side_x: int) -> Tensor:
        """Row i gets a grey box from (first_y[i], first_x[i]) to `side_y` and `side_x` further, both included.

        `first_y` and `first_x` (b,) are int64, from 0 up; what lies beyond the image is not drawn.
        """


def plan_for(device: torch.device) -> Plan:
    """On a CPU it pays to compute only what was drawn; a GPU must not be waited for."""
    if device.type != "cpu":
        return dense
    from assl_lightning.augment import compiled  # compiles its loops

    return compiled
