"""The sections on the test images: accuracy by class, confused classes, confident errors, confidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from assl_lightning.loop.evaluation import Evaluation
from assl_lightning.report.analysis.evaluations import LastTest, calibration, last_tests
from assl_lightning.report.drawing import svg
from assl_lightning.report.sections.class_accuracy import class_accuracy_blocks, draw_classes
from assl_lightning.report.sections.confusion import confusion_blocks, draw_confusion
from assl_lightning.report.sections.errors import error_blocks
from assl_lightning.report.sections.reliability import draw_reliability, reliability_blocks
from assl_lightning.report.sections.tested import of_each_method
from assl_lightning.report.views import Fold, Illustration, Paragraph, Strip, Table

if TYPE_CHECKING:
    from tests.report.conftest import Runs

CLASSES = ["ok", "dent", "crack", "pore"]
#          ok × 10: 8 right, two dents · dent × 4: 3 right, one crack · crack × 1: right · no pore
LABEL = [0] * 10 + [1] * 4 + [2]
PREDICTED = [0] * 8 + [1] * 2 + [1] * 3 + [2] + [2]
CONFIDENCE = [0.9] * 8 + [0.6, 0.99] + [0.7] * 3 + [0.98] + [0.5]
PICTURED = ("photos/9.png", "photos/13.png", "photos/8.png")
EVALUATION = Evaluation(
    np.arange(15, dtype=np.int32),
    np.array(LABEL, np.int32),
    np.array(PREDICTED, np.int32),
    np.array(CONFIDENCE, np.float32),
    PICTURED,
)


@pytest.fixture
def tested(runs: Runs) -> LastTest:
    run = runs.add("assl", 0, [0.5, 0.8], changes={"data.source.class_names": CLASSES, "algorithm.weight_ema": 0.9})
    runs.write_evaluation(run / "round_01", EVALUATION)
    return last_tests(runs.setting(), {"assl": 0})["assl"]


def of_many_classes(tested: LastTest, count: int, evaluation: Evaluation = EVALUATION) -> LastTest:
    return replace(tested, names=tuple(f"class {number}" for number in range(count)), evaluation=evaluation)


def test_each_class_has_its_accuracy_with_an_interval_by_its_name(tested: LastTest) -> None:
    sentence, figure, table = class_accuracy_blocks(tested)
    assert isinstance(sentence, Paragraph)
    assert sentence.text.startswith("The averaged (EMA) weights after the training with 20 labels, on 15 test images.")
    assert isinstance(figure, Illustration)
    assert isinstance(table, Table)
    assert table.rows == (
        ("ok", "10", "8", "80.0", "49.0 to 94.3", "100.0"),
        ("dent", "4", "3", "75.0", "30.1 to 95.4", "60.0"),
        ("crack", "1", "1", "100.0", "20.7 to 100.0", "50.0"),
        ("pore", "0", "0", "–", "–", "–"),
        ("all classes", "15", "12", "80.0", "54.8 to 93.0", "–"),
    )


def test_bars_are_as_long_as_the_accuracies_and_a_class_without_an_image_has_none() -> None:
    figure = draw_classes(CLASSES, np.array([8, 3, 1, 0]), np.array([10, 4, 1, 0]))
    (axes,) = figure.axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == [80, 75, 100]
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES
    assert [text.get_text() for text in axes.texts] == ["no test image"]
    interval = np.asarray(axes.lines[0].get_xdata(), float)
    np.testing.assert_allclose(interval, [49.0, 94.3], atol=0.05)
    assert len(svg(figure).content) > 1000


def test_of_many_classes_the_lowest_are_shown_and_all_in_a_fold(tested: LastTest) -> None:
    _, lowest, fold = class_accuracy_blocks(of_many_classes(tested, 40))
    assert isinstance(lowest, Table)
    assert [row[0] for row in lowest.rows] == ["class 1", "class 0", "class 2", "all classes"]
    assert isinstance(fold, Fold)
    assert isinstance(fold.blocks[0], Table)
    assert len(fold.blocks[0].rows) == 41


def test_the_matrix_names_the_most_confused_in_words(tested: LastTest) -> None:
    (figure,) = confusion_blocks(tested)
    assert isinstance(figure, Illustration)
    assert figure.alternative == "Confusion matrix. Most confused: ok as dent: 2; dent as crack: 1."
    assert not figure.is_dense
    (larger,) = confusion_blocks(of_many_classes(tested, 7))
    assert isinstance(larger, Illustration)
    assert larger.is_dense, "a narrow screen scrolls it"


def test_the_drawing_has_a_number_where_there_are_images() -> None:
    figure = draw_confusion(np.array([[8, 2, 0], [0, 3, 1], [0, 0, 1]]), CLASSES[:3])
    (axes,) = figure.axes
    found = {(float(text.get_position()[0]), float(text.get_position()[1])): text.get_text() for text in axes.texts}
    assert found == {(0.5, 0.5): "8", (1.5, 0.5): "2", (1.5, 1.5): "3", (2.5, 1.5): "1", (2.5, 2.5): "1"}
    low, high = axes.get_ylim()
    assert low > high, "the first class is at the top"
    assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES[:3]


def test_many_classes_have_a_table_of_the_most_confused(tested: LastTest) -> None:
    (table,) = confusion_blocks(of_many_classes(tested, 31))
    assert isinstance(table, Table)
    assert table.caption == "The most confused of 2 pairs of classes with an error"
    assert table.rows == (("class 0", "class 1", "2", "20.0"), ("class 1", "class 2", "1", "25.0"))
    right = replace(EVALUATION, predicted=EVALUATION.label)
    assert isinstance(confusion_blocks(of_many_classes(tested, 31, right))[0], Paragraph)


def test_errors_are_pictures_with_what_was_said_and_what_is_right(tested: LastTest) -> None:
    sentence, strip = error_blocks(tested)
    assert isinstance(sentence, Paragraph)
    assert sentence.text.startswith("Of 15 test images 3 are wrong.")
    assert isinstance(strip, Strip)
    assert [tile.lines for tile in strip.tiles] == [
        ("said dent (0.99),", "is ok", "9.png"),
        ("said crack (0.98),", "is dent", "13.png"),
        ("said dent (0.60),", "is ok", "8.png"),
    ]
    assert [tile.name for tile in strip.tiles] == list(PICTURED)


def test_without_pictures_there_are_no_errors_to_show(tested: LastTest) -> None:
    assert error_blocks(replace(tested, evaluation=replace(EVALUATION, pictured=()))) == ()
    (tested.run.directory / "round_01" / "errors.png").unlink()
    assert error_blocks(tested) == ()


def test_confidence_is_compared_with_accuracy(tested: LastTest) -> None:
    sentence, figure = reliability_blocks(tested)
    assert isinstance(sentence, Paragraph)
    by_hand = (0.5 + 0.6 + 3 * 0.3 + 8 * 0.1 + 2 * 0.985) / 15  # a bin each: 0.5, 0.6, 0.7, 0.9, and the last two
    assert f"mean confidence {100 * sum(CONFIDENCE) / 15:.1f} %, accuracy 80.0 %" in sentence.text
    assert f"The expected calibration error is {100 * by_hand:.1f} points" in sentence.text
    assert isinstance(figure, Illustration)
    assert "confidence 90.0 %: accuracy 100.0 % of 8" in figure.alternative
    found = calibration(tested.evaluation)
    assert found is not None
    drawn = draw_reliability(found).axes[0]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in drawn.lines if line.get_marker() == "o"]  # type: ignore[index]
    assert len(points) == np.count_nonzero(found.count)
    assert points[-1] == pytest.approx((98.5, 0)), "both confident errors"


def test_one_method_is_shown_and_several_are_folds(tested: LastTest) -> None:
    def blocks(_: LastTest) -> tuple[Paragraph, ...]:
        return (Paragraph("shown"),)

    assert of_each_method({"assl": tested}, blocks, in_folds=False) == (Paragraph("shown"),)
    assert of_each_method({}, blocks, in_folds=False) == ()
    (fold,) = of_each_method({"assl": tested}, blocks, in_folds=True)
    assert fold == Fold("assl, seed 0", (Paragraph("shown"),))
    assert of_each_method({"assl": tested}, lambda _: (), in_folds=True) == ()
