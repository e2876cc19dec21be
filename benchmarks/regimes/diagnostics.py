"""`python -m benchmarks.regimes.diagnostics DIRECTORY …`: why a rule is better or worse, round by round.

For each training of each run: the classes that have no label, how much of the pool the labels cover, and the share of
the last query that repeats what has a label. For each statistic of a sample: does it tell which predictions are wrong,
among the picks of the queries, and in the whole pool after the last training? All is read from the files of the runs,
and from their data, which are loaded again.

Runs that `restore` made have no such files: of the methods and regimes that they belong to, the numbers in the output
directory are kept.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import TypeVar, get_type_hints

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from assl_lightning.base.atomic import write_text
from assl_lightning.base.command_line import as_command
from assl_lightning.base.csv_text import rows_as_csv
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import POOL, QUERIED, STATISTICS, round_directory
from assl_lightning.base.tensor_files import load
from assl_lightning.config.classifier import load_classifier
from assl_lightning.config.prepare import load_source
from assl_lightning.config.reading import read_written
from assl_lightning.method.coverage import covered_by, half_covering_width, unit_vectors
from assl_lightning.method.statistics import SampleStatistics
from assl_lightning.report.analysis.runs import Run, find_runs
from assl_lightning.report.markdown import markdown_table
from assl_lightning.report.views import Table
from benchmarks.regimes.near_copies import LIKE
from benchmarks.restore import FROM_RESULTS

ROUNDS, AUROCS = "diagnostics.csv", "auroc.csv"
PICKS, LEFT = "picks", "left"

_COMPONENTS = 50
_NUMBERS = ("classes without a label", "coverage", "near copies")
_OF_PICKS = ("uncertainty_mean", "inconsistency_mean", "score")
_OF_POOL = ("uncertainty_mean", "inconsistency_mean", "uncertainty UCB", "inconsistency UCB", "both UCB", "1 − margin")
_AT_ONCE = 1000  # images


Row = TypeVar("Row")


@dataclass(frozen=True)
class Data:
    """What the runs of a regime have in common."""

    images: Tensor  # (N, channels, height, width) uint8
    labels: Tensor  # (N,) int64, the true ones
    num_classes: int
    vectors: Tensor  # (N, d) float64 of length 1, of the pixels
    width: float  # of the kernel by which labels cover the pool
    group: Tensor  # (N,) int64, the same for an image and its near copies


@dataclass(frozen=True)
class Training:
    """One training of a run."""

    regime: str
    method: str
    seed: int
    round: int
    labels: int
    missing: int  # classes without a label
    coverage: float  # in [0, 1]
    near_copies: float  # share of the labels of the last query that are near copies of others before; NaN in round 0

    @property
    def numbers(self) -> tuple[float, ...]:
        """Those in the order of `_NUMBERS`."""
        return (self.missing, self.coverage, self.near_copies)


def pixel_vectors(images: Tensor, components: int = _COMPONENTS) -> Tensor:
    """Return the pixels' principal components of images (N, channels, height, width) as unit vectors (N, d) float64."""
    pixels = images.flatten(1).double()
    centred = pixels - pixels.mean(0)
    axes = torch.linalg.eigh(centred.T @ centred)[1][:, -components:]
    return unit_vectors(centred @ axes, torch.arange(len(images)))


def groups_of(sample_ids: Sequence[str]) -> Tensor:
    """Return (N,) int64: the number of the original, for a near copy (see `near_copies`), else the sample's own."""
    number = {name.partition(LIKE)[0]: index for index, name in enumerate(sample_ids)}
    return torch.tensor([number[name.rpartition(LIKE)[2] or name] for name in sample_ids])


def repeated_share(earlier: Tensor, batch: Tensor) -> float:
    """Return the share of the groups in `batch` (K,) that are in `earlier` or stand before in `batch`; NaN for none."""
    seen = set(earlier.tolist())
    repeated = 0
    for group in batch.tolist():
        repeated += group in seen
        seen.add(group)
    return repeated / len(batch) if len(batch) else nan


def auroc_within(queries: Sequence[tuple[Sequence[float], Sequence[bool]]]) -> tuple[float, int]:
    """Return the AUROC of weights for wrong predictions, and the number of pairs that it is the mean of.

    A query has the weights of samples, and whether the prediction of each was wrong. Pairs of a wrong and a right
    prediction are taken within a query, since weights of two models cannot be compared; an equal pair counts one half.
    Samples without a weight (NaN) are left out. 0.5: the weight says nothing; NaN: there is no pair.
    """
    won, pairs = 0.0, 0
    for weights, wrong in queries:
        values = np.asarray(weights, float)
        is_known, is_wrong = ~np.isnan(values), np.asarray(wrong, bool)
        ranks = rankdata(values[is_known])[is_wrong[is_known]]  # Mann and Whitney's U
        others = int(is_known.sum()) - len(ranks)
        won += float(ranks.sum()) - len(ranks) * (len(ranks) + 1) / 2
        pairs += len(ranks) * others
    return (won / pairs if pairs else nan), pairs


