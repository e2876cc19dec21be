"""What a benchmark gives: figures, each a row of repeats, and the machine that they were measured on."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch

Bound = Literal["≤", "≥"]

_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "numba", "pillow", "hydra-core")


@dataclass(frozen=True)
class Target:
    """What the median of a figure is to be: at most or at least so much."""

    bound: Bound
    value: float

    def is_met(self, value: float) -> bool:
        return value <= self.value if self.bound == "≤" else value >= self.value


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, once a repeat.

    Attributes:
        section: which benchmark, such as "step".
        what: what was measured.
        size: at which sizes.
        unit: "s", "ms", "B", "×", "1/s" …
        values: one number a repeat; none where it could not be measured on this device.
        target: what the median should be, where the project has set itself a bound.
        note: what a reader must know to read the number.
    """

    section: str
    what: str
    size: str
    unit: str
    values: tuple[float, ...]
    target: Target | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lower and the upper quartile; the least and the largest where there are fewer than four repeats."""
        if len(self.values) < 4:
            return min(self.values), max(self.values)
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Machine:
    """Where and with what the figures were measured."""

    name: str
    device: Literal["cpu", "cuda"]
    processor: str
    cores: int
    threads: int
    accelerator: str
    python: str
    packages: dict[str, str]
    commit: str
    at: str


def this_machine(device: torch.device) -> Machine:
    """What this process runs on, named by its processor or its accelerator."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    threads = torch.get_num_threads()
    described = accelerator if device.type == "cuda" else f"{_processor()} {threads} threads"
    return Machine(
        name=re.sub(r"[^a-z0-9]+", "-", described.lower().replace("(r)", "")).strip("-"),
        device="cuda" if device.type == "cuda" else "cpu",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=threads,
        accelerator=accelerator,
        python=platform.python_version(),
        packages={package: _version(package) for package in _PACKAGES},
        commit=_commit(),
        at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def as_json(machine: Machine, figures: Sequence[Figure]) -> str:
    """Everything that was measured, every repeat of it."""
    rows = [
        asdict(figure) | ({"median": figure.median, "spread": figure.spread} if figure.values else {})
        for figure in figures
    ]
    return json.dumps({"machine": asdict(machine), "figures": rows}, indent=1, ensure_ascii=False) + "\n"


def as_markdown(machine: Machine, figures: Sequence[Figure]) -> str:
    """A table a section: median, spread, repeats, and whether the target was met."""
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    lines = [
        f"# {machine.name}",
        "",
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads; accelerator: {machine.accelerator}. "
        f"Python {machine.python}, {packages}. Commit {machine.commit}, {machine.at}.",
        "",
        "The spread: lower to upper quartile; of fewer than four repeats, least to largest.",
    ]
    for section, members in groupby(figures, key=lambda figure: figure.section):
        lines += [
            "",
            f"## {section}",
            "",
            "| figure | size | median | spread | n | target |",
            "|---|---|--:|--:|--:|---|",
        ]
        found = list(members)
        lines += [_row(figure) for figure in found]
        notes = dict.fromkeys(figure.note for figure in found if figure.note)
        lines += [""] * bool(notes) + [f"{note}  " for note in notes]
    return "\n".join(line.rstrip() if not line.endswith(".  ") else line.rstrip() + "  " for line in lines) + "\n"


def write(directory: Path, machine: Machine, figures: Sequence[Figure]) -> tuple[Path, Path]:
    """The Markdown and the JSON file, named by the machine."""
    markdown, data = directory / f"{machine.name}.md", directory / f"{machine.name}.json"
    markdown.write_text(as_markdown(machine, figures), encoding="utf-8")
    data.write_text(as_json(machine, figures), encoding="utf-8")
    return markdown, data


def number(value: float) -> str:
    """Three figures that count, thousands apart.

    >>> [number(value) for value in (0.0123456, 1.25, 59612.3, 0)]
    ['0.0123', '1.25', '59,600', '0']
    """
    if value == 0:
        return "0"
    digits = 2 - int(f"{value:e}".partition("e")[2])
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def _row(figure: Figure) -> str:
    target = "" if figure.target is None else f"{figure.target.bound} {number(figure.target.value)}"
    if not figure.values:
        return f"| {figure.what} | {figure.size} | not measured | | 0 | {target} |"
    if figure.target is not None:
        target += ": met" if figure.target.is_met(figure.median) else ": **missed**"
    low, high = figure.spread
    return (
        f"| {figure.what} | {figure.size} | {number(figure.median)} {figure.unit} | {number(low)} – {number(high)} "
        f"| {len(figure.values)} | {target} |"
    )


def _processor() -> str:
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    """The short hash, with a plus where the tree was changed since."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
