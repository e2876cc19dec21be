"""Rules in regimes: each method's accuracy over the budget, against baselines, and the labels that it needs.

A regime is what runs of one `name` share: the data, the numbers of labels, the share of wrong answers. Differences are
taken seed by seed. In a long tail accuracy is the mean over the classes of the accuracy within each, elsewhere the
share of the test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.words import listed
from assl_lightning.report.analysis.comparison import (
    NonInferiority,
    PairedTest,
    aubc,
    holm,
    non_inferiority,
    paired_t,
)
from assl_lightning.report.analysis.grouping import group
from assl_lightning.report.analysis.labels_needed import LabelsNeeded, labels_needed
from assl_lightning.report.analysis.runs import Accuracy, Method, Run, Setting, accuracies, shared_seeds
from assl_lightning.report.labels_needed.starts import rule_of
from assl_lightning.report.sections.contrasts import LEVEL

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """The comparison that is asked for."""

    baselines: tuple[str, ...] = ("random",)  # of the first of them is the accuracy that the labels are counted for
    share: float = 0.9  # of its last accuracy
    margin: float = 0.02  # of accuracy over the budget that may be lost
    by_directory: bool = False  # methods are called by the directories that their runs lie in


@dataclass(frozen=True)
class Against:
    """A method against a baseline in a regime, over their n common seeds; accuracies in [0, 1]."""

    aubc: PairedTest  # the primary measure: mean accuracy over the budget
    last: PairedTest  # after the last round
    not_worse: NonInferiority
    is_not_worse: bool  # non-inferiority is shown
    holm: float  # p of `aubc`, corrected for the regimes in which this method meets this baseline

    @property
    def verdict(self) -> str:
        """The conclusion on the primary measure, in a few words."""
        if not self.aubc.has_enough_seeds:
            return "too few seeds"
        if self.holm < LEVEL:
            return "better" if self.aubc.interval.mean > 0 else "worse"
        return "not worse" if self.is_not_worse else "open"


@dataclass(frozen=True)
class Result:
    """A method in a regime, over its own seeds."""

    method: str
    aubc: Floats  # (n,) in [0, 1]
    last: Floats  # (n,)
    against: Mapping[str, Against]  # by baseline: those that share a seed with it, and not itself
    needed: LabelsNeeded | None  # None if it shares no seed with the first baseline, or a regime has one round


@dataclass(frozen=True)
class Regime:
    """A regime with the results of its methods."""

    setting: Setting
    which: Accuracy
    results: Mapping[str, Result]  # by method
    rules: Mapping[str, str]  # method → its name without what it says of the start
    baseline: str  # for whose accuracy labels are counted

    @property
    def name(self) -> str:
        """The name of its runs."""
        return self.setting.name


def find_regimes(runs: Sequence[Run], question: Question) -> list[Regime]:
    """Group complete runs by their names, and compare the methods of each; runs that are not complete are left out.

    Raises:
        ValueError: no run is complete, a baseline is in no regime, runs of one name cannot be compared, or directories
            do not tell their methods.
    """
    complete = [run for run in runs if run.is_complete]
    if not complete:
        raise ValueError(f"none of the {len(runs)} runs is complete; go on with them first")
    by_configuration = group(complete, by_name=True)
    settings = [_renamed(setting) for setting in by_configuration] if question.by_directory else by_configuration
    methods = dict.fromkeys(name for setting in settings for name in setting.methods)
    missing = [name for name in question.baselines if name not in methods]
    if missing:
        raise ValueError(f"--baseline {missing[0]}: must be one of the methods: {'; '.join(methods)}")
    rules = [[rule_of(name) for name in setting.methods] for setting in by_configuration]
    pairs = zip(settings, rules, strict=True)
    return _corrected(
        [_regime(setting, dict(zip(setting.methods, of, strict=True)), question) for setting, of in pairs]
    )


def _renamed(setting: Setting) -> Setting:
    """Return the setting with each method called by the directory that its runs lie in: METHOD of METHOD/seed_0."""
    methods: dict[str, Method] = {}
    for method in setting.methods.values():
        names = {run.directory.resolve().parent.name for run in method.runs.values()}
        name = min(names)
        if len(names) > 1 or name in methods:
            raise ValueError(
                f"--by-directory: the runs of a method must lie in one directory, METHOD of METHOD/seed_0, and no "
                f"other method in one of that name; in {setting.name} {method.name} lies in {listed(sorted(names))}"
            )
        methods[name] = replace(method, name=name)
    return replace(setting, methods=methods)


def accuracy_of(setting: Setting) -> Accuracy:
    """Return "balanced" for a pool with a long tail, else "ema"."""
    config = next(setting.runs).config
    return "balanced" if float(config["data"].get("imbalance_factor") or 1) > 1 else "ema"


def _regime(setting: Setting, rules: Mapping[str, str], question: Question) -> Regime:
    which = accuracy_of(setting)
    results = {name: _result(setting, method, which, question) for name, method in setting.methods.items()}
    return Regime(setting, which, results, rules, question.baselines[0])


def _result(setting: Setting, method: Method, which: Accuracy, question: Question) -> Result:
    own = accuracies(method, sorted(method.runs), which)
    others = {name: setting.methods[name] for name in question.baselines if name in setting.methods}
    paired = {name: _paired(method, other, which) for name, other in others.items() if shared_seeds(method, other)}
    against = {
        name: _against(setting.labels, *values, question.margin)
        for name, values in paired.items()
        if name != method.name
    }
    first = paired.get(question.baselines[0])
    has_needed = first is not None and len(setting.labels) > 1
    needed = labels_needed(setting.labels, *first, share=question.share) if first is not None and has_needed else None
    return Result(method.name, aubc(setting.labels, own), own[:, -1], against, needed)


def _paired(method: Method, other: Method, which: Accuracy) -> tuple[Floats, Floats]:
    """Return both methods' accuracies (n, rounds) over their common seeds."""
    seeds = shared_seeds(method, other)
    return accuracies(method, seeds, which), accuracies(other, seeds, which)


def _against(labels: Sequence[int], own: Floats, other: Floats, margin: float) -> Against:
    difference = aubc(labels, own) - aubc(labels, other)
    test, bound = paired_t(difference), non_inferiority(difference, margin)
    return Against(test, paired_t(own[:, -1] - other[:, -1]), bound, bound.is_shown(margin), test.p_value)


def _corrected(regimes: Sequence[Regime]) -> list[Regime]:
    """Correct the p of each method and baseline for the number of regimes in which they meet (Holm)."""
    where: dict[tuple[str, str], list[int]] = {}  # method, baseline → numbers of regimes
    for number, regime in enumerate(regimes):
        for result in regime.results.values():
            for baseline in result.against:
                where.setdefault((result.method, baseline), []).append(number)
    results = [dict(regime.results) for regime in regimes]
    for (method, baseline), numbers in where.items():
        corrected = holm([regimes[number].results[method].against[baseline].holm for number in numbers]).tolist()
        for number, p_value in zip(numbers, corrected, strict=True):
            result = results[number][method]
            against = {**result.against, baseline: replace(result.against[baseline], holm=p_value)}
            results[number][method] = replace(result, against=against)
    return [replace(regime, results=found) for regime, found in zip(regimes, results, strict=True)]
