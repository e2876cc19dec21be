"""How well the picks of `acquisition=power` tell the accuracy on the pool, on digits, where it is known.

    python -m benchmarks.picked_accuracy runs/picked_accuracy --seeds 8

A run of each seed: ten random labels, then ten picks after each of four trainings. What the picks
say of the accuracy of the network that picked them is compared with its accuracy on all that it could pick, whose
labels are known here. From each network's scores picks are also drawn many times anew. Runs that are there already are
not made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from torch import Tensor

from assl_lightning.acquisition import Acquisition, Candidates, PowerSampling, RandomSampling, Selection
from assl_lightning.base.paths import path_argument
from assl_lightning.data import load_digits
from assl_lightning.loop.records import read_records
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Requirement
from assl_lightning.report.markdown import markdown_table
from assl_lightning.report.views import Table
from assl_lightning.stopping import PickedAccuracy, lure_weights

_STATISTICS = ("uncertainty_mean", "uncertainty_variance", "inconsistency_mean", "inconsistency_variance", "visits")


@dataclass(frozen=True)
class WatchedPower:
    """Power sampling that also writes the statistics and the prediction of every candidate into `directory`."""

    directory: str
    requires = frozenset[Requirement]({"statistics", "logits"})

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select what `PowerSampling()` selects."""
        statistics = candidates.require("statistics")
        columns = {name: getattr(statistics, name).cpu().numpy() for name in _STATISTICS}
        prediction = candidates.require("logits").argmax(1).cpu().numpy()
        path = Path(self.directory) / f"candidates_{len(candidates)}.npz"
        np.savez(path, index=candidates.index.numpy(), prediction=prediction, **columns)
        return PowerSampling().acquire(candidates, budget, generator)


@dataclass(frozen=True)
class Network:
    """A trained network and its query."""

    candidates: Candidates
    wrong: Tensor  # (M,) bool, whether it takes the candidate for another class
    picked: PickedAccuracy  # of the query that was made

    @property
    def accuracy(self) -> float:
        """The accuracy on all candidates."""
        return 1 - self.wrong.double().mean().item()

    def drawn_anew(self, strategy: Acquisition, budget: int, seed: int) -> PickedAccuracy:
        """Return what another draw would have said."""
        return self._picked(strategy.acquire(self.candidates, budget, torch.Generator().manual_seed(seed)))

    def _picked(self, selection: Selection) -> PickedAccuracy:
        assert selection.pick_probabilities is not None
        weights = lure_weights(selection.pick_probabilities.tolist(), len(self.candidates))
        wrong = self.wrong[torch.searchsorted(self.candidates.index, selection.index)]
        return PickedAccuracy(weights, tuple(wrong.tolist()))


def make_run(run_dir: Path, seed: int) -> None:
    """Make one run, or go on with it."""
    watched = _watched(run_dir)
    watched.mkdir(parents=True, exist_ok=True)
    settings = (
        "+experiment=digits_short",
        "acquisition=power",
        "acquisition.weights=ema",
        "acquisition.strategy._target_=benchmarks.picked_accuracy.WatchedPower",
        f"+acquisition.strategy.directory={watched.resolve()}",
        f"seed={seed}",
        f"run_dir={run_dir}",
    )
    subprocess.run([sys.executable, "-m", "assl_lightning", *settings], check=True)


def read_networks(run_dir: Path) -> Iterator[Network]:
    """Yield the networks of a run's queries, in order."""
    labels = load_digits().hidden_labels
    for record in read_records(run_dir):
        if not record.queried:
            continue
        with np.load(_watched(run_dir) / f"candidates_{record.candidates}.npz") as file:
            index, prediction, *columns = (
                torch.from_numpy(file[name]) for name in ("index", "prediction", *_STATISTICS)
            )
        wrong = prediction != labels[index]
        picks = torch.searchsorted(index, torch.tensor(record.queried))
        weights = lure_weights(record.pick_probabilities, len(index))
        picked = PickedAccuracy(weights, tuple(wrong[picks].tolist()))
        yield Network(Candidates(index, CandidateStatistics(*columns)), wrong, picked)


def _watched(run_dir: Path) -> Path:
    return run_dir.parent / f"{run_dir.name}_candidates"


def _plain(picked: PickedAccuracy) -> PickedAccuracy:
    """Return the picks as if each weighed the same."""
    return PickedAccuracy((1.0,) * len(picked.weights), picked.wrong)


def _row(name: str, pairs: Sequence[tuple[PickedAccuracy, float]]) -> tuple[str, ...]:
    """Summarise estimates beside the accuracies that they are of, in points."""
    errors = [100 * (picked.accuracy - accuracy) for picked, accuracy in pairs]
    widths = [100 * (picked.interval[1] - picked.interval[0]) for picked, _ in pairs]
    held = [picked.interval[0] <= accuracy <= picked.interval[1] for picked, accuracy in pairs]
    mean = f"{fmean(errors):+.1f} ± {1.96 * stdev(errors) / sqrt(len(errors)):.1f}"
    return name, f"{len(pairs):,}", mean, f"{stdev(errors):.1f}", f"{100 * fmean(held):.1f}", f"{fmean(widths):.0f}"


def table(networks: Sequence[Network], draws: int) -> Table:
    """Compare the estimates of the queries, and of `draws` further draws from each network."""
    made = [(network.picked, network.accuracy) for network in networks]
    rows = [
        _row("the 10 picks of each query: plain mean", [(_plain(picked), accuracy) for picked, accuracy in made]),
        _row("the same: LURE", made),
    ]
    for budget in (10, 50):
        for name, strategy in (("power", PowerSampling()), ("random", RandomSampling())):
            drawn = [
                (network.drawn_anew(strategy, budget, seed), network.accuracy)
                for network in networks
                for seed in range(draws)
            ]
            if name == "power":
                plain = [(_plain(picked), accuracy) for picked, accuracy in drawn]
                rows.append(_row(f"{budget} picks of power, drawn anew: plain mean", plain))
            rows.append(_row(f"{budget} picks of {name}, drawn anew: {'LURE' if name == 'power' else 'mean'}", drawn))
    header = ("estimate", "n", "mean error ± 95 %", "its s.d.", "interval holds, %", "its width")
    return Table("Accuracy by the picks minus accuracy on all candidates, points", header, tuple(rows))


def main() -> None:
    """Make the runs that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("directory", type=path_argument, help="for the runs")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--draws", type=int, default=100, help="further draws from each network")
    options = parser.parse_args()
    networks: list[Network] = []
    for seed in range(options.seeds):
        make_run(options.directory / f"seed_{seed}", seed)
        networks += read_networks(options.directory / f"seed_{seed}")
    accuracies = [network.accuracy for network in networks]
    sys.stdout.write(
        f"{len(networks)} networks of {options.seeds} runs, with accuracies on their candidates from "
        f"{100 * min(accuracies):.1f} to {100 * max(accuracies):.1f} %, {100 * fmean(accuracies):.1f} % on average\n\n"
        f"{markdown_table(table(networks, options.draws))}\n"
    )


if __name__ == "__main__":
    main()
