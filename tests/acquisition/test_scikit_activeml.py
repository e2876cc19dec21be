"""Strategies of scikit-activeml through the adapter; where one computes what we do, ours is the oracle."""

from __future__ import annotations

import sys
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances
from torch import nn

from assl_lightning.acquisition.scikit_activeml import ScikitActiveML
from assl_lightning.acquisition.uncertainty import Entropy, LeastConfidence, Margin, UncertaintySampling
from assl_lightning.method.candidates import Candidates, LabelledSamples
from tests.acquisition.unit_pools import ALIKE, make_alike

pytest.importorskip("skactiveml", reason="pip install -e '.[activeml]'")

WORKING: list[tuple[str, dict[str, Any]]] = [
    ("UncertaintySampling", {"method": "entropy"}),  # these ask for a classifier
    ("ProbabilisticAL", {"metric": "rbf"}),
    ("DropQuery", {}),  # clusters with NumPy's global generator
    ("Badge", {}),
    ("ContrastiveAL", {}),
    ("Falcun", {}),
    ("Clue", {}),  # for an estimator
    ("RandomSampling", {}),  # these for none
    ("CoreSet", {}),
    ("TypiClust", {}),
    ("ProbCover", {}),
    ("MaxHerding", {}),
    ("Quire", {"classes": [0, 1, 2, 3]}),
]
every_strategy = pytest.mark.parametrize(("name", "arguments"), WORKING, ids=[name for name, _ in WORKING])


def make_candidates(rows: int = 30, dtype: torch.dtype = torch.float32, *, alike: bool = False) -> Candidates:
    generator = torch.Generator().manual_seed(rows)
    features = 2 * torch.randn(rows, 6, generator=generator)
    features = (features[:1].repeat(rows, 1) if alike else features).to(dtype)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(6, 4).to(dtype)
    index = torch.randperm(10 * rows, generator=generator)
    theirs = (2 * torch.randn(8, 6, generator=generator)).to(dtype)
    labelled = LabelledSamples(index[-8:], torch.arange(8) % 4, head(theirs).detach(), theirs)
    logits = deepcopy(head).double()(features.double()).detach()
    return Candidates(index[:rows], logits=logits, features=features, labelled=labelled, head=head)


def shuffled(candidates: Candidates) -> Candidates:
    assert candidates.features is not None
    assert candidates.labelled is not None
    labelled, backwards = candidates.labelled, torch.arange(8).flip(0)
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(0))
    return replace(
        candidates,
        index=candidates.index[order],
        features=candidates.features[order],
        labelled=LabelledSamples(*(getattr(labelled, name)[backwards] for name in vars(labelled))),
    )


def make(name: str, **arguments: Any) -> ScikitActiveML:
    return ScikitActiveML(f"skactiveml.pool.{name}", arguments)


def acquire(strategy: ScikitActiveML | UncertaintySampling, candidates: Candidates, budget: int) -> list[int]:
    picks: list[int] = strategy.acquire(candidates, budget, torch.Generator().manual_seed(3)).index.tolist()
    return picks


@every_strategy
def test_a_strategy_gives_the_same_distinct_picks_in_whatever_order_the_samples_come(
    name: str, arguments: dict[str, Any]
) -> None:
    strategy, candidates = make(name, **arguments), make_candidates()
    np.random.seed(1)
    picks = acquire(strategy, candidates, 7)
    assert len(set(picks)) == 7
    assert set(picks) <= set(candidates.index.tolist())
    np.random.seed(2)
    assert acquire(strategy, shuffled(candidates), 7) == picks


@every_strategy
def test_equal_samples_are_each_picked_once_and_numpys_generator_is_left_alone(
    name: str, arguments: dict[str, Any]
) -> None:
    candidates = make_candidates(9, alike=True)
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    assert sorted(acquire(make(name, **arguments), candidates, 9)) == sorted(candidates.index.tolist())
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], before)


