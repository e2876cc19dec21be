"""`python -m assl_lightning.report.instability RUN_DIR …`: the paper's Fig. 3, Fig. 4 and Table 1; needs no torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from assl_lightning.base.atomic import write_text
from assl_lightning.base.command_line import as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import CONFIG
from assl_lightning.learning.snapshot_files import DIRECTORY, read_snapshots
from assl_lightning.loop.records import KEYS_WITHOUT_EFFECT, PROVENANCE_KEYS, read_config
from assl_lightning.report.analysis.runs import own_leaves
from assl_lightning.report.instability.figures import (
    plot_rank_correlations,
    plot_uncertainty_by_instability,
    plot_uncertainty_histogram,
)
from assl_lightning.report.instability.summary import Instability, summarise
from assl_lightning.report.instability.tables import (
    LEGEND,
    correlation_table,
    csv_files,
    instability_table,
    share_table,
)
from assl_lightning.report.markdown import render_markdown
from assl_lightning.report.tidy import rows_as_csv
from assl_lightning.report.views import Page, Paragraph, Section


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, draw the figures and write the numbers."""
    parser = argparse.ArgumentParser(
        prog="python -m assl_lightning.report.instability",
        description="Temporal instability of runs that were trained with the callback PoolSnapshots: tables in "
        "Markdown, figures as PNG, numbers as CSV.",
    )
    parser.add_argument(
        "run_dir", nargs="+", type=path_argument, help="what a run wrote, such as runs/instability/seed_0"
    )
    parser.add_argument(
        "--output",
        type=path_argument,
        help="where figures and numbers go, in a directory for each run; default: report/instability in the run's own",
    )
    options = parser.parse_args(arguments)
    sys.stdout.write(render_markdown(analyse(options.run_dir, options.output)))


def analyse(run_dirs: Sequence[Path], output: Path | None = None) -> Page:
    """The tables of each training of each run, and of runs of one kind together; figures and numbers are written.

    Raises:
        ValueError: a directory holds no snapshots, or too few, or two would write to the same place.
    """
    places = {run_dir: _place(run_dir, output) for run_dir in run_dirs}
    if len(set(places.values())) < len(run_dirs):
        names = ", ".join(str(run_dir) for run_dir in run_dirs)
        raise ValueError(f"{names}: under --output each run needs a name of its own; leave --output out")
    sections = []
    alike: dict[tuple[str, int, tuple[int, ...], str], list[Instability]] = defaultdict(list)
    for run_dir in run_dirs:
        for name, directory in _trainings(run_dir):
            summary = _summarise(directory)
            place = places[run_dir] / name.replace(" ", "_")
            _write(summary, place)
            sections.append(_section(f"{run_dir}, {name} weights", summary, place))
            alike[name, summary.num_samples, tuple(summary.steps.tolist()), _kind(run_dir)].append(summary)
    sections += [_common_section(name, runs) for (name, *_), runs in alike.items() if len(runs) > 1]
    lead = (
        "How unlabelled samples fare while a network trains: Lim et al. 2023, §3.3 and 3.5, Fig. 3, Fig. 4 and Table 1."
    )
    return Page("Temporal instability", (lead, LEGEND), tuple(sections))


def _place(run_dir: Path, output: Path | None) -> Path:
    return run_dir / "report" / "instability" if output is None else output / run_dir.resolve().name


def _kind(run_dir: Path) -> str:
    """What runs that are averaged must share: all of config.yaml but the seed, or the directory where there is none."""
    if not (run_dir / CONFIG).exists():
        return str(run_dir)
    ignore = ("seed", "name", *PROVENANCE_KEYS, *KEYS_WITHOUT_EFFECT)
    return json.dumps(sorted(own_leaves(read_config(run_dir), ignore)), default=str)


def _trainings(run_dir: Path) -> Iterator[tuple[str, Path]]:
    """Name and directory of each training's snapshots, below a run's directory or a Trainer's."""
    found = sorted([*run_dir.glob(f"{DIRECTORY}/*/"), *run_dir.glob(f"round_*/{DIRECTORY}/*/")])
    if not found:
        raise ValueError(
            f"{run_dir} holds no snapshots (no round_*/{DIRECTORY}); name a run that was trained with the callback "
            f"PoolSnapshots, such as that of +experiment=instability_small"
        )
    for directory in found:
        is_round = directory.parent.parent != run_dir
        yield f"{directory.parent.parent.name} {directory.name}" if is_round else directory.name, directory


def _summarise(directory: Path) -> Instability:
    snapshots = read_snapshots(directory)
    try:
        return summarise(snapshots)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error


def _section(title: str, summary: Instability, place: Path) -> Section:
    steps = summary.steps
    facts = Paragraph(
        f"{len(steps)} snapshots of {summary.num_samples:,} unlabelled samples, steps {steps[0]:,} to {steps[-1]:,}. "
        f"Figures and numbers: {place}"
    )
    return Section(title, (facts, correlation_table([summary]), share_table([summary]), instability_table(summary)))


def _common_section(name: str, runs: Sequence[Instability]) -> Section:
    return Section(f"{len(runs)} runs, {name} weights", (correlation_table(runs), share_table(runs)))


def _write(summary: Instability, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, rows in csv_files(summary).items():
        write_text(place / name, rows_as_csv(rows))
    before, last = summary.steps[-2:].tolist()
    uncertainties = dict(zip((before, last), summary.last_uncertainties, strict=True))
    plot_uncertainty_histogram(uncertainties, place / "uncertainty_histogram.png")
    plot_rank_correlations(
        summary.steps[1:], summary.correlation, summary.correlation_unconfident, place / "rank_correlation.png"
    )
    table = summary.by_instability
    plot_uncertainty_by_instability(
        table.count, table.mean, table.deviation, table.is_reliable, place / "uncertainty_by_instability.png"
    )


if __name__ == "__main__":
    sys.exit(main())
