"""Count what the tested weights predict: by class, class against class, and confidence against accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.run_files import EVALUATION, round_directory
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.evaluation import Evaluation, read_evaluation
from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.analysis.classes import class_names_of
from assl_lightning.report.analysis.runs import Run, Setting

BINS = 15


@dataclass(frozen=True)
class LastTest:
    """The test of a run's last round."""

    run: Run
    record: RoundRecord
    names: tuple[str, ...]  # of the round's C classes
    evaluation: Evaluation

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(C, C) number of test images by label (row) and predicted class (column)."""
        found = self.evaluation
        count = len(self.names)
        flat = found.label.astype(np.int64) * count + found.predicted
        return np.bincount(flat, minlength=count * count).reshape(count, count)


def last_tests(setting: Setting, seeds: Mapping[str, int]) -> dict[str, LastTest]:
    """Return method → the test of its run with the seed of `seeds`; runs of earlier versions have none.

    Raises:
        ValueError: a file is damaged, or has other classes than its run.
    """
    found = {}
    for name, method in setting.methods.items():
        run = method.runs[seeds[name]]
        record = run.records[-1]
        path = round_directory(run.directory, record.round) / EVALUATION
        evaluation = read_evaluation(path)
        if evaluation is None:
            continue
        history = read_history(run.directory)
        names = class_names_of(run) if history is None else history.names(record.round)
        highest = int(max(evaluation.label.max(), evaluation.predicted.max()))
        if highest >= len(names):
            raise ValueError(
                f"{path} has a class of number {highest}, but the round has {len(names)} classes; remove it, and the "
                f"report does without"
            )
        found[name] = LastTest(run, record, names, evaluation)
    return found


@dataclass(frozen=True)
class Confusion:
    """Test images of one class that were taken for another."""

    label: int
    predicted: int
    count: int
    share: float  # of the label's test images, in (0, 1]


def confusions(matrix: NDArray[np.int64]) -> list[Confusion]:
    """Return the confused pairs of `matrix` (C, C), the most images first; of as many in the order of the classes.

    >>> [(pair.label, pair.predicted, pair.share) for pair in confusions(np.array([[3, 1], [2, 2]]))]
    [(1, 0, 0.5), (0, 1, 0.25)]
    """
    wrong = matrix - np.diag(np.diag(matrix))
    totals = matrix.sum(1)
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        Confusion(label, predicted, int(wrong[label, predicted]), float(wrong[label, predicted] / totals[label]))
        for label, predicted in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy, by bins of the confidence (Guo et al. 2017, §2); B bins of equal width."""

    count: NDArray[np.int64]  # (B,) test images
    right: NDArray[np.int64]  # (B,) of them predicted rightly
    confidence: NDArray[np.float64]  # (B,) their mean confidence, NaN where there is no image
    error: float  # expected calibration error in [0, 1]: mean over the images of |accuracy − confidence| of their bin


def calibration(evaluation: Evaluation, bins: int = BINS) -> Calibration | None:
    """Compare the confidence of the predictions with how often they are right; None if no confidence is finite.

    The error is that of `torchmetrics.CalibrationError(n_bins=bins, norm="l1")`: bins [0, 1/B), [1/B, 2/B), …, and
    predictions of confidence 1 in one of their own. In the other fields these count in the last bin.
    """
    known = np.isfinite(evaluation.confidence)
    confidence = evaluation.confidence[known]
    if not len(confidence):
        return None
    edges = np.linspace(0, 1, bins + 1, dtype=confidence.dtype)
    number = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins)
    count = np.bincount(number, minlength=bins + 1)
    right = np.bincount(number[evaluation.is_right[known]], minlength=bins + 1)
    total = np.bincount(number, weights=confidence, minlength=bins + 1)
    error = float(np.abs(right - total).sum() / count.sum())
    for values in (count, right, total):
        values[-2] += values[-1]
    mean = np.divide(total[:-1], count[:-1], out=np.full(bins, np.nan), where=count[:-1] > 0)
    return Calibration(count[:-1], right[:-1], mean, error)
