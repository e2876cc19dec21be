"""Herding against a loop over its definition, and what its terms do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning.method import coverage
from assl_lightning.method.audit import audited_trust
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import AnsweredSamples, Candidates, LabelledSamples
from assl_lightning.method.class_quota import equal_shares
from assl_lightning.method.coverage import half_covering_width, unit_vectors
from assl_lightning.method.herding import Herding

Rows = list[list[float]]


def make_candidates(features: Tensor, labelled: Tensor, uncertainty: Tensor | None = None) -> Candidates:
    """Candidates 0, 1, …, and labelled samples 1,000, 1,001, …; the variances are zero."""
    rows = len(features)
    uncertainty = torch.ones(rows) if uncertainty is None else uncertainty
    zero, visits = torch.zeros(rows), torch.ones(rows, dtype=torch.int32)
    samples = LabelledSamples(
        torch.arange(1000, 1000 + len(labelled)),
        torch.zeros(len(labelled), dtype=torch.int64),
        torch.zeros(len(labelled), 3),
        labelled,
    )
    return Candidates(
        torch.arange(rows),
        statistics=CandidateStatistics(uncertainty, zero, uncertainty, zero, visits),
        features=features,
        labelled=samples,
    )


def random_candidates(rows: int, labelled: int, seed: int = 0, columns: int = 5) -> Candidates:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows + labelled, columns, generator=generator)
    return make_candidates(features[:rows], features[rows:], torch.rand(rows, generator=generator))


def acquire(strategy: Herding, candidates: Candidates, budget: int, seed: int = 0) -> list[int]:
    picks: list[int] = strategy.acquire(candidates, budget, torch.Generator().manual_seed(seed)).index.tolist()
    return picks


def unit_rows(features: Tensor) -> Rows:
    return [[h / (math.hypot(*row) or 1.0) for h in row] for row in features.double().tolist()]


def check_greedy(picks: list[int], candidates: Candidates, weight: Tensor, width: float) -> None:
    """Raise unless each pick adds the most, by a loop over the definition that sums everything afresh.

    Two samples that have but each other add the same, so a pick may add less than the best by its rounding.
    """
    assert candidates.features is not None
    assert candidates.labelled is not None
    points, covering = unit_rows(candidates.features), unit_rows(candidates.labelled.features)

    def value(a: list[float], b: list[float]) -> float:
        return math.exp(-(math.dist(a, b) ** 2) / width**2)

    left = set(range(len(points)))
    for pick in picks:
        covered = [max((value(x, s) for s in covering), default=0.0) for x in points]
        gain = {
            s: sum(
                w * max(0.0, value(x, points[s]) - c) for x, w, c in zip(points, weight.tolist(), covered, strict=True)
            )
            for s in left
        }
        assert gain[pick] == pytest.approx(max(gain.values()), abs=1e-5)
        left.remove(pick)
        covering.append(points[pick])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("labelled", [0, 1, 8])
@pytest.mark.parametrize("trust", [0.0, 0.5, 1.0])
def test_each_pick_adds_the_most_by_a_loop_over_the_definition(seed: int, labelled: int, trust: float) -> None:
    candidates = random_candidates(40, labelled, seed)
    assert candidates.statistics is not None
    u = candidates.statistics.uncertainty_mean.double()
    for width in (0.3, 1.0):
        picks = acquire(Herding(trust=trust, width=width), candidates, 12)
        check_greedy(picks, candidates, 1 - trust + trust * u / u.mean(), width)


@pytest.mark.parametrize("budget", [1, 7, 30])
def test_the_width_is_that_at_which_as_many_random_samples_cover_half(budget: int) -> None:
    candidates = random_candidates(30, 4)
    assert candidates.features is not None
    width = half_covering_width(unit_vectors(candidates.features, candidates.index), 4 + budget)
    assert acquire(Herding(), candidates, budget) == acquire(Herding(width=width), candidates, budget)


def test_no_trust_is_no_weight_and_reads_no_statistics() -> None:
    candidates = random_candidates(30, 4)
    expected = acquire(Herding(trust=0.0), candidates, 10)
    assert acquire(Herding(weight="none"), replace(candidates, statistics=None), 10) == expected
    assert Herding(weight="none").requires == {"features", "labelled"}


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_as_large_as_the_number_of_clusters_takes_one_of_each(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.eye(8).repeat_interleave(12, 0) + 0.05 * torch.randn(96, 8, generator=generator)
    picks = acquire(Herding(), make_candidates(features, features[:0]), 8, seed)
    assert sorted(pick // 12 for pick in picks) == list(range(8))


def test_a_cluster_with_a_label_is_left_for_the_others_and_the_uncertain_one_comes_first() -> None:
    features = torch.eye(3).repeat_interleave(5, 0) + 0.01 * torch.arange(15.0)[:, None] * torch.ones(3) / 15
    uncertainty = torch.tensor([0.9] * 5 + [0.1] * 5 + [0.5] * 5)
    candidates = make_candidates(features, features[:1], uncertainty)
    assert [pick // 5 for pick in acquire(Herding(width=0.5), candidates, 2)] == [2, 1]


def test_many_near_copies_weigh_like_one_where_the_weight_of_copies_is_shared() -> None:
    generator = torch.Generator().manual_seed(0)
    copies = torch.eye(4)[0] + 0.001 * torch.randn(50, 4, generator=generator)
    pair = torch.eye(4)[1] + torch.tensor([[0.0, 0.0, 0.15, 0.0], [0.0, 0.0, -0.15, 0.0]])
    candidates = make_candidates(torch.cat([copies, pair]), copies[:0])
    assert acquire(Herding(width=0.5), candidates, 1)[0] < 50
    assert acquire(Herding(width=0.5, copies=1.0), candidates, 1)[0] >= 50


def test_the_random_share_is_drawn_uniformly_comes_last_and_is_covered_first() -> None:
    candidates = random_candidates(40, 3)
    strategy = Herding(random_share=0.3, width=0.5)
    picks = acquire(strategy, candidates, 10, seed=1)
    drawn = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:3]
    assert picks[7:] == drawn.tolist()
    assert candidates.features is not None
    assert candidates.labelled is not None
    labelled = replace(
        candidates.labelled,
        index=torch.arange(6) + 1000,
        features=torch.cat([candidates.labelled.features, candidates.features[drawn]]),
    )
    assert picks[:7] == acquire(Herding(width=0.5), replace(candidates, labelled=labelled), 7)
    assert len(set(picks)) == 10


@pytest.mark.parametrize("weight", ["inconsistency", "both", "margin"])
def test_other_weights_are_the_bounds_of_the_statistics_and_the_margin_of_the_head(weight: Any) -> None:
    candidates = random_candidates(30, 4)
    assert candidates.statistics is not None
    u, i = candidates.statistics.uncertainty_mean, torch.rand(30, generator=torch.Generator().manual_seed(7))
    candidates = replace(candidates, statistics=replace(candidates.statistics, inconsistency_mean=i), head=lambda h: h)
    first, second = candidates.require("features").softmax(1).topk(2).values.unbind(1)
    bound = {"inconsistency": i, "both": u * i, "margin": 1 - (first - second)}[weight].double()
    picks = acquire(Herding(weight=weight, width=0.6), candidates, 10)
    check_greedy(picks, candidates, bound / bound.mean(), 0.6)


def test_where_nothing_is_uncertain_all_samples_weigh_the_same() -> None:
    candidates = random_candidates(30, 4)
    sure = make_candidates(candidates.require("features"), candidates.require("labelled").features, torch.zeros(30))
    assert acquire(Herding(), sure, 10) == acquire(Herding(weight="none"), sure, 10)


@pytest.mark.parametrize(("most", "budget", "possible"), [(10, 2, 10), (10, 5, 20), (10, 40, 50), (50, 3, 50)])
def test_of_many_candidates_some_are_drawn_which_stand_for_all(most: int, budget: int, possible: int) -> None:
    candidates = random_candidates(50, 3)
    strategy = Herding(max_candidates=most)
    drawn = torch.randperm(50, generator=torch.Generator().manual_seed(3))[:possible].tolist()
    picks = acquire(strategy, candidates, budget, seed=3)
    assert set(picks) <= set(drawn if possible < 50 else range(50))
    assert len(set(picks)) == budget
    order = torch.randperm(50)
    shuffled = Candidates(
        candidates.index[order],
        statistics=candidates.require("statistics").take(order),
        features=candidates.require("features")[order],
        labelled=candidates.labelled,
    )
    assert acquire(strategy, shuffled, budget, seed=3) == picks


@pytest.mark.parametrize("block", [1, 70])
def test_blocks_of_any_size_give_the_same_picks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = random_candidates(60, 9)
    expected = acquire(Herding(), candidates, 20)
    monkeypatch.setattr(coverage, "_BLOCK", block)
    monkeypatch.setattr(coverage, "_CENTRES", block)
    assert acquire(Herding(), candidates, 20) == expected


@pytest.mark.parametrize("quota", [0.3, 5.0])
@pytest.mark.parametrize("random_share", [0.0, 0.2])
def test_with_a_quota_each_pick_adds_the_most_to_the_covered_share_and_to_what_classes_want(
    quota: float, random_share: float
) -> None:
    candidates = replace(random_candidates(30, 6), head=lambda features: 3 * features)
    assert candidates.labelled is not None
    labels = torch.tensor([0, 0, 0, 1, 1, 4])
    candidates = replace(candidates, labelled=replace(candidates.labelled, labels=labels))
    strategy = Herding(trust=0.0, width=0.6, class_quota=quota, random_share=random_share)
    picks = acquire(strategy, candidates, 10)

    features = candidates.require("features")
    points, covering = unit_rows(features), unit_rows(candidates.require("labelled").features)
    shares = equal_shares(3 * features.double(), labels, 10)
    probabilities, wanted = shares.probabilities.tolist(), shares.wanted.tolist()
    drawn, chosen = picks[10 - int(10 * random_share) :], picks[: 10 - int(10 * random_share)]

    def worth(batch: list[int]) -> float:
        centres = [*covering, *(points[row] for row in batch)]
        nearest = [min(math.dist(x, s) for s in centres) for x in points]
        covered = sum(math.exp(-(distance**2) / 0.6**2) for distance in nearest) / 30
        given = [sum(probabilities[row][c] for row in batch) for c in range(5)]
        return float(covered + quota / 10 * sum(min(pair) for pair in zip(wanted, given, strict=True)))

    for count, pick in enumerate(chosen):
        before = [*drawn, *chosen[:count]]
        best = max(worth([*before, row]) for row in range(30) if row not in before)
        assert worth([*before, pick]) == pytest.approx(best, abs=1e-6)


def test_a_class_without_labels_is_asked_for_though_a_larger_cluster_is_not_covered() -> None:
    features = torch.tensor([[1.0, 0.0, 0.0]] * 8 + [[0.0, 1.0, 0.0]] * 8 + [[0.0, 0.0, 1.0]] * 2)
    weights = torch.tensor([[9.0, 9.0, 0.0], [0.0, 0.0, 9.0]])  # the two large clusters are of one class
    candidates = replace(make_candidates(features, features[:1]), head=lambda rows: rows @ weights.to(rows).T)
    assert acquire(Herding(width=0.5), candidates, 1) == [8]
    assert acquire(Herding(width=0.5, class_quota=0.5), candidates, 1) == [16]


def answers(uncertainty: Tensor, wrong: Tensor) -> AnsweredSamples:
    """Samples that were answered a round ago."""
    zero, rows = torch.zeros_like(uncertainty), len(uncertainty)
    statistics = CandidateStatistics(uncertainty, zero, uncertainty, zero, torch.ones(rows, dtype=torch.int32))
    return AnsweredSamples(statistics, wrong, torch.ones(rows, dtype=torch.int64))


def test_an_audited_trust_is_what_the_answers_bear_out() -> None:
    candidates = random_candidates(40, 4)
    wrong = torch.tensor([True, False] * 10)
    borne_out = answers(wrong.float(), wrong)
    audited = Herding(trust="audited", width=0.6)
    trust = audited_trust(wrong.float(), wrong, torch.ones(20))
    assert 0.3 < trust < 1
    picks = acquire(audited, replace(candidates, answered=borne_out), 12)
    assert picks == acquire(Herding(trust=trust, width=0.6), candidates, 12)
    assert picks != acquire(Herding(width=0.6), candidates, 12)
    nothing = answers(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    for none in (nothing, answers(1 - wrong.float(), wrong)):
        untrusting = acquire(audited, replace(candidates, answered=none), 12)
        assert untrusting == acquire(Herding(weight="none", width=0.6), candidates, 12)
    with pytest.raises(ValueError, match=r"candidates.answered, which is None"):
        acquire(audited, candidates, 1)


def test_what_is_required_follows_from_the_terms() -> None:
    plain = {"statistics", "features", "labelled"}
    assert Herding().requires == plain
    assert Herding(class_quota=0.5).requires == plain | {"head"}
    assert Herding(trust="audited").requires == plain | {"answered"}


@pytest.mark.parametrize("of", ["candidate", "labelled", "weight", "logits"])
def test_a_number_that_is_not_finite_is_an_error_that_names_the_sample(of: str) -> None:
    features, labelled, uncertainty = torch.rand(9, 3), torch.rand(2, 3), torch.rand(9)
    logits = torch.rand(9, 4)
    {"candidate": features, "labelled": labelled, "weight": uncertainty, "logits": logits}[of][1] = torch.nan
    name = 1001 if of == "labelled" else 1
    candidates = replace(make_candidates(features, labelled, uncertainty), head=lambda rows: logits[: len(rows)])
    with pytest.raises(ValueError, match=rf"sample {name} "):
        acquire(Herding(class_quota=0.5), candidates, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": "entropy"}, "weight must be"),
        ({"trust": 1.5}, r"trust must be in \[0, 1\]"),
        ({"trust": "audit"}, r"trust must be a number in \[0, 1\], or audited; got 'audit'"),
        ({"trust": "audited", "weight": "margin"}, "trust=audited needs a weight whose statistics are kept"),
        ({"trust": "audited", "weight": "none"}, "trust=audited needs a weight whose statistics are kept"),
        ({"class_quota": -0.5}, "class_quota must be at least 0"),
        ({"width": 0.0}, "width must be above 0"),
        ({"copies": -0.1}, r"copies must be in \[0, 1\]"),
        ({"copy_radius": 0.0}, "copy_radius must be above 0"),
        ({"random_share": 1.0}, r"random_share must be in \[0, 1\)"),
        ({"c_u": -1.0}, "c_u must be at least 0"),
        ({"max_candidates": 0}, "max_candidates must be at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Herding(**arguments)
