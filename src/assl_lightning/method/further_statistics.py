"""The further statistics that are kept for a pool: other published scores in the same table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from assl_lightning.method.forgetting import ForgettingEvents
from assl_lightning.method.further_statistic import FurtherStatistic
from assl_lightning.method.mean_probabilities import MeanProbabilities
from assl_lightning.method.settings import FURTHER, FurtherName
from assl_lightning.method.view_variance import VarianceOverViews
from assl_lightning.method.visits import Visits

_CLASSES: tuple[type[FurtherStatistic], ...] = (ForgettingEvents, VarianceOverViews, MeanProbabilities)

State = dict[str, dict[str, Tensor]]
"""Columns (N, …) of each statistic, by name."""


class FurtherStatistics(Mapping[FurtherName, FurtherStatistic]):
    """The further statistics of a table, by name.

    Args:
        names: the statistics to keep.
        num_samples: N, the size of the pool.
        alpha: weight of a new observation in a moving average, in (0, 1].

    >>> further = FurtherStatistics(["forgetting"], num_samples=3, alpha=0.8)
    >>> sorted(further)
    ['forgetting']
    """

    def __init__(self, names: Sequence[str], num_samples: int, alpha: float) -> None:
        names = check_names(names)
        self.width: int | None = None
        """W, the numbers of a sample that all of them observe; None before the first update."""
        self._of = {kind.name: kind(num_samples, alpha) for kind in _CLASSES if kind.name in names}

    def __getitem__(self, name: FurtherName) -> FurtherStatistic:
        return self._of[name]

    def require(self, name: FurtherName) -> FurtherStatistic:
        """Return the statistic of a name; raise a ValueError with advice if it is not kept."""
        if name not in self._of:
            raise ValueError(
                f"{name!r} was not kept: make the callback, or the table, with further=[{name!r}]; kept are: "
                f"{', '.join(self._of) or 'none'}"
            )
        return self._of[name]

    def __iter__(self) -> Iterator[FurtherName]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def observe(self, weak: Tensor, strong: Tensor | None) -> Tensor:
        """Return all observations of a batch, side by side: logits (B, C) of one or two views → (B, W) float32.

        Raises:
            ValueError: there is one view, and a statistic needs two; or the logits are not (B, C).
        """
        if weak.ndim != 2:
            raise ValueError(
                f"{', '.join(self)}: further statistics need one row of logits (B, C) for each sample; got shape "
                f"{tuple(weak.shape)}. Leave `further` out in a dense task"
            )
        needing_two = [name for name, statistic in self._of.items() if statistic.views == 2]
        if strong is None and needing_two:
            raise ValueError(
                f"{', '.join(needing_two)} needs two views of each sample, and the training has one; leave it out of "
                f"`further`, or make a second view with observe.second_view(…)"
            )
        weak = weak.detach()
        strong = weak if strong is None else strong.detach()
        return torch.cat([statistic.observe(weak, strong) for statistic in self._of.values()], dim=-1)

    def update(self, visits: Visits, observed: Tensor, before: Tensor) -> None:
        """Count the visits of a batch, with the result of `observe`.

        Args:
            visits: of rows of the table; invalid observations have the row N.
            observed: (B, W) finite, in the order of the batch.
            before: (N + 1,) int32, the visits of each row in earlier batches.
        """
        self.width = observed.shape[1]
        parts = visits.sort(observed).split(self._widths(observed.shape[1]), dim=1)
        for statistic, part in zip(self._of.values(), parts, strict=True):
            statistic.update(visits, part, before[visits.row])

    def _widths(self, total: int) -> list[int]:
        """Return the number of columns of each statistic among the W."""
        by_class = [statistic.observes == "a number for each class" for statistic in self._of.values()]
        classes = (total - by_class.count(False)) // max(by_class.count(True), 1)
        return [classes if each else 1 for each in by_class]

    def to(self, device: torch.device | str) -> None:
        """Move the tensors to `device`."""
        for statistic in self._of.values():
            statistic.columns = {name: column.to(device) for name, column in statistic.columns.items()}

    def state_dict(self) -> State:
        """Return the columns (N, …) of each statistic."""
        return {
            name: {column: rows[:-1].clone() for column, rows in statistic.columns.items()}
            for name, statistic in self._of.items()
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]], device: torch.device) -> None:
        """Take over the columns of a `state_dict`; statistics that are not kept here are ignored.

        Raises:
            ValueError: the state lacks a statistic, or its columns have another shape or type, or are not finite.
        """
        for name, statistic in self._of.items():
            if name not in state:
                raise ValueError(
                    f"{name} was not kept in what is loaded ({', '.join(state) or 'no further statistics'}); start "
                    f"afresh, or leave it out of `further`"
                )
            own, found = statistic.columns, state[name]
            for column in {*own, *found}:
                self._check(f"{column} of {name}", own.get(column), found.get(column), statistic.num_samples)
            statistic.columns = {
                column: torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])]).to(device)
                for column, rows in found.items()
            }

    @staticmethod
    def _check(what: str, own: Tensor | None, saved: object, num_samples: int) -> None:
        """Raise unless a saved column fits the table's own (N + 1, …), or where it has none yet, (N, C) of float32."""
        fits = isinstance(saved, Tensor) and saved.shape[:1] == (num_samples,)
        if fits and isinstance(saved, Tensor):
            dtype, ndim = (torch.float32, 2) if own is None else (own.dtype, own.ndim)
            fits = saved.dtype == dtype and saved.ndim == ndim and bool(saved.isfinite().all())
        if not fits:
            got = f"{saved.dtype} of shape {tuple(saved.shape)}" if isinstance(saved, Tensor) else repr(saved)
            raise ValueError(f"the saved {what} must be finite, a row for each of the {num_samples} samples; got {got}")


def check_names(names: Sequence[str]) -> tuple[FurtherName, ...]:
    """Return the names in the order of `FURTHER`, or raise a ValueError for one that is none."""
    given = [names] if isinstance(names, str) else list(names)
    unknown = [str(name) for name in given if name not in FURTHER]
    if unknown or isinstance(names, str):
        raise ValueError(f"further must be a list of names, among {', '.join(FURTHER)}; got {names!r}")
    return tuple(name for name in FURTHER if name in given)


def pad_columns(state: Mapping[str, Mapping[str, Tensor]], more: int) -> State:
    """Add so many samples that were never visited to the columns of a `state_dict`."""
    return {
        name: {key: torch.cat([rows, rows.new_zeros(more, *rows.shape[1:])]) for key, rows in columns.items()}
        for name, columns in state.items()
    }
