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
from assl_lightning.base.seeding import Draws, derive_key, make_generator
from assl_lightning.method.candidates import Candidates


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


def reference_masks(strategy: BALD, index: int, feature_dim: int, pool: int) -> list[tuple[float, list[float]]]:
    """Each mask of one sample and its share 1 / T: bits of the counter-based draws, sixteen for a feature, in order."""
    if strategy.shared_masks:
        uniform = torch.rand(strategy.num_draws, feature_dim, generator=make_generator(strategy.seed, "bald", pool))
        kept = (uniform >= strategy.dropout).tolist()
    else:
        draws = Draws(derive_key(strategy.seed, "bald"), torch.tensor([index]))
        numbers = [
            int(draws.bits(word)[0]) >> (16 * part) & 0xFFFF
            for word in range(strategy.num_draws * feature_dim // 4 + 1)
            for part in range(4)
        ]
        keeps = [(number ^ 0x8000) >= round(strategy.dropout * 2**16) for number in numbers]
        kept = [keeps[draw * feature_dim : (draw + 1) * feature_dim] for draw in range(strategy.num_draws)]
    return [(1 / strategy.num_draws, [keep / (1 - strategy.dropout) for keep in mask]) for mask in kept]


@pytest.mark.parametrize("shared_masks", [False, True])
@pytest.mark.parametrize("num_draws", [2, 5])
@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_the_scores_equal_a_loop_over_masks_and_samples(num_draws: int, dropout: float, shared_masks: bool) -> None:
    candidates = make_candidates(feature_dim=7)
    assert candidates.features is not None
    assert isinstance(candidates.head, nn.Linear)
    strategy = BALD(num_draws, dropout, seed=7, shared_masks=shared_masks)
    expected = [
        reference_score(candidates.head, row, reference_masks(strategy, index, 7, pool=40))
        for row, index in zip(candidates.features, candidates.index.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        strategy.scores(candidates), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-12
    )
    assert max(expected) > 0.1


@pytest.mark.parametrize("shared_masks", [False, True])
def test_many_draws_come_to_the_mutual_information_over_all_masks(shared_masks: bool) -> None:
    candidates = make_candidates(rows=6, feature_dim=6)
    assert candidates.features is not None
    assert isinstance(candidates.head, nn.Linear)
    dropout = 0.3
    masks = [
        (math.prod(1 - dropout if keep else dropout for keep in kept), [keep / (1 - dropout) for keep in kept])
        for kept in itertools.product((0, 1), repeat=6)
    ]
    expected = [reference_score(candidates.head, row, masks) for row in candidates.features]
    scores = BALD(4000, dropout, shared_masks=shared_masks).scores(candidates)
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64), rtol=0.1, atol=0.005)


def test_the_picks_are_the_largest_scores_best_first() -> None:
    candidates = make_candidates()
    strategy = BALD(seed=1)
    best_first = strategy.scores(candidates).argsort(descending=True)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert strategy.acquire(candidates, 7, generator).index.tolist() == candidates.index[best_first[:7]].tolist()
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("num_draws", [2, 3, 5, 7])
def test_a_head_that_ignores_the_features_scores_exactly_zero_and_the_lower_index_is_first(num_draws: int) -> None:
    logits = torch.randn(5, generator=torch.Generator().manual_seed(num_draws))

    def head(features: Tensor) -> Tensor:
        return logits.expand(len(features), 5)

    candidates = Candidates(torch.tensor([9, 2, 5, 7]), features=torch.randn(4, 3), head=head)
    strategy = BALD(num_draws)
    assert strategy.scores(candidates).tolist() == [0.0] * 4
    assert strategy.acquire(candidates, 4, torch.Generator()).index.tolist() == [2, 5, 7, 9]


def test_a_sample_without_features_scores_zero_and_no_sample_less() -> None:
    candidates = make_candidates(scale=100.0)  # saturated: most draws are one-hot
    assert candidates.features is not None
    candidates.features[3] = 0
    scores = BALD().scores(candidates)
    assert float(scores[3]) == 0
    assert bool((scores >= 0).all())
    assert float(scores.max()) <= math.log(5) + 1e-12


@pytest.mark.parametrize("gap", [10.0, 40.0, 80.0])
def test_the_scores_of_nearly_one_hot_predictions_are_as_small_as_they_are(gap: float) -> None:
    # With one feature either mask keeps or drops it; in each case class 0 has all but exp(-gap) or exp(-gap / 2).
    head = nn.Linear(1, 2).requires_grad_(False)
    head.weight.copy_(torch.tensor([[gap / 4], [-gap / 4]]))
    head.bias.copy_(torch.tensor([gap / 4, -gap / 4]))
    scores = BALD(num_draws=64).scores(Candidates(torch.arange(20), features=torch.ones(20, 1), head=head))
    strategy = BALD(num_draws=64)
    for index in range(20):
        masks = reference_masks(strategy, index, 1, pool=20)
        others = [1 / (1 + math.exp((1 + factor) * gap / 2)) for _, (factor,) in masks]  # 1 - p
        mean = sum(others) / 64
        # Σ of both classes' p log(p / m), the sure class's by the series log(1 + x) = x.
        expected = sum(q * math.log(q / mean) + (1 - q) * math.log1p((mean - q) / (1 - mean)) for q in others) / 64
        assert float(scores[index]) == pytest.approx(expected, rel=1e-5)


