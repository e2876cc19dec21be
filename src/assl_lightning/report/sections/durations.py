"""The section on time: the seconds of a warm-up, and of a round for training, testing, choosing and labelling."""

from __future__ import annotations

from statistics import fmean, median

from assl_lightning.base.words import UNKNOWN, from_to, seconds
from assl_lightning.report.analysis.runs import Method, Setting
from assl_lightning.report.views import Block, Paragraph, Table

PART_NAMES = {"train": "training", "test": "testing", "acquire": "choosing", "label": "labelling"}
"""The parts of a round that every run times: name in the records → name in the report."""


def time_blocks(setting: Setting, *, with_people: bool = False) -> tuple[Block, ...]:
    """Show medians over rounds and seeds, or nothing if there are no times. `with_people`: people were asked."""
    rows = tuple(_row(method) for method in setting.methods.values())
    of_warm_up = _warm_up_table(setting)
    if not of_warm_up and all(cell == UNKNOWN for row in rows for cell in row[2:]):
        return ()
    header = ("seconds", "rounds × seeds", *PART_NAMES.values())
    sentence = (
        "Medians over all rounds and seeds with that part; the last round chooses and labels nothing. Compare them "
        "only if all runs had the same machine to themselves."
    )
    if with_people:
        sentence += " If people label, the time of labelling is that of the run itself, without the people's time."
    return Paragraph(sentence), *of_warm_up, Table("Seconds per round", header, rows)


def _warm_up_table(setting: Setting) -> tuple[Table, ...]:
    """Return a row for each method whose networks were warmed up; nothing where there is none."""
    rows = []
    for method in setting.methods.values():
        records = [run.warm_up for run in method.runs.values() if run.warm_up is not None]
        if records:
            steps, images = (from_to([getattr(record, name) for record in records]) for name in ("steps", "images"))
            losses = [record.loss for record in records if record.loss is not None]
            loss = f"{fmean(losses):.2f}" if losses else UNKNOWN
            taken = seconds(median(record.seconds for record in records))
            rows.append((method.name, str(len(records)), steps, images, loss, taken))
    header = ("before the first label", "seeds", "steps", "images", "last loss (mean)", "seconds (median)")
    return (Table("Warm-up, once per run", header, tuple(rows)),) if rows else ()


def _row(method: Method) -> tuple[str, ...]:
    records = [record for run in method.runs.values() for record in run.records]
    known = [[record.seconds[part] for record in records if part in record.seconds] for part in PART_NAMES]
    rounds = f"{len(records) // len(method.runs)} × {len(method.runs)}"
    return (method.name, rounds, *(seconds(median(values)) if values else UNKNOWN for values in known))
