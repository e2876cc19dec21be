from __future__ import annotations

import torch
from scipy import stats

from assl_lightning.acquisition.random import RandomSampling
from assl_lightning.method.candidates import Candidates


def test_every_candidate_is_picked_equally_often() -> None:
    candidates = Candidates(index=torch.tensor([40, 10, 30, 20, 50]))
    generator, counts = torch.Generator().manual_seed(0), dict.fromkeys([10, 20, 30, 40, 50], 0)
    for _ in range(2000):
        for pick in RandomSampling().acquire(candidates, 2, generator).index.tolist():
            counts[pick] += 1
    assert sum(counts.values()) == 4000
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_another_generator_gives_another_answer() -> None:
    candidates = Candidates(index=torch.arange(1000))
    picks = [
        RandomSampling().acquire(candidates, 10, torch.Generator().manual_seed(seed)).index.tolist() for seed in (0, 1)
    ]
    assert picks[0] != picks[1]
