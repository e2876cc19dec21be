from __future__ import annotations

import pytest
import torch

from assl_lightning.acquisition.uncertainty import (
    Entropy,
    LeastConfidence,
    Margin,
    PseudoEL2N,
    UncertaintySampling,
)
from assl_lightning.method.candidates import Candidates
from assl_lightning.method.scores import entropy, least_confidence, margin, pseudo_el2n

# Four classes. In the order of the pool indices: sure; two classes alike, no other; all alike but one a little ahead.
LOGITS = torch.tensor([[9.0, 0.0, 0.0, 0.0], [5.0, 5.0, -9.0, -9.0], [0.5, 0.0, 0.0, 0.0]])
CANDIDATES = Candidates(index=torch.tensor([10, 20, 30]), logits=LOGITS)


@pytest.mark.parametrize(
    ("strategy", "best_first"),
    [
        (Entropy(), [30, 20, 10]),
        (Margin(), [20, 30, 10]),
        (LeastConfidence(), [30, 20, 10]),
        (PseudoEL2N(), [30, 20, 10]),
    ],
)
def test_a_strategy_ranks_by_its_own_notion_of_doubt(strategy: UncertaintySampling, best_first: list[int]) -> None:
    assert strategy.acquire(CANDIDATES, 3, torch.Generator()).index.tolist() == best_first


def test_the_scores_are_those_of_the_scores_module_in_the_order_of_the_candidates() -> None:
    for strategy, score in (
        (Entropy(), entropy),
        (Margin(), margin),
        (LeastConfidence(), least_confidence),
        (PseudoEL2N(), pseudo_el2n),
    ):
        torch.testing.assert_close(strategy.scores(CANDIDATES), score(LOGITS.double()), rtol=1e-7, atol=0)


def test_a_nan_logit_is_an_error_that_names_the_sample() -> None:
    logits = LOGITS.clone()
    logits[1, 0] = torch.nan
    with pytest.raises(ValueError, match="score of sample 20 is nan"):
        Entropy().acquire(Candidates(index=CANDIDATES.index, logits=logits), 1, torch.Generator())


def test_saturated_predictions_are_ranked_not_lost() -> None:
    logits = torch.tensor([[1e4, 0.0], [0.0, 0.0], [200.0, 0.0], [20.0, 0.0]])
    picks = PseudoEL2N().acquire(Candidates(index=torch.arange(4), logits=logits), 4, torch.Generator())
    assert picks.index.tolist() == [1, 3, 2, 0]  # 200 and 10⁴ are both certain in float32, and told apart in float64


def test_least_confidence_tells_apart_what_in_float32_is_certain() -> None:
    logits = torch.tensor([[40.0, 0.0, 0.0], [30.0, 0.0, 0.0], [40.0, 30.0, 0.0]])  # 1 − p ≈ 2e⁻⁴⁰, 2e⁻³⁰, e⁻¹⁰
    picks = LeastConfidence().acquire(Candidates(index=torch.arange(3), logits=logits), 3, torch.Generator())
    assert picks.index.tolist() == [2, 1, 0]
