"""k-means++ by D²: what the scaling of feature vectors changes, beside what every strategy keeps (test_contract.py)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assl_lightning.acquisition.kmeans_plus_plus import KMeansPlusPlus
from assl_lightning.method.candidates import Candidates

DIRECTIONS = torch.nn.functional.normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), dim=1)
LENGTHS = 2.0 ** torch.randint(-3, 4, (40, 1), generator=torch.Generator().manual_seed(1))


def picks(features: Tensor, *, normalize_features: bool) -> list[int]:
    strategy = KMeansPlusPlus(normalize_features=normalize_features)
    candidates = Candidates(torch.arange(len(features)), features=features)
    selected: list[int] = strategy.acquire(candidates, 12, torch.Generator().manual_seed(5)).index.tolist()
    return selected


def test_scaled_vectors_count_by_their_direction_alone() -> None:
    expected = picks(DIRECTIONS, normalize_features=False)
    assert picks(DIRECTIONS * LENGTHS, normalize_features=True) == expected
    assert picks(DIRECTIONS * LENGTHS, normalize_features=False) != expected


@pytest.mark.parametrize("normalize_features", [True, False])
def test_vectors_of_length_zero_are_one_place(normalize_features: bool) -> None:
    features = torch.cat([torch.zeros(20, 6), DIRECTIONS[:11]])
    selected = picks(features, normalize_features=normalize_features)
    assert {index for index in selected if index >= 20} == set(range(20, 31)), "the zeros are no distance apart"
