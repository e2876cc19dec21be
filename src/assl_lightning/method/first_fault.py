"""The first invalid observation of a table, noted on the device and raised at the next reading."""

from __future__ import annotations

import torch
from torch import Tensor


class FirstFault:
    """The first invalid observation; its tensors are on one device, and written in place.

    Args:
        device: where the tensors live.
    """

    def __init__(self, device: torch.device | str) -> None:
        # two tensors: not every device has float64, and float32 does not hold every index
        self.place = torch.full((2,), -1, dtype=torch.int64, device=device)  # number of the update, and the index
        self.values = torch.zeros(2, dtype=torch.float32, device=device)  # uncertainty and inconsistency

    def note(self, update: Tensor, index: Tensor, observed: Tensor, valid: Tensor) -> None:
        """Note the first row that is not valid, unless an earlier update had one; without waiting for the device.

        Args:
            update: () int64, number of the update.
            index: (B,) int64.
            observed: (B, 2) float32.
            valid: (B,) bool.
        """
        if not len(index):
            return
        position = torch.where(valid, len(index), torch.arange(len(index), device=index.device)).min()
        row = position.clamp(max=len(index) - 1).unsqueeze(0)
        is_first = (position < len(index)) & (self.place[0] < 0)
        torch.where(is_first, torch.cat([update.view(1), index[row]]), self.place, out=self.place)
        torch.where(is_first, observed[row].squeeze(0), self.values, out=self.values)

    def check(self, num_samples: int, *, reads_logits: bool) -> None:
        """Raise for the noted observation, if there is one; waits for the device.

        Args:
            num_samples: N, the size of the pool.
            reads_logits: the table keeps statistics of the logits too.
        """
        update, index = self.place.tolist()
        if update < 0:
            return
        if not 0 <= index < num_samples:
            raise IndexError(
                f"update {update} observed index {index}, outside the pool's 0 … {num_samples - 1}; "
                f"give pool indices, not positions within a subset or a batch"
            )
        uncertainty, inconsistency = self.values.tolist()
        raise ValueError(
            f"update {update} observed uncertainty {uncertainty} and inconsistency {inconsistency} for sample "
            f"{index}; both must be finite and below 1e19{', and so must the logits' if reads_logits else ''}, so look "
            f"for a diverging loss or a division by zero"
        )

    def clear(self) -> None:
        """Forget what was noted."""
        self.place.fill_(-1)

    def to(self, device: torch.device | str) -> None:
        """Move the tensors to `device`."""
        self.place, self.values = self.place.to(device), self.values.to(device)
