"""The section on scores: the distribution of each statistic over the pool and over the queried samples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from assl_lightning.base.run_files import HISTOGRAMS, round_directory
from assl_lightning.report.analysis.runs import Run, Setting
from assl_lightning.report.drawing import COLOURS, INK, new_figure, plain, quieten, svg, wrapped
from assl_lightning.report.views import Block, Illustration


@dataclass(frozen=True)
class Histogram:
    """The numbers of samples in B bins."""

    edges: NDArray[np.float64]  # (B + 1,), ascending
    pool: NDArray[np.float64]  # (B,) counts of the candidates
    queried: NDArray[np.float64]  # (B,) counts of the queried samples


def read_histograms(path: Path) -> dict[str, Histogram]:
    """Read statistic → histogram.

    Raises:
        ValueError: the file does not hold histograms.
    """
    try:
        content = json.loads(path.read_text())
        found = {
            name: Histogram(*(np.asarray(parts[key], dtype=np.float64) for key in ("edges", "pool", "queried")))
            for name, parts in content.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must map names to edges, pool and queried ({type(error).__name__}: {error}); remove it"
        ) from None
    for name, histogram in found.items():
        _check_lists(path, name, histogram)
        bins = len(histogram.edges) - 1
        if not len(histogram.pool) == len(histogram.queried) == bins:
            raise ValueError(
                f"{path}: {name} has {len(histogram.edges)} edges, so pool and queried must have {bins} counts, but "
                f"have {len(histogram.pool)} and {len(histogram.queried)}; remove the file"
            )
        if (np.diff(histogram.edges) < 0).any() or min(histogram.pool.min(), histogram.queried.min()) < 0:
            raise ValueError(f"{path}: {name} must have ascending edges and counts of at least 0; remove the file")
    return found


def _check_lists(path: Path, name: str, histogram: Histogram) -> None:
    parts = (histogram.edges, histogram.pool, histogram.queried)
    if any(part.ndim != 1 or not np.isfinite(part).all() for part in parts) or len(histogram.edges) < 2:
        raise ValueError(f"{path}: {name} must have edges, pool and queried that are lists of numbers; remove the file")


def histogram_blocks(setting: Setting, seeds: dict[str, int]) -> tuple[Block, ...]:
    """Show the histograms of each method's last query, of one seed; or nothing if there are none."""
    found = {
        name: (number, histograms)
        for name, method in setting.methods.items()
        if (last := last_histograms(method.runs[seeds[name]])) is not None
        for number, histograms in [last]
    }
    if not found:
        return ()
    rounds = ", ".join(f"{name}: round {number}, seed {seeds[name]}" for name, (number, _) in found.items())
    caption = f"Grey: the pool at the last query. Line: the queried samples. Each sums to 1 ({rounds})."
    alternative = "Histograms of each statistic, for each method: the pool, and the samples that were queried."
    histograms = {name: last for name, (_, last) in found.items()}
    return (Illustration(svg(draw_histograms(histograms)), alternative, caption, is_wide=True),)


def last_histograms(run: Run) -> tuple[int, dict[str, Histogram]] | None:
    """Return the last round with histograms, and these; None if no round has any."""
    for record in reversed(run.records):
        path = round_directory(run.directory, record.round) / HISTOGRAMS
        if run.has_withdrawn(record):
            continue
        if path.exists() and (found := read_histograms(path)):
            return record.round, found
    return None


def draw_histograms(methods: dict[str, dict[str, Histogram]]) -> Figure:
    """Draw a row for each method and a column for each statistic; every panel has its own bins."""
    names = list(dict.fromkeys(name for histograms in methods.values() for name in histograms))
    figure = new_figure(max(6.4, 1.9 * len(names)), 0.4 + 1.25 * len(methods))
    grid = figure.subplots(len(methods), len(names), squeeze=False)
    labels = wrapped(methods, width=18)
    for row, label, histograms in zip(grid, labels, methods.values(), strict=True):
        row[0].set_ylabel(label, color=INK, fontsize=8)
        for axes, name in zip(row, names, strict=True):
            _draw(axes, histograms.get(name))
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(plain(name.replace("_", " ")), fontsize=8, color=INK, loc="left")
    return figure


def _draw(axes: Axes, histogram: Histogram | None) -> None:
    axes.set_yticks([])
    quieten(axes, frame=("bottom",), grid=None, label_size=7)
    if histogram is None:
        axes.set_xticks([])
        return
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.stairs(_shares(histogram.pool), histogram.edges, fill=True, color="#CFCFCF")
    axes.stairs(_shares(histogram.queried), histogram.edges, color=COLOURS[0], linewidth=1.4)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return counts / max(float(counts.sum()), 1.0)
