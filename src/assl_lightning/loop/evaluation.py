"""evaluation.npz of a round: what the tested weights predict for each test image. Reports read it without torch."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.atomic import open_atomic
from assl_lightning.base.words import one_line

MOST_ERRORS = 20  # test images of a round whose pictures are kept

_ROWS: Mapping[str, type[np.generic]] = {
    "position": np.int32,
    "label": np.int32,
    "predicted": np.int32,
    "confidence": np.float32,
}


@dataclass(frozen=True)
class Evaluation:
    """The test of a round, by M images; classes are those of the round."""

    position: NDArray[np.int32]  # (M,) ascending, in the test set or among the held-out samples of the round
    label: NDArray[np.int32]  # (M,)
    predicted: NDArray[np.int32]  # (M,)
    confidence: NDArray[np.float32]  # (M,) in [0, 1], the probability of the predicted class; NaN if it is not finite
    pictured: tuple[str, ...] = ()  # names of the first of `confident_errors`, whose pictures are in errors.png

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """(M,) True where the predicted class is the label."""
        is_right: NDArray[np.bool_] = self.predicted == self.label
        return is_right


def confident_errors(evaluation: Evaluation, most: int = MOST_ERRORS) -> NDArray[np.int64]:
    """Return the rows of the wrong predictions with the highest confidence, highest first; of equal ones in order.

    >>> evaluation = Evaluation(*np.array([[0, 1, 2], [1, 1, 1], [0, 1, 0]]), np.array([0.6, 0.9, 0.8]))
    >>> confident_errors(evaluation).tolist()
    [2, 0]
    """
    wrong = np.flatnonzero(~evaluation.is_right & np.isfinite(evaluation.confidence))
    return wrong[np.argsort(-evaluation.confidence[wrong], kind="stable")][:most]


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write the file in one piece; equal evaluations give equal bytes."""
    rows = {name: getattr(evaluation, name).astype(kind) for name, kind in _ROWS.items()}
    with open_atomic(path) as file:
        np.savez(file, allow_pickle=False, **rows, pictured=np.array(evaluation.pictured, dtype=np.str_))


def read_evaluation(path: Path) -> Evaluation | None:
    """Read the file; None where there is none, as in runs of earlier versions.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            rows = {name: content[name] for name in _ROWS}
            found = Evaluation(**rows, pictured=tuple(map(str, content["pictured"].tolist())))
        _check(found)
    except (*_ODD_CONTENT, *_TORN) as error:
        raise ValueError(
            f"{path} is not the evaluation of a round ({one_line(error)}); remove it, and the report does without"
        ) from None
    return found


_ODD_CONTENT = (AttributeError, EOFError, KeyError, RuntimeError, TypeError, ValueError)
_TORN = (BadZipFile, zlib.error, OSError)


def _check(found: Evaluation) -> None:
    """Raise unless the rows are as many, of their types and in their ranges."""
    count = len(found.position)
    for name, kind in _ROWS.items():
        values: NDArray[np.generic] = getattr(found, name)
        if values.dtype != kind or values.shape != (count,):
            raise ValueError(
                f"{name} must be {np.dtype(kind)} of shape ({count},); got {values.dtype} of shape {values.shape}"
            )
    if not count:
        raise ValueError("it has no image")
    if min(found.position.min(), found.label.min(), found.predicted.min()) < 0:
        raise ValueError("position, label and predicted must be at least 0")
    if (found.confidence < 0).any() or (found.confidence > 1.001).any():
        raise ValueError("confidence must lie in [0, 1]")
    if len(found.pictured) > (~found.is_right).sum():
        raise ValueError(f"{len(found.pictured)} errors have a picture, more than there are")
