"""The summary of a training's instability, from its snapshots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from assl_lightning.learning.snapshot_files import Snapshot
from assl_lightning.report.analysis.overlap import spearman
from assl_lightning.report.instability.measures import (
    THRESHOLD,
    UNCONFIDENT,
    Reading,
    UncertaintyByInstability,
    pseudo_labelled_share,
    rank_correlations,
    total_instability,
    uncertainty_by_instability,
)

NEAR_ZERO = 1e-3
"""Uncertainty that counts as almost zero."""

TOP = (0.01, 0.05, 0.10)
"""The shares of highest scores in the paper's Table 1."""

SCORES: dict[str, Callable[[Snapshot], NDArray[np.floating[Any]]]] = {
    "inconsistency, mean": lambda snapshot: _known(snapshot, snapshot.inconsistency_mean),
    "inconsistency, UCB": lambda snapshot: _known(
        snapshot, snapshot.inconsistency_mean + snapshot.c_i * np.sqrt(snapshot.inconsistency_variance)
    ),
    "uncertainty, mean": lambda snapshot: _known(snapshot, snapshot.uncertainty_mean),
    "uncertainty, UCB": lambda snapshot: _known(
        snapshot, snapshot.uncertainty_mean + snapshot.c_u * np.sqrt(snapshot.uncertainty_variance)
    ),
    "uncertainty, snapshot": lambda snapshot: snapshot.uncertainty,
}
"""The scores by which Table 1 may rank: name → (n,) scores. "mean" is the running mean over training (Eq. 3 and 4)."""


@dataclass(frozen=True)
class Instability:
    """A summary of the T snapshots of n samples of one training."""

    steps: NDArray[np.int64]  # (T,) optimizer steps, the first above 0
    num_samples: int
    last_uncertainties: NDArray[np.float32]  # (2, n) of the last two snapshots (Fig. 3a)
    near_zero: NDArray[np.float64]  # (T,) share of samples with u < `NEAR_ZERO`
    confident: NDArray[np.float64]  # (T,) share with max p > `THRESHOLD`
    correlation: NDArray[np.float64]  # (T − 1,) of each snapshot with the one before (Fig. 3b)
    correlation_unconfident: NDArray[np.float64]  # (T − 1,) where u > `UNCONFIDENT` in both
    by_instability: UncertaintyByInstability  # u of the last snapshot (Fig. 4)
    by_instability_average: UncertaintyByInstability  # u averaged over the snapshots
    instability_correlation: float  # Spearman's ρ of total instability and the last snapshot's u
    shares: dict[
        tuple[str, Reading], NDArray[np.float64]
    ]  # (name in `SCORES`, reading) → share in each `TOP` (Table 1)


def summarise(snapshots: Sequence[Snapshot]) -> Instability:
    """Summarise the snapshots of one training, in order of their steps, without that of the initial weights.

    Raises:
        ValueError: there are fewer than two snapshots of trained weights.
    """
    trained = [snapshot for snapshot in snapshots if snapshot.step > 0]
    if len(trained) < 2:
        raise ValueError(
            f"instability needs two or more snapshots of trained weights, but there is {len(trained)}; lower "
            f"every_n_steps, or train longer"
        )
    uncertainty = np.stack([snapshot.uncertainty for snapshot in trained])  # (T, n)
    confident = np.stack([snapshot.max_probability for snapshot in trained]) > THRESHOLD  # (T, n)
    instability = total_instability(np.stack([snapshot.prediction for snapshot in trained]))
    return Instability(
        steps=np.array([int(snapshot.step) for snapshot in trained]),
        num_samples=uncertainty.shape[1],
        last_uncertainties=uncertainty[-2:],
        near_zero=(uncertainty < NEAR_ZERO).mean(axis=1),
        confident=confident.mean(axis=1),
        correlation=rank_correlations(uncertainty),
        correlation_unconfident=rank_correlations(uncertainty, above=UNCONFIDENT),
        by_instability=uncertainty_by_instability(instability, uncertainty[-1]),
        by_instability_average=uncertainty_by_instability(instability, uncertainty.mean(axis=0, dtype=np.float64)),
        instability_correlation=spearman(instability, uncertainty[-1]),
        shares={
            (name, reading): pseudo_labelled_share(
                np.stack([score(snapshot) for snapshot in trained]), confident, TOP, reading
            )
            for name, score in SCORES.items()
            for reading in get_args(Reading)
        },
    )


def _known(snapshot: Snapshot, values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the values, with NaN for samples that training has not visited yet."""
    return np.where(snapshot.visits > 0, values, np.nan)
