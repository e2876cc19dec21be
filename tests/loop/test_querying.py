"""What a query hands to its strategy; what it picks is in test_rounds.py and test_end_to_end.py."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from assl_lightning.acquisition.power import PowerSampling
from assl_lightning.acquisition.random import RandomSampling
from assl_lightning.base.ties import head_in_float64
from assl_lightning.data.pool import Pool
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.trained_model import TrainedModel
from assl_lightning.loop.querying import Head, query
from assl_lightning.method.candidates import Candidates, Requirement, Selection
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.settings import FURTHER
from assl_lightning.method.statistics import SampleStatistics
from assl_lightning.networks.small import SmallCNN
from tests.stripes import CLASSES, LABELS, POOL_SIZE, make_datamodule


def make_network(dtype: torch.dtype = torch.float32) -> SmallCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallCNN(3, width=4).to(dtype).eval()


@pytest.mark.parametrize("of_network", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("of_features", [torch.float16, torch.float32, torch.float64])
def test_features_of_any_precision_give_the_networks_logits_in_float32_or_better(
    of_network: torch.dtype, of_features: torch.dtype
) -> None:
    network = make_network(of_network)
    features = torch.randn(5, network.feature_dim, generator=torch.Generator().manual_seed(0)).to(of_features)
    logits = Head(network)(features)
    assert logits.dtype == (torch.float64 if of_network == torch.float64 else torch.float32)
    torch.testing.assert_close(logits, network.head(features.to(of_network)).to(logits))


def test_in_float64_it_computes_what_float32_rounds() -> None:
    network = make_network()
    features = torch.randn(5, 7, network.feature_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = head_in_float64(Head(network), features.device)(features)
    exact = make_network().double().head(features)
    torch.testing.assert_close(logits, exact, rtol=1e-13, atol=1e-14)
    assert logits.dtype == torch.float64
    assert next(network.parameters()).dtype == torch.float32


def test_further_statistics_and_mirror_images_are_filled_for_a_strategy_that_requires_them() -> None:
    pool = Pool(POOL_SIZE, CLASSES)
    pool.label(torch.tensor([41, 3]), LABELS[[41, 3]], 0)
    datamodule = make_datamodule(pool)
    datamodule.start_round(0, seed=0, steps_per_round=1)
    statistics = SampleStatistics(POOL_SIZE, further=FURTHER)
    index = torch.arange(POOL_SIZE - 6)  # the last six were never visited
    weak, strong = torch.randn(2, len(index), CLASSES, generator=torch.Generator().manual_seed(0))
    statistics.update(index, index / 99, index / 99, further=statistics.further.observe(weak, strong))
    listener, network = Listener(), SmallCNN(CLASSES, width=2)
    listener.requires = frozenset({*FURTHER, "logits", "flipped_logits"})
    trained = TrainedModel(network, statistics, nullcontext)
    query(listener, datamodule, trained, budget=5, unvisited="exclude")
    given = listener.given
    assert len(given) == POOL_SIZE - 8
    for name in FURTHER:
        assert torch.equal(given.require(name), statistics.further[name].rows(given.index))
    torch.testing.assert_close(given.require("mean_probabilities"), weak.softmax(1)[given.index], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        mirrored = network(datamodule.plain_view(given.index).flip(-1))
    torch.testing.assert_close(given.require("flipped_logits"), mirrored, rtol=1e-4, atol=1e-5)
    assert given.statistics is None

    query(listener, datamodule, trained, budget=5, unvisited="infer")
    assert len(listener.given) == POOL_SIZE - 2
    assert listener.given.require("mean_probabilities").sum(1).tolist() == pytest.approx([1.0] * (POOL_SIZE - 2))


class Listener:
    """The first candidates; keeps what it was given."""

    requires: frozenset[Requirement] = frozenset({"statistics", "features", "labelled"})

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        self.given = candidates
        return Selection(candidates.index[:budget])


def test_with_features_of_training_each_sample_has_its_own_row_and_its_own_label() -> None:
    pool = Pool(POOL_SIZE, CLASSES)
    labelled = torch.tensor([41, 3, 17, 30])  # whose order is not that of the pool
    pool.label(labelled, LABELS[labelled], 0)
    number = torch.arange(POOL_SIZE)
    features = SampleFeatures(POOL_SIZE)
    features.update(number, torch.stack([number.float(), -number.float()], 1))
    statistics = SampleStatistics(POOL_SIZE, alpha=1.0)
    statistics.update(number, number / POOL_SIZE, number / POOL_SIZE)
    datamodule = make_datamodule(pool)
    datamodule.start_round(0, seed=0, steps_per_round=1)
    listener = Listener()
    trained = TrainedModel(SmallCNN(CLASSES, width=2), statistics, nullcontext, features)
    query(listener, datamodule, trained, budget=5, unvisited="exclude")

    given, known = listener.given, listener.given.require("labelled")
    assert sorted([*given.index.tolist(), *known.index.tolist()]) == list(range(POOL_SIZE))
    assert torch.equal(given.require("features")[:, 0].long(), given.index)
    torch.testing.assert_close(given.require("statistics").uncertainty_mean * POOL_SIZE, given.index.float())
    assert torch.equal(known.features[:, 0].long(), known.index)
    assert torch.equal(known.labels, LABELS[known.index].long())


def test_the_picks_have_the_probabilities_of_the_network_that_chose_them() -> None:
    pool = Pool(POOL_SIZE, CLASSES)
    pool.label(torch.tensor([3, 17]), LABELS[[3, 17]], 0)
    datamodule = make_datamodule(pool)
    datamodule.start_round(0, seed=0, steps_per_round=1)
    trained = TrainedModel(SmallCNN(CLASSES, width=2).eval(), None, nullcontext)

    picks = query(RandomSampling(), datamodule, trained, budget=5, unvisited="exclude")

    expected = trained.network(datamodule.plain_view(picks.index)).softmax(1).detach()
    torch.testing.assert_close(picks.probabilities, expected)
    assert torch.equal(picks.probabilities.argmax(1), picks.prediction)


def make_unlearned() -> tuple[PoolDataModule, TrainedModel]:
    pool = Pool(POOL_SIZE, CLASSES)
    pool.label(torch.tensor([3, 17]), LABELS[[3, 17]], 0)
    datamodule = make_datamodule(pool)
    datamodule.start_round(0, seed=0, steps_per_round=1)
    return datamodule, TrainedModel(SmallCNN(CLASSES, width=2).eval(), None, nullcontext)


def test_the_chance_of_each_pick_comes_with_the_number_of_candidates() -> None:
    datamodule, trained = make_unlearned()
    picks = query(RandomSampling(), datamodule, trained, budget=3, unvisited="exclude")
    left = POOL_SIZE - 2
    assert picks.candidates == left
    assert picks.pick_probabilities == pytest.approx((1 / left, 1 / (left - 1), 1 / (left - 2)))

    statistics = SampleStatistics(POOL_SIZE)
    visited = torch.arange(22)  # two of them are labelled: the strategy draws among the others alone
    statistics.update(visited, visited / 22, visited / 22)
    trained = replace(trained, statistics=statistics)
    picks = query(PowerSampling(beta=0.0), datamodule, trained, budget=3, unvisited="random")
    assert (picks.candidates, picks.drawn_at_random) == (20, 2)
    assert picks.pick_probabilities == pytest.approx((1 / 20,))


class Drawing:
    """Says of two picks what the test tells it."""

    requires: frozenset[Requirement] = frozenset()

    def __init__(self, pick_probabilities: torch.Tensor) -> None:
        self.pick_probabilities = pick_probabilities

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        return Selection(candidates.index[:budget], pick_probabilities=self.pick_probabilities)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([0.5, 0.0]).double(), r"Drawing must be in \(0, 1\], or None where they are not known; got 0.0"),
        (torch.tensor([1.5, 0.5]).double(), r"in \(0, 1\], .* got 1.5"),
        (torch.tensor([0.5, torch.nan]).double(), "got nan"),
        (torch.tensor([0.5]).double(), r"for each of its 2 picks, or None; got torch.float64 of shape \(1,\)"),
        (torch.tensor([0.5, 0.5]), "must be a float64 .* got torch.float32"),
    ],
)
def test_chances_that_cannot_be_are_refused(wrong: torch.Tensor, message: str) -> None:
    datamodule, trained = make_unlearned()
    with pytest.raises(ValueError, match=message):
        query(Drawing(wrong), datamodule, trained, budget=2, unvisited="exclude")
