"""Batches and answers in a run's directory, as if people had been asked."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from assl_lightning.base.run_files import AUDIT, LEDGER, TO_LABEL, round_directory
from assl_lightning.data.answers import Answer
from assl_lightning.people.batch import AskedSample, LabelBatch, write_batch
from assl_lightning.people.ledger import Ledger

CLASSES = ("ok", "dent", "scratch")


def ask(
    run_dir: Path,
    round_number: int,
    predictions: Mapping[str, str | None],
    *,
    again: Sequence[str] = (),
    is_open: bool = False,
    image: bytes | None = None,
    audit: int | None = None,
    has_scores: bool = True,
    **changes: Any,
) -> LabelBatch:
    """A batch of the samples that `predictions` names, with scores 2, 1, 0, … or none; those of `again` come last.

    With `audit`, it is the batch of the audit of this number.
    """
    names = [*predictions, *again]
    samples = tuple(
        AskedSample(
            sample_id=name,
            index=100 * round_number + place,
            image=f"{place:04d}.png",
            prediction=predictions.get(name),
            score=None if name in again or not has_scores else 2.0 - place,
            again=name in again,
        )
        for place, name in enumerate(names)
    )
    batch = LabelBatch(
        directory=(round_directory(run_dir, round_number) if audit is None else run_dir / f"{AUDIT}_{audit:02d}")
        / TO_LABEL,
        run_id="9f140cb3",
        name="photos",
        round=round_number,
        class_names=CLASSES,
        samples=samples,
        **changes,
    )
    batch.directory.parent.mkdir(parents=True, exist_ok=True)
    write_batch(batch, [image or a_png(place) for place in range(len(samples))], a_png(0))
    if not is_open and audit is None:
        (batch.directory.parent / "pool.pt").touch()
    return batch


def a_png(level: int, size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, level).save(file, "PNG")
    return file.getvalue()


def say(
    run_dir: Path, round_number: int, name: str, what: str, who: str = "Ann", seconds: float | None = 3.0
) -> Answer:
    """One answer: a class, "skip" or "bad"."""
    kind: Any = what if what in ("skip", "bad") else "label"
    label = what if kind == "label" else None
    given = Answer(name, kind, who, "page", round_number, label=label, seconds=seconds)
    (answer,) = Ledger(run_dir / LEDGER).append([given])
    return answer


def take_back(run_dir: Path, answer: Answer) -> None:
    assert answer.id is not None
    Ledger(run_dir / LEDGER).revoke([answer.id], answer.annotator, "page")
