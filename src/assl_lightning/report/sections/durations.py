"""The section on time: the seconds of a round for training, testing, choosing and labelling."""

from __future__ import annotations

from statistics import median

from assl_lightning.base.words import UNKNOWN, seconds
from assl_lightning.report.analysis.runs import Method, Setting
from assl_lightning.report.views import Block, Paragraph, Table

PART_NAMES = {"train": "training", "test": "testing", "acquire": "choosing", "label": "labelling"}
"""The parts of a round that every run times: name in the records → name in the report."""


def time_blocks(setting: Setting, *, with_people: bool = False) -> tuple[Block, ...]:
    """Show medians over rounds and seeds, or a sentence if there are no times. `with_people`: people were asked."""
    rows = tuple(_row(method) for method in setting.methods.values())
    if all(cell == UNKNOWN for row in rows for cell in row[2:]):
        return (Paragraph("No times are recorded."),)
    header = ("seconds", "rounds × seeds", *PART_NAMES.values())
    sentence = (
        "Medians over all rounds and seeds with that part; the last round chooses and labels nothing. Compare them "
        "only if all runs had the same machine to themselves."
    )
    if with_people:
        sentence += " If people label, the time of labelling is that of the run itself, without the people's time."
    return Paragraph(sentence), Table("Seconds per round", header, rows)


def _row(method: Method) -> tuple[str, ...]:
    records = [record for run in method.runs.values() for record in run.records]
    known = [[record.seconds[part] for record in records if part in record.seconds] for part in PART_NAMES]
    rounds = f"{len(records) // len(method.runs)} × {len(method.runs)}"
    return (method.name, rounds, *(seconds(median(values)) if values else UNKNOWN for values in known))