@pytest.mark.parametrize(
    ("method", "ours"),
    [("entropy", Entropy()), ("margin_sampling", Margin()), ("least_confident", LeastConfidence())],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_uncertainty_sampling_sees_the_networks_own_probabilities(
    method: str, ours: UncertaintySampling, dtype: torch.dtype
) -> None:
    candidates = make_candidates(dtype=dtype)
    assert acquire(make("UncertaintySampling", method=method), candidates, 12) == acquire(ours, candidates, 12)


def test_core_set_is_the_greedy_k_centre_around_the_labelled_samples() -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    assert candidates.labelled is not None
    ours, index = candidates.features.double().numpy(), candidates.index.tolist()
    distance = pairwise_distances(candidates.labelled.features.double().numpy(), ours).min(axis=0)
    expected = []
    for _ in range(6):
        farthest = int(distance.argmax())
        expected.append(index[farthest])
        distance = np.minimum(distance, pairwise_distances(ours[farthest : farthest + 1], ours)[0])
    assert acquire(make("CoreSet"), candidates, 6) == expected


@every_strategy
@pytest.mark.parametrize("kind", ALIKE)
def test_samples_with_little_to_tell_apart_are_picked_all_the_same(
    name: str, arguments: dict[str, Any], kind: str
) -> None:
    alike = make_alike(make_candidates(12), kind)
    picks = acquire(make(name, **arguments), alike, 5)
    assert len(set(picks)) == 5
    assert set(picks) <= set(alike.index.tolist())
    assert acquire(make(name, **arguments), alike, 5) == picks


def test_copies_are_in_the_pool_but_not_asked_about_while_others_are_enough() -> None:
    candidates = make_candidates(6)
    assert candidates.features is not None
    assert candidates.labelled is not None
    order = candidates.index.argsort()
    rows = candidates.features[order][[0, 1, 1, 3, 0, 5]]
    rows[5] = candidates.labelled.features[2]
    Spy.answer = [8, 9, 11]
    asked = replace(candidates, index=candidates.index[order], features=rows)
    picks = acquire(SPY, asked, 4)
    assert Spy.asked["candidates"].tolist() == [8, 9, 11]
    assert Spy.asked["batch_size"] == 3
    assert len(Spy.asked["X"]) == 14
    assert picks[:3] == asked.index[[0, 1, 3]].tolist()
    assert len(set(picks)) == 4


class Spy:
    """A strategy that notes what it is asked."""

    asked: dict[str, Any]
    answer: list[int]

    def __init__(self, random_state: int) -> None:
        Spy.asked = {"random_state": random_state}

    def query(self, X: NDArray[Any], y: NDArray[Any], clf: Any, candidates: NDArray[Any], batch_size: int) -> list[int]:
        Spy.asked |= {"X": X, "y": y, "clf": clf, "candidates": candidates, "batch_size": batch_size}
        return Spy.answer


class Fitting(Spy):
    def query(self, X: NDArray[Any], y: NDArray[Any], clf: Any, candidates: NDArray[Any], batch_size: int) -> list[int]:
        clf.fit(X, y)
        return []


class Failing(Spy):
    def query(self, X: NDArray[Any], y: NDArray[Any], clf: Any, candidates: NDArray[Any], batch_size: int) -> list[int]:
        raise UnboundLocalError("cannot access local variable 'cluster_id'")


def test_what_goes_wrong_inside_a_strategy_is_an_error_that_names_it() -> None:
    message = (
        r"test_scikit_activeml\.Failing cannot choose 2 of 30 distinct candidates beside 8 labelled samples; it fails "
        r"with UnboundLocalError: cannot access local variable 'cluster_id'\. Use another strategy"
    )
    with pytest.raises(ValueError, match=message):
        acquire(ScikitActiveML(f"{__name__}.Failing"), make_candidates(), 2)


SPY = ScikitActiveML(f"{__name__}.Spy")


def test_a_strategy_is_given_labelled_samples_first_in_the_order_of_the_pool() -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    assert candidates.labelled is not None
    Spy.answer = [9, 8]
    picks = acquire(SPY, candidates, 2)
    ascending = candidates.index.sort().values
    assert picks == ascending[[1, 0]].tolist()
    assert Spy.asked["candidates"].tolist() == list(range(8, 38))
    assert Spy.asked["batch_size"] == 2
    order = candidates.labelled.index.argsort()
    assert Spy.asked["y"][:8].tolist() == candidates.labelled.labels[order].tolist()
    assert np.isnan(Spy.asked["y"][8:]).all()
    rows = torch.cat([candidates.labelled.features[order], candidates.features[candidates.index.argsort()]])
    assert np.array_equal(Spy.asked["X"], rows.numpy())


def test_the_classifier_predicts_as_the_network_and_knows_its_classes() -> None:
    candidates = make_candidates()
    assert isinstance(candidates.head, nn.Linear)
    Spy.answer = [8]
    acquire(SPY, candidates, 1)
    network, rows = Spy.asked["clf"], Spy.asked["X"]
    weight, bias = (parameter.detach().double().numpy() for parameter in (candidates.head.weight, candidates.head.bias))
    powers = np.exp(rows.astype(np.float64) @ weight.T + bias)
    np.testing.assert_allclose(network.predict_proba(rows), powers / powers.sum(1, keepdims=True), rtol=1e-5)
    assert network.predict(rows).tolist() == powers.argmax(1).tolist()
    assert network.classes_.tolist() == [0, 1, 2, 3]


def test_a_strategy_that_repeats_itself_is_filled_up_by_others_drawn_at_random() -> None:
    candidates = make_candidates()
    ascending = candidates.index.sort().values.tolist()
    Spy.answer = [12, 10, 12, 10, 12]
    seen: set[int] = set()
    for seed in range(60):
        picks = SPY.acquire(candidates, 5, torch.Generator().manual_seed(seed)).index.tolist()
        assert picks[:2] == [ascending[4], ascending[2]]
        assert len(set(picks)) == 5
        seen |= set(picks)
    assert seen == set(ascending)


def test_the_generator_gives_the_random_state_unless_the_arguments_do() -> None:
    candidates = make_candidates()
    Spy.answer = [8]
    states = []
    for seed in (0, 0, 1):
        SPY.acquire(candidates, 1, torch.Generator().manual_seed(seed))
        states.append(Spy.asked["random_state"])
    assert states[0] == states[1] != states[2]
    acquire(ScikitActiveML(f"{__name__}.Spy", {"random_state": 5}), candidates, 1)
    assert Spy.asked["random_state"] == 5


def test_a_strategy_that_fits_its_classifier_is_an_error_not_a_fit_that_does_nothing() -> None:
    with pytest.raises(NotImplementedError, match="fits its classifier anew, which the trained network cannot be"):
        acquire(ScikitActiveML(f"{__name__}.Fitting"), make_candidates(), 3)


def test_features_that_are_not_finite_are_an_error_that_names_the_sample() -> None:
    candidates = make_candidates()
    assert candidates.features is not None
    candidates.features[4, 1] = torch.nan
    with pytest.raises(ValueError, match=f"length of the feature vector of sample {int(candidates.index[4])} is nan"):
        acquire(make("TypiClust"), candidates, 2)


@pytest.mark.parametrize("name", ["skactiveml.pool.TypiClusd", "skactiveml.pol.TypiClust", "TypiClust", "numpy.random"])
def test_a_name_that_is_no_strategy_is_an_error_when_it_is_made(name: str) -> None:
    with pytest.raises(ValueError, match=f"query_strategy '{name}' must be a query strategy, package.module.Class"):
        ScikitActiveML(name)


def test_an_argument_that_the_constructor_does_not_take_is_an_error_that_lists_those_it_does() -> None:
    with pytest.raises(ValueError, match=r"constructor, missing_label, .* k; got an unexpected keyword argument 'kk'"):
        make("TypiClust", kk=3)
    with pytest.raises(ValueError, match="missing a required argument: 'classes'"):
        make("Quire")


@pytest.mark.parametrize(
    ("name", "needed"), [("QueryByCommittee", "ensemble"), ("DiscriminativeAL", "discriminator"), ("GreedyBALD", "ens")]
)
def test_a_strategy_that_needs_more_than_a_network_is_an_error_that_says_what(name: str, needed: str) -> None:
    with pytest.raises(ValueError, match=f"skactiveml.pool.{name} needs {needed}.* to answer a query"):
        make(name)


def test_without_the_package_it_can_be_made_and_says_what_to_install_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "skactiveml"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    strategy = make("TypiClust", any="thing")
    with pytest.raises(ValueError, match=r"scikit-activeml installed \(pip install 'scikit-activeml>=1\.0'\); "):
        acquire(strategy, make_candidates(), 2)
