"""Several methods over the same seeds: mean ± s.d. after each round, and the paired difference to one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from omegaconf import OmegaConf
from scipy.stats import t as student

from assl_lightning.differences import differences
from assl_lightning.records import RoundRecord, read_records

Runs = Mapping[str, Sequence[RoundRecord]]  # seed's directory → its rounds


@dataclass(frozen=True)
class PairedDifference:
    """Mean of the differences seed by seed, in accuracy points (per cent), with its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float
    seeds: int


def read_methods(directories: Sequence[Path]) -> dict[str, dict[str, list[RoundRecord]]]:
    """Method → seed → rounds, from directories that each hold one run directory for each seed.

    Raises:
        ValueError: a directory holds no complete round, two have one name, or seeds have unequal rounds.
    """
    methods: dict[str, dict[str, list[RoundRecord]]] = {}
    for directory in directories:
        runs = {path.parent.name: read_records(path.parent) for path in sorted(directory.glob("*/rounds.jsonl"))}
        if not runs:
            raise ValueError(
                f"{directory} holds no run (no */rounds.jsonl); give directories whose sub-directories are runs, one "
                f"for each seed"
            )
        _check_one_configuration(directory, list(runs))
        if directory.name in methods:
            raise ValueError(f"two directories are named {directory.name}; a method is known by its directory's name")
        methods[directory.name] = runs
    lengths = {f"{name}/{seed}": len(rounds) for name, runs in methods.items() for seed, rounds in runs.items()}
    if len(set(lengths.values())) != 1:
        shortest = min(lengths, key=lambda run: lengths[run])
        raise ValueError(
            f"all runs must have as many rounds to be compared, but {shortest} has {lengths[shortest]} and others have "
            f"up to {max(lengths.values())}; let it finish, or leave it out"
        )
    return methods


def _check_one_configuration(directory: Path, seeds: Sequence[str]) -> None:
    """Only the seed may tell the runs of a method apart, or their mean means nothing."""
    files = [directory / seed / "config.yaml" for seed in seeds]
    configs = [OmegaConf.to_container(OmegaConf.load(file)) for file in files if file.exists()]
    for seed, config in zip(seeds[1:], configs[1:], strict=False):
        found = list(differences(configs[0], config, ignore=("seed", "run_dir", "name", "environment")))
        if found:
            raise ValueError(
                f"{directory} holds runs of several configurations, which have no common mean ({seeds[0]} and {seed}: "
                f"{'; '.join(found)}); give each configuration a directory of its own"
            )


def paired_difference(runs: Runs, reference: Runs) -> PairedDifference:
    """Last round's accuracy (EMA weights) of `runs` minus that of `reference`, over the seeds that both have (≥ 2)."""
    shared = sorted(runs.keys() & reference.keys())
    if len(shared) < 2:
        raise ValueError(f"a paired interval needs two seeds that both methods have; they share {len(shared)}")
    differences = [100 * (runs[seed][-1].test_accuracy_ema - reference[seed][-1].test_accuracy_ema) for seed in shared]
    mean = fmean(differences)
    half = float(student.ppf(0.975, len(shared) - 1)) * stdev(differences) / sqrt(len(shared))
    return PairedDifference(mean, mean - half, mean + half, len(shared))


def markdown_table(methods: Mapping[str, Runs], against: str | None = None) -> str:
    """A row a method: test accuracy (%, EMA weights) as mean ± sample s.d. after each round, in Markdown.

    With `against`, a last column has the paired difference to that method in the last round.
    """
    first = next(iter(next(iter(methods.values())).values()))
    labels = [f"{record.labels:,}" for record in first]
    title = ["labels", *labels] if against is None else ["labels", *labels, f"last round − {against} [95 %]"]
    rows = [title, ["---"] + ["---:"] * (len(title) - 1)]
    for name, runs in methods.items():
        row = [f"{name} (n = {len(runs)})"]
        for rounds in zip(*runs.values(), strict=True):
            values = [100 * record.test_accuracy_ema for record in rounds]
            row.append(f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else ""))
        if against is not None:
            row.append("" if name == against else _difference(paired_difference(runs, methods[against])))
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _difference(found: PairedDifference) -> str:
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"
