from __future__ import annotations

from math import isclose

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from assl_lightning.stopping.agreement import Agreement, count, f_change_bound, of_table

TABLE = np.array([[150, 2, 8], [10, 8, 2], [0, 0, 20]])


def jackknife_error_of_sklearn(table: np.ndarray) -> float:
    """The standard error of scikit-learn's κ by leaving out each image once."""
    cells = [(row, column) for row, column in np.ndindex(*table.shape) if table[row, column]]
    n = int(table.sum())
    values, times = [], []
    for left_out in cells:
        rest = table.copy()
        rest[left_out] -= 1
        first, second = zip(*(cell for cell in cells for _ in range(rest[cell])), strict=True)
        values.append(cohen_kappa_score(first, second))
        times.append(table[left_out])
    mean = np.average(values, weights=times)
    return float(np.sqrt((n - 1) / n * (np.array(times) * (np.array(values) - mean) ** 2).sum()))


def test_kappa_and_its_error_are_those_that_follow_by_hand() -> None:
    found = of_table(TABLE)
    assert (found.images, found.agreeing) == (200, 178)
    # observed 0.89, by chance 0.8 · 0.8 + 0.1 · 0.05 + 0.1 · 0.15 = 0.66
    assert isclose(found.kappa, (0.89 - 0.66) / 0.34)
    assert isclose(found.kappa_error, jackknife_error_of_sklearn(TABLE), rel_tol=0.03)


def test_the_error_is_that_of_the_delta_method_where_one_predicts_a_class_more_often_than_the_other() -> None:
    table = np.array([[20, 30, 0], [0, 25, 5], [0, 0, 20]])

    def kappa_of(shares: np.ndarray) -> float:
        shares = shares / shares.sum()
        by_chance = float(shares.sum(1) @ shares.sum(0))
        return (float(np.trace(shares)) - by_chance) / (1 - by_chance)

    shares, slope = table / 100, np.zeros((3, 3))
    for cell in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[cell] = 1e-5
        slope[cell] = (kappa_of(shares + step) - kappa_of(shares - step)) / 2e-5
    variance = (shares * slope**2).sum() - (shares * slope).sum() ** 2  # of one image of a multinomial sample
    assert isclose(of_table(table).kappa_error, np.sqrt(variance / 100), rel_tol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_kappa_and_its_error_are_those_of_scikit_learn_left_out_one_by_one(seed: int) -> None:
    draw = np.random.default_rng(seed)
    first = draw.integers(0, 4, 800)
    second = np.where(draw.random(800) < 0.2 + 0.3 * seed, draw.integers(0, 4, 800), first)
    found = count(first, second)
    assert isclose(found.kappa, cohen_kappa_score(first, second), abs_tol=1e-12)
    table = np.zeros((4, 4), np.int64)
    np.add.at(table, (first, second), 1)
    assert isclose(found.kappa_error, jackknife_error_of_sklearn(table), rel_tol=0.02)


def test_the_least_kappa_of_a_class_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(5)
    first = draw.integers(0, 4, 300)
    second = np.where(draw.random(300) < 0.3, draw.integers(0, 4, 300), first)
    by_class = [cohen_kappa_score(first == label, second == label) for label in range(4)]
    assert isclose(count(first, second).least_class_kappa, min(by_class), abs_tol=1e-12)
    two = count(first % 2, second % 2)
    assert isclose(two.least_class_kappa, two.kappa)


def test_classes_that_do_not_occur_change_nothing_and_the_order_of_the_two_neither() -> None:
    first, second = [0, 7, 7, 3, 3, 0], [0, 7, 3, 3, 3, 7]
    found = count(first, second)
    assert count([0, 2, 2, 1, 1, 0], [0, 2, 1, 1, 1, 2]) == found
    assert isclose(count(second, first).kappa_error, found.kappa_error)
    assert found.changed == 1 - 4 / 6


def test_one_class_for_all_images_is_complete_agreement() -> None:
    assert count([2, 2, 2], [2, 2, 2]) == Agreement(3, 3, 1.0, 0.0, 1.0)
    assert count([2, 2, 2], [1, 1, 1]).kappa == 0


def test_the_share_that_changed_bounds_the_change_of_accuracy_whatever_the_labels_are() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        first, second, labels = draw.integers(0, 3, (3, 40))
        change = abs((first == labels).mean() - (second == labels).mean())
        assert change <= count(first, second).changed + 1e-12
    assert count([0, 0, 1], [1, 0, 1]).changed == 1 - 2 / 3
    reached = abs(np.mean([True, True, True]) - np.mean([False, True, True]))  # labels 0, 0, 1
    assert isclose(reached, count([0, 0, 1], [1, 0, 1]).changed)


def test_the_bound_on_f_measures_holds_for_random_pairs_of_binary_classifiers() -> None:
    draw = np.random.default_rng(1)
    seen = 0
    for _ in range(300):
        labels = draw.random(200) < draw.uniform(0.1, 0.9)
        first = np.where(draw.random(200) < 0.1, ~labels, labels)
        second = np.where(draw.random(200) < draw.uniform(0, 0.08), ~first, first)
        bound = count(first.astype(int), second.astype(int)).most_f_change
        f = [2 * (p & labels).sum() / (p.sum() + labels.sum()) for p in (first, second)]
        if bound is not None:
            seen += 1
            assert abs(f[0] - f[1]) <= bound
    assert seen > 100
    assert f_change_bound(0.0) is None
    assert f_change_bound(-0.5) is None


def test_a_record_keeps_an_agreement_and_other_fields_are_refused() -> None:
    found = of_table(TABLE)
    assert Agreement.of(found.as_dict()) == found
    assert Agreement.of({}) is None
    with pytest.raises(ValueError, match="an agreement must have images"):
        Agreement.of({"images": 3})
