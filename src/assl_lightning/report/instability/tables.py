"""The summary as tables of a report, and as rows of CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan, nan
from statistics import fmean, stdev
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.words import UNKNOWN
from assl_lightning.report.instability.measures import (
    FEWEST_SAMPLES,
    THRESHOLD,
    UNCONFIDENT,
    Reading,
    confident_uncertainty,
)
from assl_lightning.report.instability.summary import NEAR_ZERO, SCORES, TOP, Instability
from assl_lightning.report.views import Table

PAPER = {"inconsistency": (0.5493, 0.4746, 0.4420), "uncertainty": (0.1567, 0.2487, 0.2814)}
"""Lim et al. 2023, Table 1: ranking → share of pseudo-labelled samples in each `TOP`."""

_NEVER_CONFIDENT = confident_uncertainty(num_classes=10)[1]  # the same for any other number

LEGEND = (
    "The shares of Table 1 can be counted in two ways. A: rank the samples anew in each snapshot, and average the "
    "share that is confident in it. B: rank the samples once, by the last snapshot's scores, and average how often "
    "each was confident. The paper states neither the way nor the score; B with the running means is the most likely. "
    "With A, snapshot uncertainties must give about 0 in the top 1 % unless nearly all samples are confident, since "
    f"max p > {THRESHOLD} implies u < {_NEVER_CONFIDENT:.4f}."
)

_MOST_ROWS = 12  # of the table of instability; it has up to T values


def correlation_table(runs: Sequence[Instability]) -> Table:
    """Return Fig. 3b at the start, the middle and the end of training; runs must have snapshots at the same steps."""
    steps = runs[0].steps
    rows = []
    for name, part in zip(("start", "middle", "end"), np.array_split(np.arange(len(steps) - 1), 3), strict=True):
        if len(part):
            period = f"{name}: steps {steps[part[0]]:,} to {steps[part[-1] + 1]:,}"
            cells = (
                _cell([_mean(run.correlation[part]) for run in runs]),
                _cell([_mean(run.correlation_unconfident[part]) for run in runs]),
                _cell([100 * _mean(run.near_zero[part + 1]) for run in runs]),
                _cell([100 * _mean(run.confident[part + 1]) for run in runs]),
            )
            rows.append((period, str(len(part)), *cells))
    header = (
        *("consecutive snapshots", "pairs", "ρ, all samples", f"ρ, u > {UNCONFIDENT} in both"),
        *(f"u < {NEAR_ZERO}, %", f"max p > {THRESHOLD}, %"),
    )
    return Table(_caption("Spearman's ρ of uncertainty (the paper: almost no correlation)", runs), header, tuple(rows))


def share_table(runs: Sequence[Instability]) -> Table:
    """Return Table 1, with the paper's rows among ours."""
    header = ("ranked by", "reading", *(f"top {100 * share:g} %" for share in TOP))
    rows = []
    for kind, published in PAPER.items():
        rows.append((f"{kind}, the paper's", "not stated", *(f"{100 * share:.2f}" for share in published)))
        for name in (name for name in SCORES if name.startswith(kind)):
            for reading in reversed(get_args(Reading)):
                shares = [run.shares[name, reading] for run in runs]
                cells = (_cell([100 * values[column] for values in shares]) for column in range(len(TOP)))
                rows.append((name, reading, *cells))
    everything = _cell([100 * _mean(run.confident) for run in runs])
    rows.append(("all samples", "", *(everything for _ in TOP)))
    return Table(_caption("Pseudo-labelled samples among those with the highest scores, %", runs), header, tuple(rows))


def instability_table(run: Instability) -> Table:
    """Return Fig. 4 in up to a dozen rows, which group neighbouring values of instability."""
    last, average = run.by_instability, run.by_instability_average
    width = -(-len(last.count) // _MOST_ROWS)
    rows = []
    for first in range(0, len(last.count), width):
        part = slice(first, first + width)
        count = int(last.count[part].sum())
        end = min(first + width, len(last.count)) - 1
        values = [f"{first}" if first == end else f"{first} to {end}", f"{count:,}"]
        for by_value in (last, average):
            if count < FEWEST_SAMPLES:
                values.append(UNKNOWN)
                continue
            mean, deviation = _pooled(by_value.count[part], by_value.mean[part], by_value.deviation[part])
            values.append(f"{mean:.3f} ± {deviation:.3f}")
        rows.append(tuple(values))
    caption = (
        f"Uncertainty by total instability, at most {len(run.steps) - 1:,} changes (Spearman's ρ "
        f"{run.instability_correlation:.2f}); {UNKNOWN} below {FEWEST_SAMPLES} samples"
    )
    header = ("instability", "samples", "u of the last snapshot, mean ± s.d.", "u averaged over time, mean ± s.d.")
    return Table(caption, header, tuple(rows))


def csv_files(run: Instability) -> dict[str, list[dict[str, object]]]:
    """Return file name → rows with the same columns; unknown values are empty, shares lie in [0, 1]."""
    return {
        "rank_correlation.csv": list(_correlation_rows(run)),
        "uncertainty_by_instability.csv": list(_instability_rows(run)),
        "pseudo_labelled_share.csv": [
            {
                "score": name,
                "reading": reading,
                **{f"top_{top:g}": _number(share) for top, share in zip(TOP, shares, strict=True)},
            }
            for (name, reading), shares in run.shares.items()
        ],
    }


def _correlation_rows(run: Instability) -> Iterator[dict[str, object]]:
    for index, step in enumerate(run.steps):
        yield {
            "step": int(step),
            "spearman_with_previous": _number(run.correlation[index - 1] if index else nan),
            "spearman_unconfident": _number(run.correlation_unconfident[index - 1] if index else nan),
            "near_zero_share": _number(run.near_zero[index]),
            "confident_share": _number(run.confident[index]),
        }


def _instability_rows(run: Instability) -> Iterator[dict[str, object]]:
    last, average = run.by_instability, run.by_instability_average
    for value in last.instability:
        yield {
            "instability": int(value),
            "samples": int(last.count[value]),
            "is_reliable": bool(last.is_reliable[value]),
            "uncertainty_mean": _number(last.mean[value]),
            "uncertainty_deviation": _number(last.deviation[value]),
            "average_uncertainty_mean": _number(average.mean[value]),
            "average_uncertainty_deviation": _number(average.deviation[value]),
        }


def _pooled(count: NDArray[np.int64], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation over the samples of several groups."""
    found = count > 0
    count, mean, deviation = count[found], mean[found], deviation[found]
    middle = float(np.average(mean, weights=count))
    return middle, float(np.sqrt(np.average(deviation**2 + (mean - middle) ** 2, weights=count)))


def _caption(text: str, runs: Sequence[Instability]) -> str:
    return text if len(runs) == 1 else f"{text}; mean ± s.d. of {len(runs)} runs"


def _cell(values: Sequence[float]) -> str:
    """Write the value of one run, or the mean ± sample s.d. of several, with two digits."""
    if any(isnan(value) for value in values):
        return UNKNOWN
    mean = f"{round(fmean(values), 2) + 0.0:.2f}".replace("-", "−")  # + 0.0: there is no negative zero
    return mean + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of the known values."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else nan


def _number(value: float) -> float | None:
    return None if isnan(value) else float(value)
