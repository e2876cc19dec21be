"""The section on time: what a round spends on training, testing, choosing and labelling."""

from __future__ import annotations

from statistics import median

from assl_lightning.base.words import UNKNOWN, seconds
from assl_lightning.report.analysis.runs import Method, Setting
from assl_lightning.report.views import Block, Paragraph, Table

PART_NAMES = {"train": "training", "test": "testing", "acquire": "choosing", "label": "labelling"}
"""The parts that every run times, as its records and as a reader call them."""


def time_blocks(setting: Setting, *, with_people: bool = False) -> tuple[Block, ...]:
    """Medians over rounds and seeds; a sentence where no record has a time. `with_people`: some run asked people."""
    rows = tuple(_row(method) for method in setting.methods.values())
    if all(cell == UNKNOWN for row in rows for cell in row[2:]):
        return (Paragraph("The records hold no times."),)
    header = ("seconds", "rounds × seeds", *PART_NAMES.values())
    sentence = (
        "Medians over all rounds and seeds that have the part; the last round chooses and labels nothing. They compare "
        "methods only where the same machine ran all of them and nothing else."
    )
    if with_people:
        sentence += " Where people label, labelling is what the run itself did for it, and no time of theirs."
    return Paragraph(sentence), Table("Seconds a round", header, rows)


def _row(method: Method) -> tuple[str, ...]:
    records = [record for run in method.runs.values() for record in run.records]
    known = [[record.seconds[part] for record in records if part in record.seconds] for part in PART_NAMES]
    rounds = f"{len(records) // len(method.runs)} × {len(method.runs)}"
    return (method.name, rounds, *(seconds(median(values)) if values else UNKNOWN for values in known))
