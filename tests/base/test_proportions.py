from __future__ import annotations

import pytest
from scipy.stats import binomtest

from assl_lightning.base.proportions import wilson_interval


@pytest.mark.parametrize(
    ("successes", "count", "expected"),
    [
        (8, 10, (0.490, 0.943)),  # (8 + 1.92 ∓ 1.96 √(8·2/10 + 0.96)) / 13.84
        (5, 10, (0.237, 0.763)),
        (0, 1, (0.0, 0.793)),  # 3.84 / 4.84
    ],
)
def test_the_interval_is_that_worked_out_by_hand(successes: int, count: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(successes, count) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("count", [1, 2, 7, 120, 10_000])
def test_the_interval_is_scipys(count: int) -> None:
    for successes in {0, 1, count // 3, count // 2, count - 1, count}:
        reference = binomtest(successes, count).proportion_ci(0.95, method="wilson")
        assert wilson_interval(successes, count) == pytest.approx((reference.low, reference.high), abs=1e-12)
        low, high = wilson_interval(successes, count)
        assert 0 <= low <= successes / count <= high <= 1


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (-1, 3), (4, 3)])
def test_shares_that_cannot_be_are_refused(successes: int, count: int) -> None:
    with pytest.raises(ValueError, match=rf"needs 0 ≤ successes ≤ count and count ≥ 1; got {successes} of {count}"):
        wilson_interval(successes, count)