def read_data(run: Run) -> Data:
    """Load the data of a run again."""
    source = load_source(read_written(run.config))
    images = source.pool_images[torch.arange(len(source.pool_images))]
    vectors = pixel_vectors(images)
    width = half_covering_width(vectors, run.records[-1].labels)
    return Data(images, source.hidden_labels, len(source.class_names), vectors, width, groups_of(source.sample_ids))


def trainings(run: Run, method: str, data: Data) -> Iterator[Training]:
    """Yield the diagnostics of each training."""
    for record in run.records:
        pool = load(round_directory(run.directory, record.round) / POOL)
        since = pool["labelled_in_round"]
        labelled = (since >= 0).nonzero()[:, 0]
        answers = pool["labels"][labelled]
        new = since[labelled] == record.round
        yield Training(
            regime=str(run.config["name"]),
            method=method,
            seed=run.seed,
            round=record.round,
            labels=len(labelled),
            missing=data.num_classes - len(answers.unique()),
            coverage=float(covered_by(data.vectors, data.vectors[labelled], data.width).mean()),
            near_copies=repeated_share(data.group[labelled[~new]], data.group[labelled[new]]) if record.round else nan,
        )


Key = tuple[str, str]
"""A regime and a method."""

Query = dict[str, tuple[list[float], list[bool]]]
"""Statistic → its value for each sample, and whether the prediction of the sample was wrong."""


def queries(run: Run, data: Data) -> Iterator[Query]:
    """Yield each query of a run whose picks have recorded predictions."""
    for record in run.records:
        path = round_directory(run.directory, record.round) / QUERIED
        if record.queried and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if row["prediction"]]
            wrong = [int(row["prediction"]) != int(data.labels[int(row["index"])]) for row in rows]
            yield {name: ([float(row[name] or nan) for row in rows], wrong) for name in _OF_PICKS}


def last_pool(run: Run, data: Data) -> Query:
    """Return the statistics of the unlabelled samples after the last training, for the averaged weights' predictions.

    The bounds (UCB) are those of the run's own `score.c_u` and `score.c_i`. Samples that training never visited have no
    running statistics.
    """
    last = round_directory(run.directory, run.records[-1].round)
    left = (load(last / POOL)["labelled_in_round"] < 0).nonzero()[:, 0]
    classifier = load_classifier(run.directory)
    with torch.inference_mode():
        logits = [classifier.network(classifier.normalise(images)) for images in data.images[left].split(_AT_ONCE)]
    probabilities = torch.cat(logits).softmax(1)
    highest, second = probabilities.topk(2, dim=1).values.T
    weights = {_OF_POOL[-1]: 1 - (highest - second)}
    if (last / STATISTICS).exists():
        state = load(last / STATISTICS)
        statistics = SampleStatistics(int(state["num_samples"]), alpha=state["alpha"], variance=state["variance"])
        statistics.load_state_dict(state)
        c_u, c_i = (float(run.config["score"][name]) for name in ("c_u", "c_i"))
        values = (
            *(statistics.uncertainty_mean, statistics.inconsistency_mean),
            *(statistics.uncertainty_ucb(c_u), statistics.inconsistency_ucb(c_i), statistics.score(c_u, c_i)),
        )
        never = statistics.visits == 0
        weights |= {name: value.masked_fill(never, nan)[left] for name, value in zip(_OF_POOL, values, strict=False)}
    wrong = (probabilities.argmax(1) != data.labels[left]).tolist()
    return {name: (weights[name].tolist() if name in weights else [nan] * len(left), wrong) for name in _OF_POOL}


def round_tables(found: Sequence[Training]) -> Iterator[Table]:
    """Yield a table for each regime and number: a row for each method, a column for each training; means over seeds.

    A number that is 0 everywhere, as that of near copies where there are none, has no table.
    """
    regimes = dict.fromkeys(training.regime for training in found)
    for regime in regimes:
        members = [training for training in found if training.regime == regime]
        labels = sorted({training.labels for training in members})
        for position, number in enumerate(_NUMBERS):
            values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
            for training in members:
                values[training.method][training.labels].append(training.numbers[position])
            rows = [(name, *(_mean(by_labels[count]) for count in labels)) for name, by_labels in values.items()]
            if any(training.numbers[position] > 0 for training in members):
                caption = f"{regime}: {number}, by labels, means over seeds"
                yield Table(caption, ("method", *map(str, labels)), tuple(rows))


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if not isnan(value)]
    return f"{fmean(known):.2f}" if known else ""


