"""The section on pseudo-labels: how much of the unlabelled images the trainings learned from."""

from __future__ import annotations

from statistics import fmean

from assl_lightning.base.words import UNKNOWN, per_cent
from assl_lightning.report.analysis.runs import Method, Setting
from assl_lightning.report.views import Block, Paragraph, Table


def mask_rate_blocks(setting: Setting) -> tuple[Block, ...]:
    """Show the mean weight of the pseudo-labels at the end of each round, or nothing where none is recorded."""
    rows = tuple(_row(method, setting) for method in setting.methods.values())
    if all(cell == UNKNOWN for row in rows for cell in row[1:]):
        return ()
    sentence = (
        "How much of the unlabelled images counted when it was last logged, mean over the seeds: of FixMatch the share "
        "whose prediction was confident enough, of SoftMatch the mean weight. Where it stays near 0, the trainings "
        "learned from the labels alone."
    )
    header = ("pseudo-labels, %", *(f"{labels:,} labels" for labels in setting.labels))
    return Paragraph(sentence), Table("Mean weight of the pseudo-labels", header, rows)


def _row(method: Method, setting: Setting) -> tuple[str, ...]:
    cells = []
    for number in range(len(setting.labels)):
        known = [run.records[number].mask_rate for run in method.runs.values() if number < len(run.records)]
        rates = [rate for rate in known if rate is not None]
        cells.append(per_cent(fmean(rates), digits=1) if rates else UNKNOWN)
    return (method.name, *cells)
