"""Labels that predictions speak against."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import pytest

from assl_lightning.commands.wrong_labels import find_wrong_labels

pytest.importorskip("cleanlab")


def predictions(true: list[int], classes: int, of_true: float) -> npt.NDArray[np.float64]:
    rows = np.full((len(true), classes), (1 - of_true) / (classes - 1))
    rows[np.arange(len(true)), true] = of_true
    return rows


def test_flipped_labels_are_found_the_least_probable_first() -> None:
    true = [0, 1, 2] * 10
    rows = predictions(true, 4, 0.85)  # a class without a label stays without one
    labels = np.array(true)
    labels[4], labels[21] = 2, 1  # they were 1 and 0
    rows[21] = [0.97, 0.01, 0.01, 0.01]

    found = find_wrong_labels(labels, rows)

    assert found.by_class
    assert found.position.tolist() == [21, 4]


@pytest.mark.parametrize(("counts", "by_class"), [((9, 5), True), ((9, 4), False), ((9,), False)])
def test_each_class_needs_a_few_labels_for_a_threshold_of_its_own(counts: tuple[int, ...], by_class: bool) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    assert find_wrong_labels(labels, predictions(labels.tolist(), 2, 0.9)).by_class is by_class


def test_with_too_few_all_that_are_predicted_as_another_class_are_suspects() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    rows = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.05, 0.95], [0.3, 0.7]])

    found = find_wrong_labels(labels, rows)

    assert (found.by_class, found.position.tolist()) == (False, [1, 2])


def test_no_labels_have_no_suspects() -> None:
    assert len(find_wrong_labels(np.empty(0, dtype=np.int64), np.empty((0, 3))).position) == 0


def test_without_cleanlab_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ImportError, match="the package cleanlab, which is not installed; install it with pip install"):
        find_wrong_labels(np.array([0]), np.array([[1.0]]))