@dataclass(frozen=True)
class Auroc:
    """How well a statistic tells the wrong predictions of the runs of a method in a regime."""

    of: str  # `PICKS` of the queries, or the `LEFT` of the pool after the last training
    regime: str
    method: str
    statistic: str
    auroc: float  # in [0, 1]; NaN if there is no pair
    pairs: int


def aurocs(of: str, key: Key, found: Sequence[Query], names: Sequence[str]) -> list[Auroc]:
    """Return the AUROC of each statistic in `names` over the queries `found` of a regime and method."""
    return [Auroc(of, *key, name, *auroc_within([query[name] for query in found])) for name in names]


def auroc_table(found: Sequence[Auroc], caption: str) -> Table:
    """Return a row for each regime and method: each statistic's AUROC for wrong predictions, and the pairs for it."""
    names = dict.fromkeys(value.statistic for value in found)
    rows: dict[Key, list[str]] = defaultdict(list)
    for value in found:
        rows[value.regime, value.method].append(f"{value.auroc:.3f} ({value.pairs:,})" if value.pairs else "")
    ordered = tuple((*key, *cells) for key, cells in sorted(rows.items()))
    return Table(caption, ("regime", "method", *names), ordered)


def read_earlier(output: Path, kept: Collection[Key]) -> tuple[list[Training], list[Auroc]]:
    """Read what was written of the regimes and methods in `kept`."""
    return (
        [row for row in _read(output / ROUNDS, Training) if (row.regime, row.method) in kept],
        [row for row in _read(output / AUROCS, Auroc) if (row.regime, row.method) in kept],
    )


def _read(path: Path, kind: type[Row]) -> list[Row]:
    if not path.exists():
        return []
    types = get_type_hints(kind)
    with path.open(newline="", encoding="utf-8") as file:
        return [kind(**{name: types[name](value) for name, value in row.items()}) for row in csv.DictReader(file)]


def _write(path: Path, rows: Sequence[Training | Auroc]) -> None:
    write_text(path, rows_as_csv([vars(row) for row in rows]))


OF_PICKS = (
    "AUROC of each statistic for wrong predictions, over pairs of picks of one query (number of pairs); without bias "
    "for random alone, whose picks are a uniform sample of the pool"
)
OF_POOL = (
    "AUROC of each statistic for the averaged weights' wrong predictions of unlabelled samples, after the last "
    "training, over pairs in one run (number of pairs)"
)


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write them and the numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regimes.diagnostics", description=__doc__)
    parser.add_argument(
        "directories", nargs="+", type=path_argument, help="runs REGIME/METHOD/seed_0, or what is above"
    )
    parser.add_argument("--output", type=path_argument, required=True, help="directory of diagnostics.md and .csv")
    options = parser.parse_args(arguments)
    runs: dict[Key, list[Run]] = defaultdict(list)
    for run in find_runs(options.directories):
        runs[str(run.config["name"]), run.directory.resolve().parent.name].append(run)
    kept = [key for key, of_key in runs.items() if any((run.directory / FROM_RESULTS).exists() for run in of_key)]
    found, values = read_earlier(options.output, kept)
    data: dict[str, Data] = {}
    for key in runs.keys() - kept:
        regime, method = key
        if regime not in data:
            data[regime] = read_data(runs[key][0])
        of_regime = data[regime]
        found += [training for run in runs[key] for training in trainings(run, method, of_regime)]
        values += aurocs(LEFT, key, [last_pool(run, of_regime) for run in runs[key]], _OF_POOL)
        values += aurocs(PICKS, key, [query for run in runs[key] for query in queries(run, of_regime)], _OF_PICKS)
    found.sort(key=lambda training: (training.regime, training.method, training.seed, training.round))
    values.sort(key=lambda value: (value.of, value.regime, value.method))
    tables = [
        *round_tables(found),
        auroc_table([value for value in values if value.of == LEFT], OF_POOL),
        auroc_table([value for value in values if value.of == PICKS], OF_PICKS),
    ]
    text = "# Diagnostics\n\n" + "\n\n".join(f"**{table.caption}**\n\n{markdown_table(table)}" for table in tables)
    options.output.mkdir(parents=True, exist_ok=True)
    write_text(options.output / "diagnostics.md", f"{text}\n")
    _write(options.output / ROUNDS, found)
    _write(options.output / AUROCS, values)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
