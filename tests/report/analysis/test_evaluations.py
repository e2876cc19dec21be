from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torchmetrics.functional.classification import multiclass_calibration_error

from assl_lightning.loop.class_history import ClassHistory, write_history
from assl_lightning.loop.evaluation import Evaluation
from assl_lightning.report.analysis.evaluations import Confusion, calibration, confusions, last_tests

if TYPE_CHECKING:
    from tests.report.conftest import Runs

NAMED = {"data.source.class_names": ["ok", "dent", "crack", "pore"]}


def evaluation_of(probabilities: torch.Tensor, labels: torch.Tensor) -> Evaluation:
    confidence, predicted = probabilities.max(1)
    position = np.arange(len(labels), dtype=np.int32)
    return Evaluation(position, labels.numpy().astype(np.int32), predicted.numpy().astype(np.int32), confidence.numpy())


@pytest.mark.parametrize(("sharpness", "bins"), [(0.5, 15), (2.0, 15), (6.0, 15), (60.0, 15), (2.0, 7)])
def test_the_expected_calibration_error_is_that_of_torchmetrics(sharpness: float, bins: int) -> None:
    generator = torch.Generator().manual_seed(int(10 * sharpness))
    probabilities = (sharpness * torch.randn(400, 5, generator=generator)).softmax(1)
    labels = torch.randint(5, (400,), generator=generator)
    found = calibration(evaluation_of(probabilities, labels), bins)
    reference = multiclass_calibration_error(probabilities, labels, num_classes=5, n_bins=bins, norm="l1")
    assert found is not None
    assert found.error == pytest.approx(reference.item(), abs=1e-6)
    assert found.error > 0.05, "or the tolerance would hide everything"
    assert found.count.sum() == 400
    assert found.right.sum() == (probabilities.argmax(1) == labels).sum()


def test_a_bin_begins_with_its_lower_edge_and_confidence_1_is_shown_in_the_last() -> None:
    zeros = np.zeros(5, np.int32)
    predicted = np.array([0, 1, 0, 0, 1], np.int32)
    found = calibration(Evaluation(zeros, zeros, predicted, np.array([0.25, 0.5, 0.5, 1, np.nan], np.float32)), 4)
    assert found is not None
    assert found.count.tolist() == [0, 1, 2, 1]
    assert found.right.tolist() == [0, 1, 1, 1]
    np.testing.assert_array_equal(found.confidence, [np.nan, 0.25, 0.5, 1])
    assert found.error == pytest.approx(0.75 / 4), "|1 − 0.25| of one image of four; the others' bins are exact"
    assert calibration(Evaluation(zeros, zeros, zeros, np.full(5, np.nan, np.float32))) is None


def test_the_matrix_is_scikit_learns_and_pairs_come_by_their_number(runs: Runs) -> None:
    generator = np.random.default_rng(0)
    label, predicted = generator.integers(4, size=(2, 300)).astype(np.int32)
    run = runs.add("assl", 0, [0.5])
    confidence = np.full(300, 0.5, np.float32)
    runs.write_evaluation(run / "round_00", Evaluation(np.arange(300, dtype=np.int32), label, predicted, confidence))
    matrix = last_tests(runs.setting(), {"assl": 0})["assl"].confusion
    reference = confusion_matrix(label, predicted, labels=range(4))
    np.testing.assert_array_equal(matrix, reference)
    pairs = confusions(matrix)
    assert len(pairs) == 12
    assert [pair.count for pair in pairs] == sorted(reference[~np.eye(4, dtype=bool)].tolist(), reverse=True)
    first = pairs[0]
    share = reference[first.label, first.predicted] / reference[first.label].sum()
    assert first == Confusion(first.label, first.predicted, reference[first.label, first.predicted], share)
    assert confusions(np.diag([3, 0, 2])) == []


def test_the_last_round_counts_and_its_classes_have_the_names_of_that_round(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5, 0.6], changes=NAMED)
    runs.add("random", 0, [0.5, 0.6], changes=NAMED)
    runs.write_evaluation(run / "round_00")
    seeds = {"assl": 0, "random": 0}
    assert last_tests(runs.setting(), seeds) == {}, "an earlier round is not shown, and older runs have none"
    runs.write_evaluation(run / "round_01")
    found = last_tests(runs.setting(), seeds)
    assert list(found) == ["assl"]
    assert found["assl"].record.labels == 20
    assert found["assl"].names == ("ok", "dent", "crack", "pore")
    history = ClassHistory.begin(["ok", "dent", "crack", "pore"]).merge(["dent", "crack"], "damage", 2)
    write_history(run, history)
    assert last_tests(runs.setting(), seeds)["assl"].names == ("ok", "dent", "crack", "pore")


def test_classes_that_the_run_has_not_are_refused_by_name(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5], changes={"data.num_classes": 3})
    runs.write_evaluation(run / "round_00")
    with pytest.raises(ValueError, match=r"evaluation\.npz has a class of number 3, but the round has 3 classes"):
        last_tests(runs.setting(), {"assl": 0})