def test_no_score_is_below_zero_where_the_draws_hardly_differ() -> None:
    scores = BALD().scores(make_candidates(rows=300, scale=1e-7))  # the draws differ in the last bits of the logits
    assert bool((scores >= 0).all())
    assert 0 < float(scores.max()) < 1e-12


@pytest.mark.parametrize("shared_masks", [False, True])
def test_the_scores_do_not_depend_on_the_order_of_the_candidates(shared_masks: bool) -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    permuted = Candidates(candidates.index[order], features=candidates.features[order], head=candidates.head)
    strategy = BALD(shared_masks=shared_masks)
    assert torch.equal(strategy.scores(permuted), strategy.scores(candidates)[order])


@pytest.mark.parametrize("shared_masks", [False, True])
def test_blocks_of_rows_give_the_scores_of_all_at_once(monkeypatch: pytest.MonkeyPatch, shared_masks: bool) -> None:
    candidates, seen = make_candidates(), []
    head, strategy = candidates.head, BALD(shared_masks=shared_masks)
    assert head is not None

    def note_rows(features: Tensor, head: Callable[[Tensor], Tensor] = head) -> Tensor:
        seen.append(len(features))
        return head(features)

    whole = strategy.scores(candidates)
    monkeypatch.setattr(bald, "_BLOCK_CPU", 16 * 5 * 8)
    assert torch.equal(strategy.scores(candidates), whole)
    strategy.scores(Candidates(candidates.index, features=candidates.features, head=note_rows))
    assert seen == [1, 16 * 5, 16 * 5, 8 * 5]


def test_a_samples_score_follows_from_the_seed_and_its_index_and_no_other_candidate() -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    fewer = Candidates(candidates.index[5:9], features=candidates.features[5:9], head=candidates.head)
    scores = BALD(seed=0).scores(candidates)
    assert torch.equal(BALD(seed=0).scores(fewer), scores[5:9])
    assert not torch.allclose(BALD(seed=1).scores(candidates), scores)
    moved = Candidates(candidates.index + 1, features=candidates.features, head=candidates.head)
    assert not torch.allclose(BALD(seed=0).scores(moved), scores)


def test_shared_masks_follow_from_the_seed_and_the_size_of_the_pool() -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    fewer = Candidates(candidates.index[:39], features=candidates.features[:39], head=candidates.head)
    scores = BALD(seed=0, shared_masks=True).scores(candidates)
    assert torch.equal(BALD(seed=0, shared_masks=True).scores(candidates), scores)
    assert not torch.allclose(BALD(seed=1, shared_masks=True).scores(candidates), scores)
    assert not torch.allclose(BALD(seed=0, shared_masks=True).scores(fewer), scores[:39])


def test_equal_samples_have_masks_of_their_own_unless_they_are_shared() -> None:
    candidates = Candidates(
        torch.arange(30), features=torch.randn(1, 8).expand(30, 8).contiguous(), head=make_head(8, 5)
    )
    assert len(set(BALD().scores(candidates).tolist())) == 30
    assert len(set(BALD(shared_masks=True).scores(candidates).tolist())) == 1


@pytest.mark.parametrize("precise", [True, False])
def test_with_shared_masks_equal_samples_are_picked_by_their_index(precise: bool) -> None:
    linear = make_head(8, 5).requires_grad_(False)
    index = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:100]
    features = torch.randn(1, 8, generator=torch.Generator().manual_seed(1)).expand(100, 8).contiguous()

    def rounds_by_the_place_of_a_row(rows: Tensor) -> Tensor:
        logits: Tensor = linear(rows)
        return logits * (1 + 1e-6 * torch.arange(len(rows))[:, None])

    candidates = Candidates(index, features=features, head=linear if precise else rounds_by_the_place_of_a_row)
    picks = BALD(shared_masks=True).acquire(candidates, 60, torch.Generator()).index
    assert picks.tolist() == index.sort().values[:60].tolist()


def test_samples_disagree_with_their_masks_independently_of_each_other() -> None:
    # Of features that are all alike, masks of their own drop half of each sample's, and of each feature's samples.
    kept = BALD(num_draws=3)._draw_own_masks(torch.arange(4000), 6).double()
    assert kept.shape == (4000, 3, 6)
    torch.testing.assert_close(kept.mean(0), torch.full((3, 6), 0.5, dtype=torch.float64), rtol=0, atol=0.04)
    correlation = torch.corrcoef(kept.flatten(1).T)
    assert float((correlation - torch.eye(18)).abs().max()) < 0.08


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
