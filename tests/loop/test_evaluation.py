from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assl_lightning.loop.evaluation import Evaluation, confident_errors, read_evaluation, write_evaluation

EVALUATION = Evaluation(
    position=np.array([0, 1, 2, 5], np.int32),
    label=np.array([0, 2, 1, 1], np.int32),
    predicted=np.array([0, 1, 2, 2], np.int32),
    confidence=np.array([0.9, 0.5, 0.75, 0.75], np.float32),
    pictured=("c.png", "d, with ä.png", "b.png"),
)


def test_an_evaluation_is_read_as_it_was_written_and_equal_ones_give_equal_bytes(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluation.npz", EVALUATION)
    found = read_evaluation(tmp_path / "evaluation.npz")
    assert found is not None
    for name in ("position", "label", "predicted", "confidence"):
        np.testing.assert_array_equal(getattr(found, name), getattr(EVALUATION, name))
    assert found.pictured == EVALUATION.pictured
    before = (tmp_path / "evaluation.npz").read_bytes()
    write_evaluation(tmp_path / "evaluation.npz", replace(EVALUATION, position=EVALUATION.position.astype(np.int64)))
    assert (tmp_path / "evaluation.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.npz"]


def test_a_round_without_the_file_has_none(tmp_path: Path) -> None:
    assert read_evaluation(tmp_path / "evaluation.npz") is None


def test_errors_come_with_the_highest_confidence_first_and_equal_ones_in_their_order() -> None:
    assert confident_errors(EVALUATION).tolist() == [2, 3, 1]
    assert confident_errors(EVALUATION, most=1).tolist() == [2]
    unknown = replace(EVALUATION, confidence=np.array([0.9, 0.5, np.nan, 0.75], np.float32))
    assert confident_errors(unknown).tolist() == [3, 1], "what is no number is not confident"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"predicted": np.array([0, 1], np.int32)}, r"predicted must be int32 of shape \(4,\); got int32 of shape"),
        ({"label": np.array([0, -1, 1, 1], np.int32)}, "must be at least 0"),
        ({"confidence": np.array([0.9, 1.5, 0.7, 0.7], np.float32)}, r"confidence must lie in \[0, 1\]"),
        ({"pictured": ("a", "b", "c", "d")}, "4 errors have a picture, more than there are"),
        (dict.fromkeys(("position", "label", "predicted", "confidence"), np.zeros(0)), "it has no image"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    write_evaluation(tmp_path / "evaluation.npz", replace(EVALUATION, **changes))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"evaluation\.npz is not the evaluation of a round \(.*{reason}.*remove it"):
        read_evaluation(tmp_path / "evaluation.npz")


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut off"])
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "evaluation.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"is not the evaluation of a round") as caught:
        read_evaluation(tmp_path / "evaluation.npz")
    assert "\n" not in str(caught.value)
