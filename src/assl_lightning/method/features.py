"""Latest features of every sample, kept while training runs: diversity without a pass over the pool."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from assl_lightning.base.arguments import whole_number
from assl_lightning.method.visits import Visits

_LARGEST = torch.finfo(torch.float16).max


class SampleFeatures:
    """One float16 vector for every sample of a pool, by pool index, of the last time it was seen.

    2·d bytes a sample, and one for whether it was seen at all.

    The first update makes the table, with its d and on its device. Numbers beyond the range of float16 are kept as its
    largest, 65,504; a NaN stays a NaN, and the acquisition names its sample.

    Args:
        num_samples: N, the size of the pool.

    >>> features = SampleFeatures(num_samples=3)
    >>> features.update(torch.tensor([2, 0, 2]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    >>> features.rows(torch.tensor([0, 2]))
    tensor([[3., 4.],
            [5., 6.]])
    >>> features.seen(torch.arange(3))
    tensor([ True, False,  True])

    Nothing in `update` waits for the device.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = whole_number("num_samples", num_samples, least=1)
        self._values: Tensor | None = None  # one row more than there are samples, as in SampleStatistics
        self._seen = torch.zeros(self.num_samples + 1, dtype=torch.bool)

    @torch.no_grad()
    def update(self, index: Tensor, features: Tensor, *, assume_unique: bool = False) -> None:
        """Keep each row; of a sample that occurs twice the later row, of an index outside [0, N) none.

        Args:
            index: (B,) int64 pool indices; −1 is a row that observed nothing.
            features: (B, d) floating.
            assume_unique: promise that no index occurs twice; saves a sort.
        """
        if features.ndim != 2 or features.shape[0] != len(index):
            raise ValueError(
                f"features must have one row for each of the {len(index)} indices, shape (B, d); got shape "
                f"{tuple(features.shape)}"
            )
        if self._values is None:
            shape = (self.num_samples + 1, features.shape[1])
            self._values = torch.zeros(shape, dtype=torch.float16, device=features.device)
            self._seen = self._seen.to(features.device)
        if features.shape[1] != self._values.shape[1]:
            raise ValueError(
                f"features must keep their size from step to step: they had {self._values.shape[1]} numbers a sample "
                f"and now have {features.shape[1]}"
            )
        row = torch.where((index >= 0) & (index < self.num_samples), index, self.num_samples)
        visits = Visits.of(row, assume_unique=assume_unique)
        visits.write(self._values, visits.sort(features.clamp(-_LARGEST, _LARGEST)))
        visits.write(self._seen, torch.ones_like(row, dtype=torch.bool))

    def rows(self, index: Tensor) -> Tensor:
        """Return features (M, d) float32 of the samples at `index` (M,) int64, on its own device; 0 where unseen."""
        if self._values is None:
            raise RuntimeError("there are no features yet; they exist once a step has been observed that returned them")
        return self._values[index.to(self._values.device)].float()

    def seen(self, index: Tensor) -> Tensor:
        """Return which of the samples at `index` (M,) int64 were seen: (M,) bool on the table's device."""
        return self._seen[index.to(self._seen.device)]

    def to(self, device: torch.device | str) -> SampleFeatures:
        """Move the table to `device` and return it."""
        self._values = None if self._values is None else self._values.to(device)
        self._seen = self._seen.to(device)
        return self

    def make_room(self, num_samples: int) -> None:
        """Add rows, as of samples never seen, for a pool that has grown to `num_samples`."""
        more = num_samples - self.num_samples
        self._seen = _with_room(self._seen, more)
        self._values = None if self._values is None else _with_room(self._values, more)
        self.num_samples = num_samples

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values only, loadable with `weights_only=True`."""
        values = None if self._values is None else self._values.clone()
        return {"num_samples": self.num_samples, "values": values, "seen": self._seen.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of a `state_dict`; another pool size is an error.

        In the state of an older checkpoint, which has no `seen`, a sample counts as seen if its row is not 0.
        """
        if state["num_samples"] != self.num_samples:
            raise ValueError(
                f"these features were kept for a pool of {state['num_samples']} samples, but this table has "
                f"{self.num_samples}; load them into a table of the same size"
            )
        values, seen = state["values"], state.get("seen")
        if seen is None:
            seen = torch.zeros(self.num_samples + 1, dtype=torch.bool) if values is None else values.any(1)
        self._values, self._seen = None if values is None else values.clone(), seen.clone()


def _with_room(rows: Tensor, more: int) -> Tensor:
    """Add so many rows of 0 before the last one, in which nothing counts."""
    return torch.cat([rows[:-1], rows.new_zeros(more, *rows.shape[1:]), rows[-1:]])
