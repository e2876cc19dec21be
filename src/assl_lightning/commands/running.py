"""One run of a validated configuration: train it or resume it, then show its rounds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from assl_lightning.base.processes import is_first_rank
from assl_lightning.base.run_files import LEDGER
from assl_lightning.base.shell import command
from assl_lightning.config.build import make_parts, make_settings
from assl_lightning.config.prepare import prepare
from assl_lightning.config.schema import Config
from assl_lightning.config.unreadable import listing_unreadable
from assl_lightning.learning.progress import RoundProgress
from assl_lightning.loop.class_history import changeable_round
from assl_lightning.loop.records import RoundRecord, trained_records
from assl_lightning.loop.rounds import run_rounds
from assl_lightning.report.analysis.classes import describe_changes
from assl_lightning.report.curve import plot_curve
from assl_lightning.report.table import print_rounds
from assl_lightning.report.titles import title_in_words


def run(config: Config, console: Console | None = None) -> list[RoundRecord]:
    """Start or resume a run; draw the curve, print all trained rounds, and return the complete ones.

    A round that waits for labels is trained, but not complete.

    Raises:
        ConfigurationError: the configuration does not fit its classes or data; nothing was written.
    """
    console = console or Console()
    given = config
    config, records, must_repeat = _run_once(given, console)
    if must_repeat:  # the run waits for labels now, so that new classes can be added
        config, records, _ = _run_once(given, console)
    if is_first_rank():
        _show(config, console)
    return records


def _run_once(config: Config, console: Console) -> tuple[Config, list[RoundRecord], bool]:
    """Return the complete configuration, the records of complete rounds, and True if new classes can be added now."""
    with listing_unreadable(config):
        config, source, later = prepare(config)
        parts = make_parts(config, source)
    records = run_rounds(
        **vars(parts),
        settings=make_settings(config, source),
        run_dir=Path(config.run_dir),
        make_progress=partial(RoundProgress, console=console),
    )
    return config, records, bool(later) and changeable_round(Path(config.run_dir)) is not None


def _show(config: Config, console: Console) -> None:
    run_dir = Path(config.run_dir)
    trained = trained_records(run_dir, config.settings.rounds)
    if not trained:
        return
    curve = run_dir / "report" / "curve.png"
    title = title_in_words(config.as_dict(), config.data.num_classes)
    plot_curve(trained, curve, f"{title}; {config.acquisition.name}, seed {config.settings.seed}")
    print_rounds(trained, console, hold_out=config.settings.hold_out, initial_labels=config.settings.initial_labels)
    if changes := describe_changes(run_dir, trained):
        console.print(changes, soft_wrap=True, highlight=False, markup=False)
    console.print(f"accuracy against labels: {curve}", soft_wrap=True, highlight=False)
    if len(trained) > config.settings.rounds and (run_dir / LEDGER).exists():  # people have labelled, and are done
        predict, report = command("predict", run_dir), command("report", run_dir)
        further = f"{predict} tells the classes of all other images, {report} shows the accuracies"
        console.print(f"finished: {further}", soft_wrap=True, highlight=False, markup=False)
