"""The printed result of a check: the run, its time and disk, and a sentence for each finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assl_lightning.base.words import counted, first_few
from assl_lightning.check.checking import Report
from assl_lightning.check.estimate import Estimate, Item, duration, size
from assl_lightning.config.schema import Config
from assl_lightning.data.class_names import list_classes

_STYLES = {"wrong": "bold red", "remark": "yellow"}


def print_report(report: Report, console: Console) -> None:
    """Print the results of a check to `console`."""
    config = report.config
    _say(console, "bold", "run", _run_in_words(config))
    _say(console, "bold", "data", _data_in_words(report))
    _say(console, "bold", "run_dir", f"{config.run_dir}: {report.directory.words}")
    console.print()
    if report.estimate is not None:
        console.print(_table(report, report.estimate))
        console.print()
    for finding in report.findings:
        _say(console, _STYLES[finding.severity], f"{finding.severity}:", finding.sentence)
    console.print(_verdict(report), soft_wrap=True)


def _say(console: Console, style: str, label: str, words: str) -> None:
    console.print(Text(f"{label:<8}", style) + Text(words, ""), soft_wrap=True)


def _run_in_words(config: Config) -> str:
    settings = config.settings
    last = settings.total_labels - settings.hold_out
    labels = f"{settings.initial_labels:,} to {last:,} labels" if settings.rounds else counted(last, "label")
    if settings.hold_out:
        labels += f", and {settings.hold_out:,} for the test"
    if settings.rounds > 1 and len({settings.labels_after(number) for number in range(settings.rounds)}) > 1:
        batches = [settings.labels_after(number) for number in range(settings.rounds)]
        labels += f" ({settings.initial_labels:,} + {first_few((f'{batch:,}' for batch in batches), 10, ' + ')})"
    trainings = counted(settings.rounds + 1, "training")
    steps = counted(settings.steps_per_round, "step")
    cost = ""
    if config.cost_per_label is not None:
        total = settings.total_labels
        cost = f"; {counted(total, 'label')} at {config.cost_per_label:,g} cost {total * config.cost_per_label:,.2f}"
    return f"{config.name}, {config.acquisition.name}, seed {settings.seed}: {trainings} of {steps}, {labels}{cost}"


def _data_in_words(report: Report) -> str:
    source = report.source
    if source is None:
        return f"{report.config.data.name}, which cannot be read as it should be"
    size_in_words = " × ".join(map(str, source.pool_images.shape[1:]))
    pool, test = len(source.pool_images), len(source.test_images)
    hold_out = report.config.settings.hold_out
    without = f", {len(source.unreadable):,} of which cannot be decoded" if len(source.unreadable) else ""
    tested = f"{hold_out:,} of them to be drawn for the test" if hold_out else f"{test:,} in the test set"
    return (
        f"{report.config.data.name}: {counted(pool, 'image')} in the pool{without}, {tested}, "
        f"{len(source.class_names)} classes ({list_classes(source.class_names)}), {size_in_words}"
    )


def _table(report: Report, estimate: Estimate) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in ("each", "times", "in all"):
        table.add_column(name, justify="right", no_wrap=True)
    _add(table, estimate.seconds, duration)
    left = "time that is left" if report.directory.complete_rounds else "time, about"
    table.add_row(left, "", "", duration(estimate.total_seconds), style="bold")
    table.add_row()
    _add(table, estimate.kept, size)
    table.add_row("disk, when finished", "", "", size(estimate.kept_bytes), style="bold")
    _add(table, estimate.meanwhile, size)
    table.add_row("disk, at most", "", "", size(estimate.most_bytes), style="bold")
    table.add_row(f"free at {report.free_at}", "", "", size(report.free_bytes))
    return table


def _add(table: Table, items: Sequence[Item], show: Callable[[float], str]) -> None:
    for item in items:
        if item.total:
            table.add_row(item.name, show(item.each), f"{item.times:,}", show(item.total))


def _verdict(report: Report) -> Text:
    if not report.num_wrong:
        return Text("No problems found.", "bold green")
    return Text(f"{counted(report.num_wrong, 'problem')} to fix before the run.", _STYLES["wrong"])
