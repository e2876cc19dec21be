"""Candidates that are the same numbers on every processor, with copies and ties among them; prints what is picked.

python -m tests.acquisition.exact_candidates THREADS
"""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor, nn

from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Acquisition, AnsweredSamples, Candidates, LabelledSamples, Selection

CLASSES, FEATURES = 5, 16


def sixteenths(name: str, rows: int, columns: int) -> Tensor:
    """(rows, columns) of multiples of 1/16 in [−2, 2), by integers alone; their products of few are exact."""
    draws = Draws(derive_key(0, name), torch.arange(rows))
    return (draws.integers(range(columns), 64) - 32) / 16


def make_exact_candidates(rows: int = 300, *, distinct: int = 100) -> Candidates:
    """`distinct` samples that occur several times, half of them with the prediction of another, its classes swapped."""
    features = sixteenths("features", distinct, FEATURES).relu()
    head = nn.Linear(FEATURES, CLASSES).requires_grad_(False)
    head.weight.copy_(sixteenths("weight", CLASSES, FEATURES))
    head.bias.copy_(sixteenths("bias", 1, CLASSES)[0])
    logits = head(features)
    logits[distinct // 2 :] = logits[: distinct - distinct // 2].roll(1, dims=1)
    row = torch.arange(rows) % distinct
    u, u_variance, i, i_variance = (sixteenths("statistics", distinct, 4)[row].abs() + 1).unbind(1)
    labelled = sixteenths("labelled", 12, FEATURES).relu()
    further = sixteenths("further", distinct, 2)[row].abs()
    weights = sixteenths("mean", distinct, CLASSES).abs() + 1 / 16
    weights[distinct // 2 :] = weights[: distinct - distinct // 2].roll(1, dims=1)
    mean = weights / weights.sum(1, keepdim=True)  # of an exact sum; a division is rounded alike everywhere
    return Candidates(
        index=3 * torch.arange(rows) + 7,
        statistics=CandidateStatistics(u, u_variance, i, i_variance, torch.ones(rows, dtype=torch.int32)),
        logits=logits[row],
        features=features[row],
        labelled=LabelledSamples(3 * torch.arange(12), torch.arange(12) % CLASSES, head(labelled), labelled),
        head=head,
        answered=make_answered(),
        forgetting=(16 * further[:, 0]).int(),
        view_variance=further[:, 1] / 4,
        mean_probabilities=mean[row],
        flipped_logits=logits[row].roll(2, dims=1),
    )


def make_answered() -> AnsweredSamples:
    """Eight samples of the query before, every other one wrong and more uncertain than the right ones."""
    wrong = torch.arange(8) % 2 == 0
    u, zero = wrong + 0.5, torch.zeros(8)
    statistics = CandidateStatistics(u, zero, u, zero, torch.ones(8, dtype=torch.int32))
    return AnsweredSamples(statistics, wrong, torch.ones(8, dtype=torch.int64))


def consistent(candidates: Candidates) -> Candidates:
    """With logits that are the head's own, as ALFA-Mix's closed form asks for."""
    assert candidates.head is not None
    assert candidates.features is not None
    fields = {**vars(candidates), "logits": candidates.head(candidates.features)}
    return Candidates(**fields)


def select(strategy: Acquisition, candidates: Candidates, budget: int = 25) -> Selection:
    if "logits" in strategy.requires and "head" in strategy.requires:
        candidates = consistent(candidates)
    return strategy.acquire(candidates, budget, torch.Generator().manual_seed(5))


def pick(strategy: Acquisition, candidates: Candidates, budget: int = 25) -> list[int]:
    picks: list[int] = select(strategy, candidates, budget).index.tolist()
    return picks


if __name__ == "__main__":
    from tests.acquisition.test_contract import NAMES, UNTESTABLE, make_strategy

    torch.set_num_threads(int(sys.argv[1]))
    found = {name: pick(make_strategy(name), make_exact_candidates()) for name in NAMES if name not in UNTESTABLE}
    sys.stdout.write(json.dumps({"capability": torch.backends.cpu.get_cpu_capability(), "picks": found}))
