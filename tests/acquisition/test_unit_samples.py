"""What the strategies that compare directions say to features that cannot be compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from assl_lightning.acquisition.dcom import DCoM
from assl_lightning.acquisition.prob_cover import ProbCover
from assl_lightning.acquisition.typiclust import TypiClust
from assl_lightning.acquisition.unit_samples import unit_samples
from assl_lightning.method.candidates import Acquisition
from tests.acquisition.unit_pools import acquire, make_pool

every_strategy = pytest.mark.parametrize(
    "strategy", [TypiClust(), ProbCover(3), DCoM()], ids=lambda it: type(it).__name__
)


def test_features_have_length_one_in_the_order_of_the_index_but_where_there_is_no_direction() -> None:
    samples = unit_samples(torch.tensor([8, 2, 5]), torch.tensor([[3.0, 4.0], [0.0, 0.0], [-1e-30, 0.0]]))
    assert samples.index.tolist() == [2, 5, 8]
    assert samples.order.tolist() == [1, 2, 0]
    expected = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(samples.points.vectors, expected, rtol=1e-15, atol=0)
    assert samples.points.term.tolist() == [0, 0.5, 0.5]


@every_strategy
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_features_that_are_not_finite_are_an_error_that_names_the_sample(strategy: Acquisition, value: float) -> None:
    candidates = make_pool(20, 6, seed=0)
    assert candidates.features is not None
    assert candidates.labelled is not None
    features, known = candidates.features.clone(), candidates.labelled.features.clone()
    features[7, 1] = known[2, 0] = value
    message = r"length of the feature vector of sample {} is (nan|inf), not a finite number"
    with pytest.raises(ValueError, match=message.format(int(candidates.index[7]))):
        acquire(strategy, replace(candidates, features=features), 5)
    with pytest.raises(ValueError, match=message.format(int(candidates.labelled.index[2]))):
        acquire(strategy, replace(candidates, labelled=replace(candidates.labelled, features=known)), 5)


@every_strategy
def test_features_of_another_network_are_an_error(strategy: Acquisition) -> None:
    candidates = make_pool(20, 6, seed=0)
    other = make_pool(20, 6, seed=0, columns=7).labelled
    with pytest.raises(
        ValueError, match=r"features of .* must come from one network; got shapes \(6, 7\) and \(20, 4\)"
    ):
        acquire(strategy, replace(candidates, labelled=other), 5)


@every_strategy
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_kept_features_of_half_precision_are_taken(strategy: Acquisition, dtype: torch.dtype) -> None:
    candidates = make_pool(20, 6, seed=0)
    assert candidates.features is not None
    assert candidates.labelled is not None
    rounded = candidates.features.to(dtype), candidates.labelled.features.to(dtype)
    found = replace(candidates, features=rounded[0], labelled=replace(candidates.labelled, features=rounded[1]))
    exact = replace(
        candidates, features=rounded[0].double(), labelled=replace(candidates.labelled, features=rounded[1].double())
    )
    assert acquire(strategy, found, 8) == acquire(strategy, exact, 8)
