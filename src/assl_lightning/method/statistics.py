"""Per-sample running statistics of uncertainty and inconsistency, kept while training runs (Eq. 3, 5 and 6).

Lim, Na and Kwak 2023, "Active Semi-Supervised Learning by Exploring Per-Sample Uncertainty and Consistency". For each
visit of a sample with an observed value x (its uncertainty u or its inconsistency i), from mean = variance = 0:

    mean     ← α·x + (1 − α)·mean                       Eq. 3, 4; α weighs the *new* value
    variance ← α·(x − mean)² + (1 − α)·variance         Eq. 3, 5; of the mean that was just updated ("post")
    UCB      = mean + c·√variance
    score    = UCB of u · UCB of i                       Eq. 6
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from assl_lightning.base.arguments import whole_number
from assl_lightning.base.rules import checked
from assl_lightning.method.bounds import Factors, upper_confidence_bound
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.first_fault import FirstFault
from assl_lightning.method.further_statistics import FurtherStatistics, pad_columns
from assl_lightning.method.fused_scores import can_visit, visit
from assl_lightning.method.pool_mask import Samples
from assl_lightning.method.query import query
from assl_lightning.method.settings import Alpha, Variance
from assl_lightning.method.visits import Visits

NOTHING = -1
"""Index of a row that observed no sample."""

_COLUMNS = ("uncertainty_mean", "inconsistency_mean", "uncertainty_variance", "inconsistency_variance")


class SampleStatistics:
    """Statistics of every sample of a pool, by pool index; 20 bytes a sample on one device.

    Args:
        num_samples: N, the size of the pool.
        alpha: weight of the new observation, in (0, 1].
        variance: the mean that a visit's deviation is taken from: "post", the mean that the visit just updated (as the
            paper prints it), or "pre", the mean before. With means and variances that start at 0 the two differ by the
            factor (1 − α)², so UCB_post(c) = UCB_pre((1 − α)·c).
        skip_non_finite: a value that is not finite is left out in silence, instead of being an error.
        device: where the tensors live.
        further: names of other published statistics to keep beside these, among `settings.FURTHER`; 4 to 8 bytes a
            sample more, or 4·C for the mean probabilities.

    >>> statistics = SampleStatistics(num_samples=3)
    >>> statistics.update(torch.tensor([2, 0, 2]), torch.tensor([0.5, 0.1, 0.5]), torch.tensor([1.0, 0.2, 1.0]))
    >>> statistics.visits.tolist()
    [1, 0, 2]
    >>> statistics.score(c_u=0.5, c_i=2.0).isnan().tolist()
    [False, True, False]

    Nothing in `update` waits for the device, and it writes in place, so that a graph may replay it. An index outside
    [0, N) or a value that is not finite leaves the table untouched and is remembered; `check`, and every read-out that
    acquires or saves, raises it.
    """

    def __init__(
        self,
        num_samples: int,
        alpha: Alpha = 0.8,
        variance: Variance = "post",
        *,
        skip_non_finite: bool = False,
        device: torch.device | str = "cpu",
        further: Sequence[str] = (),
    ) -> None:
        self.num_samples = num_samples = whole_number("num_samples", num_samples, least=1)
        self.alpha: float = checked("alpha", alpha, Alpha)
        self.variance: Variance = checked("variance", variance, Variance)
        self.skip_non_finite = skip_non_finite
        # One row more than there are samples: invalid observations go there, at the same cost and shape.
        self._values = torch.zeros(num_samples + 1, len(_COLUMNS), dtype=torch.float32, device=device)
        self._visits = torch.zeros(num_samples + 1, dtype=torch.int32, device=device)
        self._updates = torch.zeros((), dtype=torch.int64, device=device)
        self._fault = FirstFault(device)
        self.further = FurtherStatistics(further, num_samples, self.alpha)
        self.further.to(device)

    def update(
        self,
        index: Tensor,
        uncertainty: Tensor,
        inconsistency: Tensor,
        *,
        assume_unique: bool = False,
        further: Tensor | None = None,
    ) -> None:
        """Count one visit for each row, in order; a sample that occurs twice is visited twice.

        Args:
            index: (B,) int64 pool indices; −1 is a row that observed nothing.
            uncertainty: (B,) floating, ≥ 0 for pseudo-EL2N.
            inconsistency: (B,) floating, ≥ 0 for the symmetric KL divergence.
            assume_unique: promise that no index occurs twice; saves a sort. A broken promise keeps one visit's values.
            further: (B, W), what `self.further.observe` returned; needed where there are further statistics.
        """
        _check_rows(index, uncertainty, inconsistency)
        further = _check_further(further, self.further, len(index)) if self.further else None
        observed = torch.stack([uncertainty.detach().float(), inconsistency.detach().float()], dim=-1)  # (B, 2)
        if can_visit(index) and further is None:
            self._visit_in_one_launch(index, observed)
        else:
            self._visit(index, observed, further, assume_unique=assume_unique)
            self._updates += 1

    def _visit(self, index: Tensor, observed: Tensor, further: Tensor | None, *, assume_unique: bool) -> None:
        """Update the rows of valid observations; the others go to the last row, and are noted."""
        in_pool = (index >= 0) & (index < self.num_samples)
        valid = in_pool & observed.square().isfinite().all(-1)  # squares, because the variance must stay finite too
        if further is not None:
            valid &= further.isfinite().all(-1)
        allowed = in_pool if self.skip_non_finite else valid
        self._fault.note(self._updates, index, observed, allowed | (index == NOTHING))
        row = torch.where(valid, index, self.num_samples)
        observed = torch.where(valid[:, None], observed, 0.0)
        visits = None if assume_unique else Visits.of(row, assume_unique=False)
        if visits is None:
            self._visit_once(row, observed)
        else:
            self._visit_in_order(visits, observed)
        if further is not None:
            visits = visits or Visits.of(row, assume_unique=True)
            self.further.update(visits, torch.where(valid[:, None], further, 0.0), self._visits)
        self._visits.index_add_(0, row, torch.ones_like(row, dtype=torch.int32))

    def _visit_once(self, row: Tensor, observed: Tensor) -> None:
        """Update mean and variance (Eq. 3 and 5) of rows (B,) that differ."""
        before_mean, before_variance = self._values[row].split(2, dim=-1)  # (B, 2) each
        mean = self.alpha * observed + (1 - self.alpha) * before_mean
        deviation = observed - (mean if self.variance == "post" else before_mean)
        variance = self.alpha * deviation.square() + (1 - self.alpha) * before_variance
        self._values[row] = torch.cat([mean, variance], dim=-1)

    def _visit_in_order(self, visits: Visits, observed: Tensor) -> None:
        """Update as `_visit_once` does for each row in turn, in log₂ B dense steps however many repeats there are."""
        observed = visits.sort(observed)
        before_mean, before_variance = self._values[visits.row].split(2, dim=-1)
        mean = visits.average(before_mean, observed, self.alpha)
        earlier = torch.where(visits.first[:, None], before_mean, mean.roll(1, 0))
        deviation = observed - (mean if self.variance == "post" else earlier)
        variance = visits.average(before_variance, deviation.square(), self.alpha)
        visits.write(self._values, torch.cat([mean, variance], dim=-1))

    def _visit_in_one_launch(self, index: Tensor, observed: Tensor) -> None:
        visit(
            index.contiguous(),
            observed,
            (self._values, self._visits, self._updates, self._fault.place, self._fault.values),
            self.alpha,
            is_post=self.variance == "post",
            skips=self.skip_non_finite,
        )

    def check(self) -> None:
        """Raise for the first invalid observation so far; waits for the device."""
        self._fault.check(self.num_samples, reads_logits=bool(self.further))

    @property
    def visits(self) -> Tensor:
        """Number of times that each sample was observed, (N,) int32."""
        return self._visits[:-1]

    @property
    def uncertainty_mean(self) -> Tensor:
        """Moving average of uncertainty, (N,) float32; 0 where never visited."""
        return self._values[:-1, 0]

    @property
    def inconsistency_mean(self) -> Tensor:
        """Moving average of inconsistency, (N,) float32; 0 where never visited."""
        return self._values[:-1, 1]

    @property
    def uncertainty_variance(self) -> Tensor:
        """Moving variance of uncertainty, (N,) float32; 0 where never visited."""
        return self._values[:-1, 2]

    @property
    def inconsistency_variance(self) -> Tensor:
        """Moving variance of inconsistency, (N,) float32; 0 where never visited."""
        return self._values[:-1, 3]

    def uncertainty_ucb(self, c: float) -> Tensor:
        """Return mean + c·√variance of the uncertainty (Eq. 3), (N,); NaN where never visited."""
        return self._known(upper_confidence_bound(self.uncertainty_mean, self.uncertainty_variance, c))

    def inconsistency_ucb(self, c: float) -> Tensor:
        """Return mean + c·√variance of the inconsistency (Eq. 5), (N,); NaN where never visited."""
        return self._known(upper_confidence_bound(self.inconsistency_mean, self.inconsistency_variance, c))

    def score(self, c_u: float, c_i: float) -> Tensor:
        """Return Eq. 6, the product of the two bounds, (N,), NaN exactly where never visited. Larger: label sooner.

        Raises the errors of `check`.
        """
        self.check()
        return self.uncertainty_ucb(c_u) * self.inconsistency_ucb(c_i)

    def _known(self, value: Tensor) -> Tensor:
        return torch.where(self.visits > 0, value, torch.nan)

    def rows(self, index: Tensor | slice) -> CandidateStatistics:
        """Return the statistics of the samples at `index`, (M,) int64, as acquisition functions take them.

        A slice gives views of the table, not copies. Raises the errors of `check`.
        """
        self.check()
        values = self._values[:-1][index]  # (M, 4), a whole row at a time, since the numbers of a row lie side by side
        return CandidateStatistics(visits=self.visits[index], **dict(zip(_COLUMNS, values.unbind(-1), strict=True)))

    def query(
        self,
        k: int,
        candidates: Samples | None = None,
        labelled: Samples | None = None,
        *,
        c_u: float = 0.5,
        c_i: float = 2.0,
        factors: Factors = "both",
    ) -> Tensor:
        """Return the k candidates of the largest scores, (k,) int64 on the CPU, best first; ties to the lower index.

        For a training loop of one's own, without Lightning. The arguments and errors are those of
        `ASSLScoreCallback.query`, which has the same picks where it keeps no features.

        >>> table = SampleStatistics(4)
        >>> table.update(torch.tensor([0, 3, 2]), torch.tensor([0.2, 0.6, 0.1]), torch.tensor([1.0, 2.0, 0.3]))
        >>> table.query(2, candidates=[0, 1, 2])
        tensor([0, 2])
        """
        return query(self.rows(slice(None)), k, candidates, labelled, c_u=c_u, c_i=c_i, factors=factors)

    def to(self, device: torch.device | str) -> SampleStatistics:
        """Move the tensors to `device` and return the table."""
        self._values, self._visits = self._values.to(device), self._visits.to(device)
        self._updates = self._updates.to(device)
        self._fault.to(device)
        self.further.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values only, loadable with `weights_only=True`. Raises the errors of `check`."""
        self.check()
        columns = {name: getattr(self, name).clone() for name in _COLUMNS}
        further = {"further": self.further.state_dict()} if self.further else {}
        return {
            "num_samples": self.num_samples,
            "alpha": self.alpha,
            "variance": self.variance,
            "updates": int(self._updates),
            **columns,
            "visits": self.visits.clone(),
            **further,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a `state_dict`.

        Raises:
            ValueError: it has another pool size, α or variance, or lacks a further statistic of this table.
        """
        for name in ("num_samples", "alpha", "variance"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"these statistics were kept with {name} = {state[name]!r}, but this table has "
                    f"{getattr(self, name)!r}; load them into a table made with the same settings"
                )
        columns = {name: _check_column(name, state[name], torch.float32, self.num_samples) for name in _COLUMNS}
        visits = _check_column("visits", state["visits"], torch.int32, self.num_samples)
        self.further.load_state_dict(state.get("further", {}), self._values.device)
        for column, name in enumerate(_COLUMNS):
            self._values[:-1, column] = columns[name].to(self._values.device)
        self._visits[:-1] = visits.to(self._visits.device)
        self._updates.fill_(int(state["updates"]))
        self._fault.clear()


def pad_to(state: Mapping[str, Any], num_samples: int) -> dict[str, Any]:
    """Pad a saved state for a pool that has grown since: the added samples were never visited."""
    more = num_samples - state["num_samples"]
    if more < 0:
        raise ValueError(f"these statistics are of {state['num_samples']} samples, and the pool has {num_samples}")
    if not more:
        return dict(state)
    grown = {name: torch.nn.functional.pad(state[name], (0, more)) for name in (*_COLUMNS, "visits")}
    further = {"further": pad_columns(state["further"], more)} if "further" in state else {}
    return {**state, **grown, **further, "num_samples": num_samples}


def _check_rows(index: Tensor, uncertainty: Tensor, inconsistency: Tensor) -> None:
    """Raise unless there is an index of each row, (B,) int64, and two numbers (B,)."""
    for name, values in (("index", index), ("uncertainty", uncertainty), ("inconsistency", inconsistency)):
        if not isinstance(values, Tensor):
            raise TypeError(f"{name} must be a tensor of shape (B,); got {type(values).__name__}")
    if index.dtype != torch.int64 or index.ndim != 1:
        raise ValueError(
            f"index must be an int64 tensor of shape (B,), pool indices; got {index.dtype} of shape "
            f"{tuple(index.shape)}"
        )
    if uncertainty.shape != index.shape or inconsistency.shape != index.shape:
        raise ValueError(
            f"uncertainty and inconsistency must have one number for each of the {len(index)} indices; got shapes "
            f"{tuple(uncertainty.shape)} and {tuple(inconsistency.shape)}"
        )


def _check_further(further: Tensor | None, kept: FurtherStatistics, rows: int) -> Tensor:
    """Return the observations of the further statistics, (B, W), or raise where there are none."""
    if further is None or further.ndim != 2 or len(further) != rows:
        got = "nothing" if further is None else f"shape {tuple(further.shape)}"
        raise ValueError(
            f"this table keeps {', '.join(kept)}: give update(…, further=…) what table.further.observe("
            f"logits_weak, logits_strong) returned, a row for each of the {rows} indices; got {got}"
        )
    return further


def _check_column(name: str, values: object, dtype: torch.dtype, num_samples: int) -> Tensor:
    """Return a saved column, or raise where its type, shape or numbers are wrong."""
    if not isinstance(values, Tensor) or values.dtype != dtype or values.shape != (num_samples,):
        got = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else repr(values)
        raise ValueError(f"the saved {name} must be {dtype} of shape ({num_samples},); got {got}")
    if not bool((values.isfinite() & (values >= (0 if dtype == torch.int32 else -torch.inf))).all()):
        raise ValueError(f"the saved {name} must be finite, and visits at least 0; they are not")
    return values
