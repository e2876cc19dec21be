"""What every strategy in conf/acquisition must keep. A new YAML file there is tested here without a new line."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any, get_args

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from torch import Tensor, nn

from assl_lightning.config.compose import compose, conf_dir
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Acquisition, Candidates, LabelledSamples, Requirement, Selection
from tests.acquisition.exact_candidates import make_answered

NAMES = [
    *sorted(path.stem for path in (conf_dir() / "acquisition").glob("*.yaml")),
    "herding trust=audited class_quota=0.5 copies=0.5",  # terms that are off as a rule
]
CLASSES, FEATURES = 4, 6

DRAWN = {"power", "random"}  # whose picks have known probabilities
OWN_DRAWS = {"bald"}  # whose equal samples have draws of their own, and so scores that differ
UNTESTABLE = set() if find_spec("skactiveml") else {"scikit_activeml"}  # what needs a package that is not here

every_strategy = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(name in UNTESTABLE, reason="its package is not installed"))
        for name in NAMES
    ],
)


@cache
def strategy_node(name: str) -> dict[str, Any]:
    """Return what a run builds the strategy from: the YAML composed, interpolations resolved.

    Behind the name of the file there may be arguments, `key=value`.
    """
    file, *arguments = name.split()
    overrides = [f"acquisition={file}", *(f"acquisition.strategy.{argument}" for argument in arguments)]
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="test"):
        return compose(GlobalHydra.instance().hydra, overrides).acquisition.strategy


def make_strategy(name: str) -> Acquisition:
    strategy: Acquisition = instantiate(strategy_node(name))
    return strategy


def make_candidates(rows: int, *, alike: bool = False, seed: int = 0) -> Candidates:
    """Candidates with every field filled, in the order of their index."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, FEATURES, generator=generator)
    columns = torch.rand(4, rows, generator=generator)
    further = torch.Generator().manual_seed(seed + 1)
    counts, variance = torch.randint(5, (rows,), generator=further).int(), torch.rand(rows, generator=further)
    mean = torch.randn(rows, CLASSES, generator=further).softmax(1)
    flipped = torch.randn(rows, CLASSES, generator=further)
    if alike:
        features, columns = features[:1].repeat(rows, 1), columns[:, :1].repeat(1, rows)
        counts, variance = counts[:1].repeat(rows), variance[:1].repeat(rows)
        mean, flipped = mean[:1].repeat(rows, 1), flipped[:1].repeat(rows, 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Linear(FEATURES, CLASSES).requires_grad_(False)
    labelled = torch.randn(8, FEATURES, generator=generator)
    index = torch.randperm(10 * rows + 8, generator=generator)
    u, u_variance, i, i_variance = columns
    return Candidates(
        index=index[:rows].sort().values,
        statistics=CandidateStatistics(u, u_variance, i, i_variance, torch.ones(rows, dtype=torch.int32)),
        logits=head(features[:1]).repeat(rows, 1) if alike else head(features),  # a product's rows may differ in a bit
        features=features,
        labelled=LabelledSamples(
            index=index[rows : rows + 8],
            labels=torch.arange(8) % CLASSES,
            logits=head(labelled),
            features=labelled,
        ),
        head=head,
        answered=make_answered(),
        forgetting=counts,
        view_variance=variance,
        mean_probabilities=mean,
        flipped_logits=flipped,
    )


def permute(candidates: Candidates, order: Tensor) -> Candidates:
    assert candidates.statistics is not None
    assert candidates.logits is not None
    assert candidates.features is not None
    return replace(
        candidates,
        index=candidates.index[order],
        statistics=candidates.statistics.take(order),
        logits=candidates.logits[order],
        features=candidates.features[order],
        forgetting=candidates.require("forgetting")[order],
        view_variance=candidates.require("view_variance")[order],
        mean_probabilities=candidates.require("mean_probabilities")[order],
        flipped_logits=candidates.require("flipped_logits")[order],
    )


def without(candidates: Candidates, names: Collection[str]) -> Candidates:
    """Without logits, the labelled samples have none either."""
    empty: dict[str, Any] = dict.fromkeys(names)
    if "logits" in names and "labelled" not in names:
        empty["labelled"] = replace(candidates.require("labelled"), logits=None)
    return replace(candidates, **empty)


def ask(strategy: Acquisition, candidates: Candidates, budget: int, seed: int = 0) -> Selection:
    return strategy.acquire(candidates, budget, torch.Generator().manual_seed(seed))


def acquire(strategy: Acquisition, candidates: Candidates, budget: int, seed: int = 0) -> list[int]:
    picks: list[int] = ask(strategy, candidates, budget, seed).index.tolist()
    return picks


def scores_of(strategy: Acquisition, candidates: Candidates) -> Tensor:
    scores = ask(strategy, candidates, budget=1).scores
    assert scores is not None
    return scores


def test_there_are_strategies() -> None:
    expected = """
    alfa_mix alfa_mix_closed assl assl_div badge bald cdal coreset dcom entropy flip forgetting least_confidence margin
    power prob_cover pseudo_el2n random scikit_activeml temporal_entropy temporal_margin typiclust view_variance
    """
    assert set(expected.split()) <= set(NAMES)


@every_strategy
def test_a_strategy_keeps_the_protocol_and_requires_what_candidates_have(name: str) -> None:
    strategy = make_strategy(name)
    assert isinstance(strategy, Acquisition)
    assert strategy.requires <= set(get_args(Requirement))


@every_strategy
@pytest.mark.parametrize("budget", [1, 5, 30])
def test_the_answer_is_budget_distinct_candidates_as_int64_on_the_cpu(name: str, budget: int) -> None:
    candidates = make_candidates(30)
    picks = ask(make_strategy(name), candidates, budget).index
    assert picks.shape == (budget,)
    assert picks.dtype == torch.int64
    assert picks.device.type == "cpu"
    assert len(set(picks.tolist())) == budget
    assert set(picks.tolist()) <= set(candidates.index.tolist())


@every_strategy
def test_the_same_generator_gives_the_same_answer_and_the_default_one_is_left_alone(name: str) -> None:
    candidates, strategy = make_candidates(30), make_strategy(name)
    before = torch.get_rng_state()
    picks = acquire(strategy, candidates, 8, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(17)
    assert acquire(make_strategy(name), candidates, 8, seed=3) == picks


@every_strategy
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_candidates_does_not_matter(name: str, seed: int) -> None:
    candidates, strategy = make_candidates(40, seed=seed), make_strategy(name)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    assert acquire(strategy, permute(candidates, order), 12, seed) == acquire(strategy, candidates, 12, seed)


@every_strategy
def test_scores_are_one_finite_number_for_each_candidate_in_their_order(name: str) -> None:
    candidates, strategy = make_candidates(20), make_strategy(name)
    scores = ask(strategy, candidates, 5).scores
    if scores is None:
        pytest.skip("it ranks without a score")
    assert scores.shape == (20,)
    assert bool(scores.isfinite().all())
    assert torch.equal(scores_of(strategy, candidates), scores), "whatever the budget"
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scores_of(strategy, permute(candidates, order)), scores[order])


@every_strategy
def test_probabilities_of_the_picks_are_one_for_each_and_that_of_the_only_one_left_is_one(name: str) -> None:
    candidates, strategy = make_candidates(20), make_strategy(name)
    for budget in (1, 7, 20):
        found = ask(strategy, candidates, budget).pick_probabilities
        assert (found is not None) == (name in DRAWN)
        if found is not None:
            assert found.shape == (budget,)
            assert found.dtype == torch.float64
            assert found.device.type == "cpu"
            assert bool(((found > 0) & (found <= 1)).all())
            assert budget < 20 or found[-1] == 1


@every_strategy
def test_where_nothing_is_drawn_ties_go_to_the_lower_index(name: str) -> None:
    candidates = permute(make_candidates(30, alike=True), torch.arange(30).flip(0))
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    picks = make_strategy(name).acquire(candidates, 6, generator).index
    if name in OWN_DRAWS or not generator.get_state().equal(before):
        pytest.skip("it draws its picks")
    assert picks.tolist() == candidates.index.sort().values[:6].tolist()


@every_strategy
def test_a_pool_of_equal_samples_still_gives_distinct_picks(name: str) -> None:
    candidates = make_candidates(12, alike=True)
    assert sorted(acquire(make_strategy(name), candidates, 12)) == candidates.index.tolist()


@every_strategy
@pytest.mark.parametrize("pool", ["copies of a labelled sample", "two distinct samples", "no features", "one class"])
def test_samples_with_little_to_tell_apart_are_picked_all_the_same(name: str, pool: str) -> None:
    candidates, strategy = make_candidates(12), make_strategy(name)
    assert candidates.features is not None
    assert candidates.labelled is not None
    assert candidates.head is not None
    features, labelled = candidates.features, candidates.labelled
    if pool == "copies of a labelled sample":
        features = labelled.features[:1].repeat(12, 1)
    elif pool == "two distinct samples":
        features = features[:2].repeat(6, 1)
    elif pool == "no features":
        features, labelled = torch.zeros_like(features), replace(labelled, features=torch.zeros_like(labelled.features))
    else:
        labelled = replace(labelled, labels=torch.zeros_like(labelled.labels))
    few = replace(candidates, features=features, logits=candidates.head(features), labelled=labelled)
    picks = acquire(strategy, few, 5)
    assert len(set(picks)) == 5
    assert set(picks) <= set(candidates.index.tolist())
    assert acquire(strategy, permute(few, torch.arange(12).flip(0)), 5) == picks


@every_strategy
def test_one_candidate_is_picked(name: str) -> None:
    candidates = make_candidates(1)
    assert acquire(make_strategy(name), candidates, 1) == candidates.index.tolist()


@every_strategy
@pytest.mark.parametrize("budget", [0, 31])
def test_a_budget_that_the_candidates_cannot_fill_is_an_error(name: str, budget: int) -> None:
    with pytest.raises(ValueError, match=f"budget .*{budget}"):
        acquire(make_strategy(name), make_candidates(30), budget)


@every_strategy
def test_a_field_that_was_not_filled_is_an_error_that_names_it(name: str) -> None:
    strategy = make_strategy(name)
    for requirement in strategy.requires:
        with pytest.raises(ValueError, match=rf"needs candidates\.{requirement}, which is None"):
            acquire(strategy, without(make_candidates(30), {requirement}), 5)


@every_strategy
def test_nothing_is_read_that_is_not_required(name: str) -> None:
    strategy, candidates = make_strategy(name), make_candidates(30)
    others = set(get_args(Requirement)) - strategy.requires
    assert acquire(strategy, without(candidates, others), 5) == acquire(strategy, candidates, 5)


@every_strategy
def test_the_candidates_are_left_as_they_were(name: str) -> None:
    candidates, untouched = make_candidates(20), make_candidates(20)
    acquire(make_strategy(name), candidates, 5)
    assert candidates.index.equal(untouched.index)
    for before, after in ((untouched.logits, candidates.logits), (untouched.features, candidates.features)):
        assert before is not None
        assert after is not None
        assert torch.equal(after, before)
