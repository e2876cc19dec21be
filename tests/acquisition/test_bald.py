"""BALD against a loop in float64 over masks and samples, and against the integral that its draws estimate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from assl_lightning.acquisition import bald
from assl_lightning.acquisition.bald import BALD
from assl_lightning.acquisition.base import Candidates
from assl_lightning.seeding import make_generator


def make_head(feature_dim: int, classes: int, seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(feature_dim, classes)


def make_candidates(rows: int = 40, feature_dim: int = 8, classes: int = 5, scale: float = 3.0) -> Candidates:
    generator = torch.Generator().manual_seed(rows)
    features = scale * torch.randn(rows, feature_dim, generator=generator)
    index = torch.randperm(10 * rows, generator=generator)[:rows]
    return Candidates(index, features=features, head=make_head(feature_dim, classes))


def softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / sum(powers) for power in powers]


def entropy(probabilities: Sequence[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def reference_score(head: nn.Linear, features: Tensor, weighted_masks: list[tuple[float, list[float]]]) -> float:
    """H[E p] − E H[p] for one sample (d,), over masks and their probabilities, in float64."""
    expected, expected_entropy = [0.0] * head.out_features, 0.0
    for weight, mask in weighted_masks:
        logits = [
            sum(w * h * m for w, h, m in zip(row, features.double().tolist(), mask, strict=True)) + b
            for row, b in zip(head.weight.double().tolist(), head.bias.double().tolist(), strict=True)
        ]
        p = softmax(logits)
        expected = [mean + weight * each for mean, each in zip(expected, p, strict=True)]
        expected_entropy += weight * entropy(p)
    return entropy(expected) - expected_entropy


@pytest.mark.parametrize("num_draws", [2, 5])
@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_the_scores_equal_a_loop_over_masks_and_samples(num_draws: int, dropout: float) -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    assert isinstance(candidates.head, nn.Linear)
    uniform = torch.rand(num_draws, 8, generator=make_generator(7, "bald", 40)).tolist()
    masks = [(1 / num_draws, [float(number >= dropout) / (1 - dropout) for number in row]) for row in uniform]
    expected = [reference_score(candidates.head, row, masks) for row in candidates.features]
    scores = BALD(num_draws, dropout, seed=7).scores(candidates)
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-6)
    assert max(expected) > 0.1


def test_many_draws_come_to_the_mutual_information_over_all_masks() -> None:
    candidates = make_candidates(rows=6, feature_dim=6)
    assert candidates.features is not None
    assert isinstance(candidates.head, nn.Linear)
    dropout = 0.3
    masks = [
        (math.prod(1 - dropout if keep else dropout for keep in kept), [keep / (1 - dropout) for keep in kept])
        for kept in itertools.product((0, 1), repeat=6)
    ]
    expected = [reference_score(candidates.head, row, masks) for row in candidates.features]
    scores = BALD(4000, dropout).scores(candidates)
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64), rtol=0.1, atol=0.005)


def test_the_picks_are_the_largest_scores_best_first() -> None:
    candidates = make_candidates()
    strategy = BALD(seed=1)
    best_first = strategy.scores(candidates).argsort(descending=True)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert strategy.acquire(candidates, 7, generator).tolist() == candidates.index[best_first[:7]].tolist()
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("num_draws", [2, 3, 5, 7])
def test_a_head_that_ignores_the_features_scores_exactly_zero_and_the_lower_index_is_first(num_draws: int) -> None:
    logits = torch.randn(5, generator=torch.Generator().manual_seed(num_draws))

    def head(features: Tensor) -> Tensor:
        return logits + torch.arange(len(features))[:, None] * logits

    candidates = Candidates(torch.tensor([9, 2, 5, 7]), features=torch.randn(4, 3), head=head)
    strategy = BALD(num_draws)
    assert strategy.scores(candidates).tolist() == [0.0] * 4
    assert strategy.acquire(candidates, 4, torch.Generator()).tolist() == [2, 5, 7, 9]


def test_a_sample_without_features_scores_zero_and_no_sample_less() -> None:
    candidates = make_candidates(scale=100.0)  # saturated: most draws are one-hot
    assert candidates.features is not None
    candidates.features[3] = 0
    scores = BALD().scores(candidates)
    assert float(scores[3]) == 0
    assert bool((scores >= 0).all())
    assert float(scores.max()) <= math.log(5) + 1e-12


def test_scores_that_rounding_would_make_negative_are_zero() -> None:
    scores = BALD().scores(make_candidates(rows=300, scale=1e-7))  # the draws differ in the last bits of the logits
    assert bool((scores >= 0).all())
    assert 0 < float(scores.max()) < 1e-12


def test_the_scores_do_not_depend_on_the_order_of_the_candidates_though_the_head_rounds_by_the_place_of_a_row() -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    linear = make_head(8, 5)

    def head(features: Tensor) -> Tensor:
        logits: Tensor = linear(features)
        return logits * (1 + 1e-6 * torch.arange(len(features))[:, None])

    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    scores = BALD().scores(Candidates(candidates.index, features=candidates.features, head=head))
    permuted = BALD().scores(Candidates(candidates.index[order], features=candidates.features[order], head=head))
    assert torch.equal(permuted, scores[order])


def test_blocks_of_rows_give_the_scores_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates, seen = make_candidates(), []
    head = candidates.head
    assert head is not None

    def note_rows(features: Tensor, head: Callable[[Tensor], Tensor] = head) -> Tensor:
        seen.append(len(features))
        return head(features)

    whole = BALD().scores(candidates)
    monkeypatch.setattr(bald, "_BLOCK", 16)
    parts = BALD().scores(Candidates(candidates.index, features=candidates.features, head=note_rows))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)
    assert seen == [16] * 5 + [16] * 5 + [8] * 5


def test_the_seed_and_the_size_of_the_pool_decide_the_masks() -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    fewer = Candidates(candidates.index[:39], features=candidates.features[:39], head=candidates.head)
    scores = BALD(seed=0).scores(candidates)
    assert torch.equal(BALD(seed=0).scores(candidates), scores)
    assert not torch.allclose(BALD(seed=1).scores(candidates), scores)
    assert not torch.allclose(BALD(seed=0).scores(fewer), scores[:39])


def test_the_scores_carry_no_gradient_though_the_head_has_parameters() -> None:
    assert not BALD().scores(make_candidates()).requires_grad


def test_features_that_are_not_finite_are_an_error_that_names_the_sample() -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    candidates.features[6, 2] = torch.nan
    with pytest.raises(ValueError, match=f"score of sample {int(candidates.index[6])} is nan"):
        BALD().acquire(candidates, 3, torch.Generator())


@pytest.mark.parametrize("num_draws", [1, 0, 2.5])
def test_fewer_than_two_draws_are_an_error(num_draws: int) -> None:
    with pytest.raises(ValueError, match=f"num_draws must be an integer of at least 2, .*; got {num_draws}"):
        BALD(num_draws=num_draws)


@pytest.mark.parametrize("dropout", [0.0, 1.0, -0.5, float("nan")])
def test_a_dropout_that_drops_nothing_or_all_is_an_error(dropout: float) -> None:
    with pytest.raises(ValueError, match=f"dropout must be above 0 and below 1, .*; got {dropout}"):
        BALD(dropout=dropout)
