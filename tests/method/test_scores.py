"""The scores against float64 loops over Eq. 1 and Eq. 4 of Lim et al. 2023, and the laws that they obey."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from assl_lightning.method.scores import entropy, least_confidence, margin, pseudo_el2n, symmetric_kl, view_variance

Score = Callable[[Tensor], Tensor]

SCORES: dict[str, Score] = {
    "pseudo_el2n": pseudo_el2n,
    "entropy": entropy,
    "margin": margin,
    "least_confidence": least_confidence,
}
every_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())

rows = st.integers(2, 12).flatmap(
    lambda classes: st.lists(st.floats(-30, 30, width=32), min_size=classes, max_size=classes)
)
pairs_of_rows = st.integers(2, 12).flatmap(
    lambda classes: st.tuples(
        *[st.lists(st.floats(-30, 30, width=32), min_size=classes, max_size=classes) for _ in range(2)]
    )
)


def reference_softmax(row: list[float]) -> list[float]:
    largest = max(row)
    weights = [math.exp(value - largest) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def reference_pseudo_el2n(row: list[float]) -> float:
    """Eq. 1: u = ‖p − onehot(argmax p)‖₂, with 1 − p_max as the sum of the others."""
    probabilities = reference_softmax(row)
    label = max(range(len(row)), key=lambda c: probabilities[c])
    others = [p for c, p in enumerate(probabilities) if c != label]
    return math.hypot(math.fsum(others), *others)


def reference_symmetric_kl(row_a: list[float], row_b: list[float]) -> float:
    """Eq. 4: i = (KL(a ‖ b) + KL(b ‖ a)) / 2."""
    a, b = reference_softmax(row_a), reference_softmax(row_b)
    forward = math.fsum(p * math.log(p / q) for p, q in zip(a, b, strict=True))
    backward = math.fsum(q * math.log(q / p) for p, q in zip(a, b, strict=True))
    return (forward + backward) / 2


def reference_entropy(row: list[float]) -> float:
    return -math.fsum(p * math.log(p) for p in reference_softmax(row) if p > 0)


def reference_margin(row: list[float]) -> float:
    first, second = sorted(reference_softmax(row), reverse=True)[:2]
    return -(first - second)


def reference_least_confidence(row: list[float]) -> float:
    return math.fsum(sorted(reference_softmax(row))[:-1])


REFERENCES: dict[str, Callable[[list[float]], float]] = {
    "pseudo_el2n": reference_pseudo_el2n,
    "entropy": reference_entropy,
    "margin": reference_margin,
    "least_confidence": reference_least_confidence,
}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_score_equals_the_loop_over_its_definition(
    name: str, classes: int, spread: float, dtype: torch.dtype
) -> None:
    logits = torch.randn(4, 5, classes, generator=torch.Generator().manual_seed(classes), dtype=dtype) * spread
    expected = [[REFERENCES[name](row) for row in block] for block in logits.tolist()]
    tolerance = {torch.float32: 3e-6, torch.float64: 1e-13}[dtype]
    assert_close(SCORES[name](logits), torch.tensor(expected, dtype=dtype), rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_symmetric_kl_equals_the_loop_over_its_definition(classes: int, spread: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(classes)
    a, b = torch.randn(2, 4, 5, classes, generator=generator, dtype=dtype) * spread
    expected = [
        [reference_symmetric_kl(row_a, row_b) for row_a, row_b in zip(*blocks, strict=True)]
        for blocks in zip(a.tolist(), b.tolist(), strict=True)
    ]
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    assert_close(symmetric_kl(a, b), torch.tensor(expected, dtype=dtype), rtol=tolerance, atol=tolerance / 10)


def reference_view_variance(row_a: list[float], row_b: list[float]) -> float:
    """Gao et al. 2020: Σ_c Var over the views of p_c, here of two views, each of weight ½."""
    variance = 0.0
    for a, b in zip(reference_softmax(row_a), reference_softmax(row_b), strict=True):
        mean = (a + b) / 2
        variance += ((a - mean) ** 2 + (b - mean) ** 2) / 2
    return variance


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_variance_over_views_equals_the_loop_over_its_definition(
    classes: int, spread: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(classes)
    a, b = torch.randn(2, 6, classes, generator=generator, dtype=dtype) * spread
    expected = [reference_view_variance(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    assert_close(view_variance(a, b), torch.tensor(expected, dtype=dtype), rtol=tolerance, atol=tolerance / 100)
    assert torch.equal(view_variance(b, a), view_variance(a, b))
    assert_close(view_variance(a.T, b.T, dim=0), view_variance(a, b))


def test_the_variance_over_views_goes_from_0_to_a_half_and_of_a_nan_is_nan() -> None:
    a = torch.tensor([[50.0, 0.0], [1.0, 2.0], [math.nan, 0.0]])
    b = torch.tensor([[0.0, 50.0], [1.0, 2.0], [0.0, 0.0]])
    assert_close(view_variance(a, b), torch.tensor([0.5, 0.0, math.nan]), equal_nan=True)
    with pytest.raises(ValueError, match=r"view_variance compares .*one shape; got \(3, 2\) and \(2, 2\)"):
        view_variance(a, b[:2])


def exact_softmax(row: list[float]) -> list[Decimal]:
    weights = [(Decimal(value) - Decimal(max(row))).exp() for value in row]
    return [weight / sum(weights) for weight in weights]


def exact_pseudo_el2n(row: list[float]) -> Decimal:
    p = exact_softmax(row)
    label = row.index(max(row))
    return sum((value - (c == label)) ** 2 for c, value in enumerate(p)).sqrt()  # type: ignore[union-attr]


def exact_entropy(row: list[float]) -> Decimal:
    return -sum((p * p.ln() for p in exact_softmax(row)), Decimal(0))


def exact_margin(row: list[float]) -> Decimal:
    second, first = sorted(exact_softmax(row))[-2:]
    return second - first


def exact_least_confidence(row: list[float]) -> Decimal:
    return 1 - max(exact_softmax(row))


def exact_symmetric_kl(row_a: list[float], row_b: list[float]) -> Decimal:
    pairs = zip(exact_softmax(row_a), exact_softmax(row_b), strict=True)
    return sum(((a - b) * (a.ln() - b.ln()) for a, b in pairs), Decimal(0)) / 2


EXACT: dict[str, Callable[[list[float]], Decimal]] = {
    "pseudo_el2n": exact_pseudo_el2n,
    "entropy": exact_entropy,
    "margin": exact_margin,
    "least_confidence": exact_least_confidence,
}

# Powers of two beside small integers, so that all are the same numbers in bfloat16.
SURE = [pytest.param([gap, 0.0, -0.5, -1.25], id=f"gap {gap:g}") for gap in (4.0, 8.0, 17.0, 20.0, 40.0, 60.0, 80.0)]
TIED = [pytest.param([1 + 2.0**-7, 1.0, -3.0], id="two nearly tied"), pytest.param([2.0, 2.0, 2.0, 2.0], id="all tied")]
SATURATED = [pytest.param([1e4, -1e4, 0.0], id="one-hot"), pytest.param([1e4, 1e4, -1e4], id="two of 10⁴")]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [*SURE, *TIED, *SATURATED])
def test_a_score_keeps_its_relative_precision_where_the_prediction_is_extreme(
    name: str, dtype: torch.dtype, row: list[float]
) -> None:
    logits = torch.tensor(row, dtype=dtype)
    with localcontext() as context:
        context.prec = 60
        expected = float(EXACT[name](logits.tolist()))
    found = SCORES[name](logits).double()
    assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-13 if dtype == torch.float64 else 2e-6, atol=1e-37
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [*SURE, *TIED, *SATURATED])
@pytest.mark.parametrize("change", [0.0, 2.0**-6, 1.0, 6.0])
def test_symmetric_kl_keeps_its_relative_precision_where_the_predictions_are_extreme(
    dtype: torch.dtype, row: list[float], change: float
) -> None:
    a = torch.tensor(row, dtype=dtype)
    for label in (0, 1):
        b = a.clone()
        b[label] -= change
        with localcontext() as context:
            context.prec = 60
            expected = float(exact_symmetric_kl(a.tolist(), b.tolist()))
        tolerance = 1e-12 if dtype == torch.float64 else 2e-5  # log a − log b is 1 / 64 at least
        found = symmetric_kl(a, b).double()
        assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=1e-37)


def test_the_differences_of_a_score_are_numbers_where_a_class_is_ruled_out() -> None:
    logits = torch.tensor([[3.0, 1.0, -math.inf], [200.0, 0.0, -math.inf]], requires_grad=True)
    for score in SCORES.values():
        values = score(logits)
        assert_close(values, score(logits[:, :2]), rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(entropy(logits).sum(), logits)
    assert gradient.isfinite().all()


@given(pairs_of_rows)
def test_more_doubt_is_a_larger_pseudo_el2n_up_to_that_of_the_uniform_prediction(
    pair: tuple[list[float], list[float]],
) -> None:
    for row in pair:
        u = float(pseudo_el2n(torch.tensor(row)))
        assert 0 <= u <= math.sqrt(1 - 1 / len(row)) * (1 + 1e-6)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_the_uniform_prediction_has_the_largest_value_that_the_docstring_names(classes: int) -> None:
    uniform = torch.zeros(classes)
    assert_close(pseudo_el2n(uniform), torch.tensor(math.sqrt(1 - 1 / classes)))
    assert_close(entropy(uniform), torch.tensor(math.log(classes)))
    assert_close(margin(uniform), torch.tensor(0.0))
    assert_close(least_confidence(uniform), torch.tensor(1 - 1 / classes))


def test_a_one_hot_prediction_is_certain() -> None:
    one_hot = torch.tensor([[1e4, -1e4, -1e4], [-1e4, -1e4, 1e4]])
    assert_close(pseudo_el2n(one_hot), torch.zeros(2), rtol=0, atol=0)
    assert_close(entropy(one_hot), torch.zeros(2), rtol=0, atol=0)
    assert_close(margin(one_hot), -torch.ones(2), rtol=0, atol=0)
    assert_close(least_confidence(one_hot), torch.zeros(2), rtol=0, atol=0)


@given(pairs_of_rows)
def test_symmetric_kl_is_symmetric_not_negative_and_zero_for_equal_predictions(
    pair: tuple[list[float], list[float]],
) -> None:
    a, b = map(torch.tensor, pair)
    assert_close(symmetric_kl(a, b), symmetric_kl(b, a), rtol=0, atol=0)
    assert float(symmetric_kl(a, b)) >= 0
    assert float(symmetric_kl(a, a)) == 0


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_the_classes_changes_nothing(row: list[float], random: object) -> None:
    other = list(row)
    random.shuffle(other)  # type: ignore[attr-defined]
    for score in SCORES.values():
        assert_close(score(torch.tensor(row)), score(torch.tensor(other)), rtol=1e-5, atol=1e-6)
    flat = torch.zeros(len(row))
    assert_close(symmetric_kl(torch.tensor(row), flat), symmetric_kl(torch.tensor(other), flat), rtol=1e-4, atol=1e-5)


@given(pairs_of_rows, st.floats(-100, 100, width=32))
def test_a_constant_added_to_all_logits_changes_nothing(pair: tuple[list[float], list[float]], constant: float) -> None:
    a, b = (torch.tensor(row, dtype=torch.float64) for row in pair)
    for score in SCORES.values():
        assert_close(score(a + constant), score(a), rtol=1e-9, atol=1e-12)
    assert_close(symmetric_kl(a + constant, b), symmetric_kl(a, b), rtol=1e-9, atol=1e-11)


@every_score
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_logits_of_ten_thousand_give_finite_scores(score: Score, dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]], dtype=dtype)
    assert bool(score(logits).isfinite().all())
    assert bool(symmetric_kl(logits, logits.flip(0)).isfinite().all())


def test_the_disagreement_of_two_certain_views_is_the_difference_of_their_logits() -> None:
    assert_close(symmetric_kl(torch.tensor([1e4, -1e4]), torch.tensor([-1e4, 1e4])), torch.tensor(2e4))


@every_score
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_scored_in_float32_also_under_autocast(score: Score, dtype: torch.dtype) -> None:
    logits = (torch.randn(8, 10, generator=torch.Generator().manual_seed(0)) * 4).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast, kl = score(logits), symmetric_kl(logits, logits.flip(0))
    assert under_autocast.dtype == kl.dtype == torch.float32
    assert_close(under_autocast, score(logits.float()), rtol=0, atol=0)
    assert_close(kl, symmetric_kl(logits.float(), logits.float().flip(0)), rtol=0, atol=0)


@every_score
def test_a_nan_logit_gives_nan_for_its_sample_and_for_no_other(score: Score) -> None:
    logits = torch.zeros(3, 4)
    logits[1, 2] = torch.nan
    assert score(logits).isnan().tolist() == [False, True, False]
    assert symmetric_kl(logits, torch.zeros(3, 4)).isnan().tolist() == [False, True, False]
    assert symmetric_kl(torch.zeros(3, 4), logits).isnan().tolist() == [False, True, False]


@every_score
@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (3, 0)])
def test_logits_without_two_classes_are_an_error_that_names_the_shape(score: Score, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"at least C = 2 classes; got \("):
        score(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"at least C = 2 classes; got \("):
        symmetric_kl(torch.zeros(shape), torch.zeros(shape))


@every_score
def test_labels_in_the_place_of_logits_are_an_error(score: Score) -> None:
    with pytest.raises(TypeError, match=r"the network's output before softmax; got torch\.int64"):
        score(torch.zeros(3, 2, dtype=torch.int64))


def test_views_of_different_shapes_are_an_error_that_names_both() -> None:
    with pytest.raises(ValueError, match=r"one shape; got \(4, 3\) and \(1, 3\)"):
        symmetric_kl(torch.zeros(4, 3), torch.zeros(1, 3))


@every_score
def test_an_empty_batch_has_no_scores(score: Score) -> None:
    assert score(torch.zeros(0, 3)).shape == (0,)
