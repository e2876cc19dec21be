"""Log a run over its rounds: accuracy against labels, as one curve, and the queries.

A round's own Trainer logs against its steps, which begin at 0 in each round. This curve has the number of labels as its
step. A round gives its point once its query is written down; a run that goes on after its end may give its last point
again.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from PIL import Image

from assl_lightning.base.words import first_line
from assl_lightning.loop.records import RoundRecord

log = logging.getLogger(__name__)

AGAINST_LABELS = "against_labels"
"""The directory of the curve, below the run's, and what the names of its values begin with."""

_PREVIEW = 48  # pixels; smaller pictures are enlarged, by a whole number

MakeLogger = Callable[..., Logger]
"""Called with `save_dir`, and `id`, the run's own, by which a logger can go on with the curve; returns the logger."""


@runtime_checkable
class TakesImages(Protocol):
    """A logger with Lightning's `log_image`, as that of Weights & Biases."""

    def log_image(self, key: str, images: list[object], step: int | None = None) -> None:
        """Log images under a name."""


@dataclass(frozen=True)
class RoundLog:
    """The curve of one run.

    Attributes:
        make_logger: called for each round; None: there is no curve.
        run_dir: the run's directory.
        run_id: the run's id; None in runs of early versions.
    """

    make_logger: MakeLogger | None
    run_dir: Path
    run_id: str | None

    def add(self, record: RoundRecord, pictures: bytes | None = None) -> None:
        """Log the test accuracies of a round, and the contact sheet (PNG) of its query where there is one.

        A logger that fails, as during an outage of its service, costs the run nothing but a warning.
        """
        if self.make_logger is None:
            return
        name = "the logger"
        try:
            logger = self.make_logger(save_dir=str(self.run_dir / AGAINST_LABELS), id=self.run_id)
            name = type(logger).__name__
            try:
                _add(logger, record, pictures)
            finally:
                end_wandb_run(logger)
        except Exception as error:  # of any kind, as the logger is
            log.warning(
                "%s could not log round %d below %s, so that this point may be missing there (%s: %s); the run goes on",
                *(name, record.round, AGAINST_LABELS, type(error).__name__, first_line(error)),
            )


def end_wandb_run(logger: Logger) -> None:
    """End the run of a logger of Weights & Biases; the next logger of the process would go on with it otherwise."""
    if isinstance(logger, WandbLogger):
        logger.experiment.finish()


def _add(logger: Logger, record: RoundRecord, pictures: bytes | None) -> None:
    values = {
        "test_accuracy_ema": record.test_accuracy_ema,
        "test_accuracy_raw": record.test_accuracy_raw,
        "test_balanced_accuracy_ema": record.test_balanced_accuracy_ema,
        "test_balanced_accuracy_raw": record.test_balanced_accuracy_raw,
    }
    known = {f"{AGAINST_LABELS}/{name}": value for name, value in values.items() if value is not None}
    logger.log_metrics(known, step=record.labels)
    if pictures is not None:
        _log_image(logger, f"{AGAINST_LABELS}/queried", _enlarged(pictures), record.labels)
    logger.finalize("success")


def _log_image(logger: Logger, name: str, image: NDArray[np.uint8], step: int) -> None:
    """Log (height, width, 3) uint8 pixels, if the logger takes images."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, image, step, dataformats="HWC")
    elif isinstance(logger, TakesImages):
        logger.log_image(name, [image], step=step)


def _enlarged(sheet: bytes) -> NDArray[np.uint8]:
    """Return a contact sheet as (height, width, 3) uint8, its pictures at least 48 pixels wide or nearly so."""
    with Image.open(io.BytesIO(sheet)) as image:
        factor = max(1, _PREVIEW // int(image.info.get("tile_width", _PREVIEW)))
        size = (image.width * factor, image.height * factor)
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST))
