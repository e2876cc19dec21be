from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import permutations

import pytest

from assl_lightning.base.proportions import wilson_interval
from assl_lightning.stopping import PickedAccuracy, lure_weights


def sequences(weights: Sequence[float], share: float, picks: int) -> Iterator[tuple[tuple[int, ...], list[float]]]:
    """Every order in which so many can be picked, with the probability of each pick among those left."""
    for order in permutations(range(len(weights)), picks):
        left, found = dict(enumerate(weights)), []
        for pick in order:
            total = math.fsum(left.values())
            found.append((1 - share) * (left[pick] / total if total else 1 / len(left)) + share / len(left))
            del left[pick]
        yield order, found


def test_the_weights_are_those_worked_out_by_hand() -> None:
    # N = 4, M = 2: v₁ = 1 + 2/3 · (1 / (4 · ½) − 1) = ⅔, v₂ = 1 + 2/2 · (1 / (3 · ¼) − 1) = 4/3
    assert lure_weights([1 / 2, 1 / 4], 4) == pytest.approx((2 / 3, 4 / 3))


@pytest.mark.parametrize("picks", [1, 2, 3, 4])
@pytest.mark.parametrize("share", [0.2, 1.0])
@pytest.mark.parametrize(
    ("weights", "wrong"),
    [
        ((1.0, 3.0, 7.0), (True, False, False)),  # wrong where it is sure
        ((1.0, 3.0, 7.0), (False, False, True)),
        ((2.0, 0.0, 5.0, 1.0), (True, True, False, False)),
    ],
)
def test_over_all_orders_of_the_picks_the_mean_is_the_accuracy_on_all(
    weights: tuple[float, ...], wrong: tuple[bool, ...], share: float, picks: int
) -> None:
    if picks > len(weights):
        return
    mean = total = 0.0
    for order, chances in sequences(weights, share, picks):
        likely = math.prod(chances)
        v = lure_weights(chances, len(weights))
        # The estimate without its cut at 0, under which it is unbiased.
        estimate = 1 - math.fsum(one * wrong[pick] for one, pick in zip(v, order, strict=True)) / picks
        found = PickedAccuracy(v, tuple(wrong[pick] for pick in order))
        assert found.accuracy == pytest.approx(max(0.0, estimate), abs=1e-12)
        mean += likely * estimate
        total += likely
    assert total == pytest.approx(1, abs=1e-12)
    assert mean == pytest.approx(1 - sum(wrong) / len(wrong), abs=1e-12)


def test_the_plain_mean_over_the_picks_is_biased_where_it_is_not() -> None:
    wrong, mean = (False, False, True), 0.0
    for order, chances in sequences((1.0, 3.0, 7.0), 0.2, 1):
        mean += math.prod(chances) * (not wrong[order[0]])
    assert mean < 2 / 3 - 0.1


@pytest.mark.parametrize("candidates", [5, 6, 1000])
def test_uniform_draws_weigh_one_and_have_wilsons_interval(candidates: int) -> None:
    weights = lure_weights([1 / (candidates - m) for m in range(5)], candidates)
    assert weights == pytest.approx([1.0] * 5)
    found = PickedAccuracy(weights, (True, False, False, False, True))
    assert found.is_uniform
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.interval == pytest.approx(wilson_interval(3, 5))


def test_all_that_there_are_weigh_one_whatever_the_order() -> None:
    assert lure_weights([0.9, 0.5, 1.0], 3) == (1.0, 1.0, 1.0)


def test_more_picks_than_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates must be at least as many as the 3 picks; got 2"):
        lure_weights([0.5, 0.5, 0.5], 2)


def test_where_labels_are_missing_it_is_the_weighted_share_of_those_that_are_there() -> None:
    found = PickedAccuracy((0.5, 2.0, 1.5, 1.0), (True, None, False, False))
    assert found.n == 3
    assert found.accuracy == pytest.approx(1 - 0.5 / 3.0)
    # Few wrong ones that weigh little vary less than the weights say: Kish's number is the smaller one.
    count = 3.0**2 / (0.5**2 + 1.5**2 + 1.0**2)
    low, high = wilson_interval(0.5 / 3 * count, count)
    assert found.interval == pytest.approx((1 - high, 1 - low))
    assert str(found).endswith("by 3 picks weighed by how likely each was (LURE); 1 more without a label")


def test_a_large_weight_on_a_wrong_pick_makes_the_interval_wider_than_the_weights_do() -> None:
    weights = (4.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 2.0)
    wrong = (True, *[False] * 9)
    error = 4.0 / 10
    variance = math.fsum((v * is_wrong - error) ** 2 for v, is_wrong in zip(weights, wrong, strict=True)) / 100
    count = error * (1 - error) / variance
    assert count < sum(weights) ** 2 / sum(v * v for v in weights)
    low, high = wilson_interval(error * count, count)
    found = PickedAccuracy(weights, wrong)
    assert found.accuracy == pytest.approx(1 - error)
    assert found.interval == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("wrong", [(True, True, True), (False, False, False), (True, False, None)])
def test_the_estimate_and_its_interval_stay_between_zero_and_one(wrong: tuple[bool | None, ...]) -> None:
    found = PickedAccuracy((3.0, 2.0, 0.1), wrong)
    low, high = found.interval
    assert 0 <= low <= found.accuracy <= high <= 1
    assert high - low > 0.3, "three picks say little"


def test_the_picks_of_several_seeds_are_taken_together() -> None:
    one, other = PickedAccuracy((1.0, 1.0), (True, False)), PickedAccuracy((0.5, 1.5), (False, True))
    assert (one + other).accuracy == pytest.approx(1 - (1.0 + 1.5) / 4)
    assert not (one + other).is_uniform


def test_the_sentence_says_how_the_number_was_found() -> None:
    expected = "80.0 % [49.0, 94.3] accuracy without a hold-out, by 10 picks drawn at random"
    assert re.fullmatch(re.escape(expected), str(PickedAccuracy((1.0,) * 10, (True, True, *[False] * 8))))
