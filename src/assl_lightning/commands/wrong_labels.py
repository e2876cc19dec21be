"""Labels that are probably wrong, by predictions of networks that were not trained on them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assl_lightning.base.extras import install_command

FEWEST_OF_A_CLASS = 5
"""Labels of each class, below which the thresholds of single classes are too uncertain to be used."""


@dataclass(frozen=True)
class WrongLabels:
    """The suspects among J labels."""

    position: npt.NDArray[np.int64]  # in the J labels, the least probable first
    by_class: bool  # by cleanlab, with a threshold for each class; False: by the predicted class alone


def find_wrong_labels(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> WrongLabels:
    """Find labels that the predictions speak against, and rank them by the probability of the label, smallest first.

    If each class that occurs has at least `FEWEST_OF_A_CLASS` labels, and there are two classes, cleanlab's
    `find_label_issues` finds them with `filter_by="low_self_confidence"`: it estimates how many labels are wrong, with
    a threshold for each class (confident learning, Northcutt et al. 2021), and takes so many of the least probable.
    With fewer labels such thresholds mean little, and every label whose image is predicted as another class is a
    suspect.

    Args:
        labels: (J,) int64 in [0, C).
        probabilities: (J, C), of a network that was not trained on the label of the row. Rows may be of several
            networks; a class that a network did not know has 0.

    Raises:
        ImportError: cleanlab is not installed.
    """
    find_label_issues = label_issue_finder()
    if not len(labels):
        return WrongLabels(np.empty(0, dtype=np.int64), by_class=False)
    of_label = probabilities[np.arange(len(labels)), labels]
    _, counts = np.unique(labels, return_counts=True)
    by_class = len(counts) > 1 and int(counts.min()) >= FEWEST_OF_A_CLASS
    if by_class:
        with warnings.catch_warnings():  # a class without any label has none that could be wrong
            warnings.filterwarnings("ignore", message="May not flag all label issues in class")
            is_suspect = find_label_issues(labels, probabilities, filter_by="low_self_confidence", n_jobs=1)
    else:
        is_suspect = probabilities.argmax(1) != labels
    position = is_suspect.nonzero()[0]
    return WrongLabels(position[np.argsort(of_label[position], kind="stable")], by_class=by_class)


def label_issue_finder() -> Any:
    """Return cleanlab's `find_label_issues`, or raise an ImportError that says how to install it."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise ImportError(
            f"wrong labels are found by the package cleanlab, which is not installed; install it with "
            f"{install_command('audit')}"
        ) from error
    return find_label_issues
