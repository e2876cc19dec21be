"""A batch of four images to label, as the other tests need one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from assl_lightning.base.run_files import TO_LABEL, round_directory
from assl_lightning.people.batch import AskedSample, LabelBatch, write_batch

SAMPLE_IDS = ("00123.png", "sub/b 1.png", "sub/ü.png", "d.png")
CLASSES = ("ok", "dent", "scratch")


def a_png(level: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), level).save(file, "PNG")
    return file.getvalue()


def make_batch(
    run_dir: Path,
    round_number: int = 0,
    sample_ids: Sequence[str] = SAMPLE_IDS,
    class_names: Sequence[str] = CLASSES,
    show_predictions: bool = False,
) -> LabelBatch:
    """Write a batch that waits for its labels."""
    samples = tuple(
        AskedSample(
            sample_id=name,
            index=10 + place,
            image=f"{place:04d}.png",
            path=f"/photos/{name}",
            prediction=class_names[place % len(class_names)],
            score=1.5 - place,
            parts={"uncertainty_mean": 0.25 * place, "visits": None},
        )
        for place, name in enumerate(sample_ids)
    )
    batch = LabelBatch(
        directory=round_directory(run_dir, round_number) / TO_LABEL,
        run_id="9f140cb3",
        name="photos",
        round=round_number,
        class_names=tuple(class_names),
        samples=samples,
        show_predictions=show_predictions,
    )
    batch.directory.parent.mkdir(parents=True, exist_ok=True)
    write_batch(batch, [a_png(20 * place) for place in range(len(samples))], a_png())
    return batch


def apply_batch(batch: LabelBatch) -> None:
    """As when a run took its labels over."""
    (batch.directory.parent / "pool.pt").touch()
