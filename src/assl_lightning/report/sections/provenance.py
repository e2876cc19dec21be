"""The section on configurations: the settings that methods share, those in which they differ, and the versions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from assl_lightning.base.words import UNKNOWN, counted, from_to
from assl_lightning.loop.records import FORMER_KEYS, PROVENANCE_KEYS
from assl_lightning.report.analysis.grouping import own_leaves
from assl_lightning.report.analysis.runs import Run, Setting
from assl_lightning.report.views import Block, Fold, Paragraph, Table

NOT_SHOWN = ("seed", "run_dir", *PROVENANCE_KEYS, *FORMER_KEYS)  # different for each run, or shown under versions


def provenance_blocks(setting: Setting) -> tuple[Block, ...]:
    """Show the runs, the settings in which several methods differ, those that all share, and the versions."""
    settings = {name: flattened(method.config) for name, method in setting.methods.items()}
    keys = list(dict.fromkeys(key for values in settings.values() for key in values))
    common = [key for key in keys if len({values.get(key) for values in settings.values()}) == 1]
    different = [key for key in keys if key not in common]
    first = next(iter(settings.values()))
    rows = tuple((key, *(values.get(key, UNKNOWN) for values in settings.values())) for key in different)
    shared = Table(
        "Settings of all methods", ("key", "value"), tuple((key, first[key]) for key in common), is_text=True
    )
    runs = list(setting.runs)
    differing: Block = Table("Settings in which methods differ", ("key", *settings), rows, is_text=True)
    if not rows:
        differing = Paragraph("All runs have the same configuration except for the seed.")
    if len(setting.methods) == 1:
        return _seeds_table(setting), Fold(f"Settings: {counted(len(common), 'key')}", (shared,)), versions_table(runs)
    return (
        _seeds_table(setting),
        Fold(f"Settings that differ: {counted(len(different), 'key')}", (differing,)),
        Fold(f"Settings of all methods: {counted(len(common), 'key')}", (shared,)),
        versions_table(runs),
    )


def flattened(config: Mapping[str, Any]) -> dict[str, str]:
    """Return dotted key → value as JSON, without keys that differ in every run."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in own_leaves(config, NOT_SHOWN)
    }


def _seeds_table(setting: Setting) -> Table:
    rows = []
    for method in setting.methods.values():
        total = from_to([run.total_steps for run in method.runs.values()])
        rows.append((method.name, ", ".join(map(str, sorted(method.runs))), f"{len(setting.labels)}", total))
    return Table("Runs", ("method", "seeds", "trainings", "total steps"), tuple(rows), is_text=True)


def versions_table(runs: Sequence[Run]) -> Table:
    """Return the versions at the start of the runs; if they differ, with the number of runs of each."""
    names = list(dict.fromkeys(name for run in runs for name in run.environment))
    rows = []
    for name in names:
        counts = Counter(run.environment.get(name) or "unknown" for run in runs)
        values = [
            value if len(counts) == 1 else f"{value} ({counted(count, 'run')})"
            for value, count in sorted(counts.items())
        ]
        rows.append((name, "; ".join(values)))
    return Table(f"Versions ({counted(len(runs), 'run')})", ("package", "version"), tuple(rows), is_text=True)
