"""`python -m assl_lightning.report.instability RUN_DIR …`: the paper's Fig. 3, Fig. 4 and Table 1; needs no torch."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from assl_lightning.base.atomic import write_text
from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.csv_text import rows_as_csv
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import CONFIG, require_run
from assl_lightning.learning.snapshot_files import DIRECTORY, read_snapshots
from assl_lightning.loop.records import KEYS_WITHOUT_EFFECT, PROVENANCE_KEYS, read_config
from assl_lightning.report.analysis.grouping import own_leaves
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
from assl_lightning.report.views import Page, Paragraph, Section


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, draw the figures and write the numbers."""
    parser = Parser(
        prog="python -m assl_lightning.report.instability",
        description="Temporal instability of runs that were trained with the callback PoolSnapshots: tables in "
        "Markdown, figures as PNG, numbers as CSV.",
    )
    parser.add_argument(
        "run_dir",
        nargs="+",
        type=path_argument,
        metavar="RUN_DIR",
        help="the directory of a run, such as runs/instability/seed_0",
    )
    parser.add_argument(
        "--output",
        type=path_argument,
        metavar="DIR",
        help="where to write figures and numbers, in a directory for each run; default: report/instability in its own",
    )
    options = parser.parse_args(arguments)
    sys.stdout.write(render_markdown(analyse(options.run_dir, options.output)))


def analyse(run_dirs: Sequence[Path], output: Path | None = None) -> Page:
    """Return the tables of each training, and of equal runs together; write figures and numbers.

    Raises:
        ValueError: a directory holds no snapshots, or too few, or two runs would write to the same directory.
    """
    run_dirs = list(dict.fromkeys(run_dirs))
    outputs = {run_dir: _output_of(run_dir, output) for run_dir in run_dirs}
    if len(set(outputs.values())) < len(run_dirs):
        names = ", ".join(str(run_dir) for run_dir in run_dirs)
        raise ValueError(f"{names}: under --output each run needs a name of its own; leave --output out")
    sections = []
    alike: dict[tuple[str, int, tuple[int, ...], str], list[Instability]] = defaultdict(list)
    for run_dir in run_dirs:
        for name, directory in _trainings(run_dir):
            summary = _summarise(directory)
            target = outputs[run_dir] / name.replace(" ", "_")
            _write(summary, target)
            sections.append(_section(f"{run_dir}, {name} weights", summary, target))
            alike[name, summary.num_samples, tuple(summary.steps.tolist()), _kind(run_dir)].append(summary)
    sections += [_common_section(name, runs) for (name, *_), runs in alike.items() if len(runs) > 1]
    lead = (
        "Uncertainty of unlabelled samples during training: Lim et al. 2023, §3.3 and 3.5, Fig. 3, Fig. 4 and Table 1."
    )
    return Page("Temporal instability", (lead, LEGEND), tuple(sections))


def _output_of(run_dir: Path, output: Path | None) -> Path:
    return run_dir / "report" / "instability" if output is None else output / run_dir.resolve().name


def _kind(run_dir: Path) -> str:
    """Return what averaged runs must share: config.yaml without the seed, or the directory if there is none."""
    if not (run_dir / CONFIG).exists():
        return str(run_dir)
    ignore = ("seed", "name", *PROVENANCE_KEYS, *KEYS_WITHOUT_EFFECT)
    return json.dumps(sorted(own_leaves(read_config(run_dir), ignore)), default=str)


def _trainings(run_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and directory of each training's snapshots, below the directory of a run or of a Trainer."""
    found = sorted([*run_dir.glob(f"{DIRECTORY}/*/"), *run_dir.glob(f"round_*/{DIRECTORY}/*/")])
    if not run_dir.is_dir():
        require_run(run_dir)
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


def _section(title: str, summary: Instability, directory: Path) -> Section:
    steps = summary.steps
    facts = Paragraph(
        f"{len(steps)} snapshots of {summary.num_samples:,} unlabelled samples, steps {steps[0]:,} to {steps[-1]:,}. "
        f"Figures and numbers: {directory}"
    )
    return Section(title, (facts, correlation_table([summary]), share_table([summary]), instability_table(summary)))


def _common_section(name: str, runs: Sequence[Instability]) -> Section:
    return Section(f"{len(runs)} runs, {name} weights", (correlation_table(runs), share_table(runs)))


def _write(summary: Instability, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in csv_files(summary).items():
        write_text(directory / name, rows_as_csv(rows))
    before, last = summary.steps[-2:].tolist()
    uncertainties = dict(zip((before, last), summary.last_uncertainties, strict=True))
    plot_uncertainty_histogram(uncertainties, directory / "uncertainty_histogram.png")
    plot_rank_correlations(
        summary.steps[1:], summary.correlation, summary.correlation_unconfident, directory / "rank_correlation.png"
    )
    table = summary.by_instability
    plot_uncertainty_by_instability(
        table.count, table.mean, table.deviation, table.is_reliable, directory / "uncertainty_by_instability.png"
    )


if __name__ == "__main__":
    sys.exit(main())
