"""The flags against loops over caps and anchors that form every mixture; the picks against scikit-learn's k-means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.cluster import KMeans
from torch import Tensor, nn

from assl_lightning.acquisition import alfa_mix_flips
from assl_lightning.acquisition.alfa_mix import ALFAMix, Variant, class_anchors, nearest_to_centres
from assl_lightning.acquisition.alfa_mix_flips import (
    Mixing,
    draw_weights,
    flag_closed_form,
    flag_optimised,
    least_cap,
    make_caps,
)
from assl_lightning.base.seeding import derive_key
from assl_lightning.method.candidates import Candidates, LabelledSamples

CLASSES, FEATURES = 4, 6

both_variants = pytest.mark.parametrize("variant", ["opt", "closed"])


def make_head(
    seed: int, *, hidden: int = 0, scale: float = 1.0, classes: int = CLASSES, bias: bool = True
) -> nn.Module:
    """A random linear head in float64, or one with a hidden layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head: nn.Module = nn.Linear(FEATURES, classes, bias=bias)
        if hidden:
            head = nn.Sequential(nn.Linear(FEATURES, hidden), nn.Tanh(), nn.Linear(hidden, classes))
    head.double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(scale)
    return head


def make_mixing(seed: int, rows: int = 40, **head_arguments: Any) -> Mixing:
    """Random features in float64; anchors of different distances from them."""
    generator = torch.Generator().manual_seed(seed)
    head = make_head(seed, **head_arguments)
    features = 2 * torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        logits = head(features)
    anchors = torch.randn(logits.shape[1], FEATURES, generator=generator, dtype=torch.float64)
    anchors *= torch.linspace(0.2, 2, len(anchors), dtype=torch.float64)[:, None]
    return Mixing(torch.arange(rows) * 3 + 5, features, logits, anchors, head)


def make_candidates(mixing: Mixing, labels: Tensor | None = None) -> Candidates:
    """The same as an acquisition gets it: each anchor is a labelled sample."""
    labels = torch.arange(len(mixing.anchors)) if labels is None else labels
    with torch.no_grad():
        logits = mixing.head(mixing.anchors)
    labelled = LabelledSamples(1000 + torch.arange(len(labels)), labels, logits, mixing.anchors)
    return Candidates(mixing.index, logits=mixing.logits, features=mixing.features, labelled=labelled, head=mixing.head)


def acquire(strategy: ALFAMix, candidates: Candidates, budget: int, seed: int = 0) -> list[int]:
    picks: list[int] = strategy.acquire(candidates, budget, torch.Generator().manual_seed(seed)).index.tolist()
    return picks


def reference_closed_form(mixing: Mixing, caps: list[float]) -> list[set[int]]:
    """The candidates flagged by each cap: the paper's closed form as its code has it, one mixture at a time."""
    features = mixing.features.clone().requires_grad_()
    predicted = mixing.logits.argmax(1)
    (gradients,) = torch.autograd.grad(F.cross_entropy(mixing.head(features), predicted), features)
    flagged: set[int] = set()
    by_cap = []
    for cap in caps:
        epsilon = cap / math.sqrt(FEATURES)
        for anchor in mixing.anchors:
            for m, (h, g) in enumerate(zip(mixing.features, gradients, strict=True)):
                alpha = epsilon * (anchor - h).norm() * g / g.norm() / (anchor - h)
                mixture = (1 - alpha) * h + alpha * anchor
                if int(mixing.head(mixture).argmax()) != int(predicted[m]):
                    flagged.add(m)
        by_cap.append(set(flagged))
    return by_cap


def reference_optimised(
    mixing: Mixing, caps: list[float], first: Callable[[int, int, float], Tensor]
) -> list[set[int]]:
    """The same for the optimised weights, with autograd and a new Adam for each of five updates.

    `first`: (number of the cap, class, cap) → (M, d), the weights to begin with.
    """
    flagged: set[int] = set()
    by_cap = []
    for number, cap in enumerate(caps):
        for label, anchor in enumerate(mixing.anchors):
            begin = first(number, label, cap)
            for m, h in enumerate(mixing.features):
                alpha, target = begin[m], mixing.logits[m].argmax()
                for iteration in range(5):
                    alpha = alpha.clone().requires_grad_()
                    adam = torch.optim.Adam([alpha], lr=0.1 if iteration < 5 * 2 / 3 else 0.01)
                    logits = mixing.head((1 - alpha) * h + alpha * anchor)
                    if logits.argmax() != target:
                        flagged.add(m)
                    (-F.cross_entropy(logits, target) + 0.01 * alpha.norm()).backward()
                    adam.step()
                    alpha = alpha.detach().clamp(1e-8, cap)
        by_cap.append(set(flagged))
    return by_cap


def first_enough(by_cap: list[set[int]], budget: int) -> list[int]:
    return sorted(next((flagged for flagged in by_cap if len(flagged) > budget), by_cap[-1]))


def positions(flagged: Tensor) -> list[int]:
    found: list[int] = flagged.nonzero().squeeze(1).tolist()
    return found


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0.2, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (1 / 32, [number / 32 for number in range(1, 33)]),
        (0.1, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        (0.3, [0.3, 0.6, 0.9, 1.0]),
        (1 / 49, [number / 49 for number in range(1, 50)]),
        (1.0, [1.0]),
    ],
)
def test_caps_grow_by_the_step_and_end_at_one(step: float, expected: list[float]) -> None:
    assert make_caps(step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("step", [1 / 32, 0.1, 0.2, 0.3])
@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (1, 1.0), (2, 3.0)])
def test_the_closed_form_flags_whom_a_loop_over_the_caps_flags(step: float, seed: int, scale: float) -> None:
    mixing, caps = make_mixing(seed, scale=scale), make_caps(step)
    by_cap = reference_closed_form(mixing, caps)
    assert 0 < len(by_cap[0]) < len(by_cap[-1]) < 40
    for budget in range(1, 41):
        assert positions(flag_closed_form(mixing, caps, budget)) == first_enough(by_cap, budget)


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_with_two_classes_the_closed_form_goes_straight_to_the_boundary_at_any_confidence(scale: float) -> None:
    mixing = make_mixing(3, classes=2, scale=scale)
    assert scale == 1 or float(mixing.logits.abs().amax()) > 1e4
    head = mixing.head
    assert isinstance(head, nn.Linear)
    normal = head.weight[1] - head.weight[0]
    to_boundary = (mixing.logits[:, 1] - mixing.logits[:, 0]).abs() / normal.norm()
    farthest = torch.stack([(mixing.features - anchor).norm(dim=1) for anchor in mixing.anchors]).amax(0)
    torch.testing.assert_close(least_cap(mixing), (to_boundary * math.sqrt(FEATURES) / farthest).detach())


def test_a_candidate_without_a_gradient_or_at_every_anchor_never_flips() -> None:
    mixing = make_mixing(0)
    head = mixing.head
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight[:] = head.weight[0]
        logits = head(mixing.features)
    assert bool(least_cap(replace(mixing, logits=logits)).isposinf().all())

    nowhere = torch.zeros_like(mixing.features)
    linear = replace(
        mixing, features=nowhere, logits=nowhere[:, :CLASSES], anchors=nowhere[:CLASSES], head=make_head(0, bias=False)
    )
    assert bool(least_cap(linear).isposinf().all())  # although all of its classes tie


def test_logits_of_a_pass_in_half_precision_are_those_of_an_affine_head() -> None:
    mixing = make_mixing(0, rows=500)
    head = mixing.head
    assert isinstance(head, nn.Linear)
    assert head.bias is not None
    rounded = F.linear(mixing.features.bfloat16(), head.weight.bfloat16(), head.bias.bfloat16()).detach().double()
    assert float((rounded - mixing.logits).abs().amax()) > 1e-3
    torch.testing.assert_close(
        least_cap(replace(mixing, logits=rounded)), least_cap(mixing), rtol=0, atol=0.1, equal_nan=False
    )


def test_the_closed_form_refuses_a_head_that_is_not_affine() -> None:
    candidates = make_candidates(make_mixing(0, hidden=8, scale=3.0))
    message = (
        r"needs an affine head, and logits that it made of the features; sample \d+ has the logit \S+ for class \d "
        r"where an affine head would have made \S+; use variant=opt, or logits and features of one pass"
    )
    with pytest.raises(ValueError, match=message):
        acquire(ALFAMix("closed"), candidates, 5)
    assert len(acquire(ALFAMix("opt"), candidates, 5)) == 5


def test_the_closed_form_refuses_features_that_are_not_those_of_the_logits() -> None:
    candidates = make_candidates(make_mixing(0))
    assert candidates.features is not None
    features = candidates.features.clone()
    features[7] += 1
    with pytest.raises(ValueError, match=r"affine head, .* sample 26 has the logit"):
        acquire(ALFAMix("closed"), replace(candidates, features=features), 5)


@pytest.mark.parametrize(
    ("seed", "step", "scale", "hidden"),
    [(6, 1 / 16, 1.0, 0), (2, 0.25, 3.0, 8), (0, 0.25, 0.3, 0), (5, 0.5, 0.3, 8), (0, 0.25, 30.0, 0)],
)
def test_the_optimised_weights_flag_whom_adam_flags(
    seed: int, step: float, scale: float, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixing, caps = make_mixing(seed, rows=12, hidden=hidden, scale=scale), make_caps(step)[:3]
    monkeypatch.setattr(alfa_mix_flips, "_BLOCK_CPU", 7 * FEATURES)

    def first(number: int, label: int, cap: float) -> Tensor:
        key = derive_key(11, "alpha", number, label)
        return draw_weights(key, mixing.index, mixing.features, cap)

    by_cap = reference_optimised(mixing, caps, first)
    assert 0 < len(by_cap[0]) < len(by_cap[-1])
    for budget in range(1, 13):
        assert positions(flag_optimised(mixing, caps, budget, 11)) == first_enough(by_cap, budget)


def test_the_first_weights_are_a_clamped_normal() -> None:
    cap = 0.25
    weights = draw_weights(5, torch.arange(500), torch.empty(500, 40), cap).flatten().double().numpy()
    assert weights.min() == pytest.approx(1e-8)
    assert weights.max() == cap
    below, above = (weights <= 1e-8 * (1 + 1e-6)).mean(), (weights == cap).mean()
    assert [below, above] == pytest.approx([stats.norm.cdf(-1)] * 2, abs=0.01)
    between = weights[(weights > 1e-7) & (weights < cap)]
    expected = stats.truncnorm(-1, 1, loc=cap / 2, scale=cap / 2)
    assert stats.kstest(between, expected.cdf).pvalue > 1e-3


def test_the_first_weights_of_a_candidate_depend_on_nobody_else() -> None:
    index = torch.tensor([3, 90, 17, 4])
    weights = draw_weights(5, index, torch.empty(4, 10), 0.5)
    order = torch.tensor([2, 0])
    assert torch.equal(draw_weights(5, index[order], torch.empty(2, 10), 0.5), weights[order])
    assert not torch.equal(draw_weights(6, index, torch.empty(4, 10), 0.5), weights)


def test_anchors_are_the_means_of_the_classes_and_of_everything_where_a_class_is_empty() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(9, 3, generator=generator), torch.tensor([0, 2, 2, 0, 4, 4, 4, 4, 0])
    labelled = LabelledSamples(torch.arange(9), labels, torch.zeros(9, 5), features)
    expected = np.stack(
        [
            features.double().numpy()[labels.numpy() == c].mean(0)
            if c in (0, 2, 4)
            else features.double().numpy().mean(0)
            for c in range(5)
        ]
    )
    torch.testing.assert_close(class_anchors(labelled, 5), torch.from_numpy(expected))


@pytest.mark.parametrize("starts", [1, 3])
def test_the_member_nearest_to_each_centre_is_that_of_scikit_learn(starts: int) -> None:
    generator = torch.Generator().manual_seed(0)
    points = F.normalize(torch.randn(80, 5, generator=generator, dtype=torch.float64), dim=1)
    found = nearest_to_centres(points, 7, starts, seed=2**40 + 3)
    rows = points.numpy()
    kmeans = KMeans(7, n_init=starts, random_state=3).fit(rows)
    expected = []
    for cluster, centre in enumerate(kmeans.cluster_centers_):
        members = np.flatnonzero(kmeans.predict(rows) == cluster)
        expected.append(min(members, key=lambda m: math.dist(rows[m], centre)))
    assert found.tolist() == expected


def test_of_two_members_that_are_as_near_to_their_centre_the_first_is_taken_whatever_rounding_says() -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(20):
        pair = torch.randn(2, 5, generator=generator)
        apart = torch.cat([pair, pair + 100, pair - 100])
        assert sorted(nearest_to_centres(apart, 3, 1, seed).tolist()) == [0, 2, 4]


def test_a_prediction_is_the_heads_own_where_the_pass_was_in_half_precision() -> None:
    mixing, caps = make_mixing(0, rows=30), make_caps(1 / 32)[:1]
    other = mixing.logits.roll(1, dims=1)
    found = flag_optimised(replace(mixing, logits=other), caps, 3, key=0)
    assert torch.equal(found, flag_optimised(mixing, caps, 3, key=0))


def test_copies_leave_clusters_without_a_member_and_no_warning() -> None:
    points = torch.eye(3).repeat(4, 1)
    assert sorted(nearest_to_centres(points, 5, 1, 0).tolist()) == [0, 1, 2]


@both_variants
def test_the_picks_are_those_members_of_the_flagged_candidates(variant: Variant) -> None:
    mixing = make_mixing(4, rows=60)
    caps = make_caps(0.2)
    seed = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(9)))
    flagged = (
        flag_closed_form(mixing, caps, 6)
        if variant == "closed"
        else flag_optimised(mixing, caps, 6, derive_key(seed, "weights"))
    )
    assert 6 < int(flagged.sum()) < 60
    points = F.normalize(mixing.features[flagged], dim=1)
    rows = nearest_to_centres(points, 6, 10, derive_key(seed, "kmeans"))
    expected = mixing.index[flagged][rows].tolist()
    assert acquire(ALFAMix(variant, cap_step=0.2), make_candidates(mixing), 6, seed=9) == expected


@both_variants
def test_what_the_flags_lack_is_drawn_from_all_that_is_left_each_once(variant: Variant) -> None:
    # Two candidates beside the boundary between the classes, eight that no mixture takes across it.
    features = torch.cat(
        [torch.tensor([[0.01, 0.0], [-0.01, 1.0]]), torch.linspace(90, 99, 8)[:, None] * torch.ones(2)]
    )
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        head.weight[:] = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        logits = head(features)
    anchors = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    mixing = Mixing(torch.arange(10), features, logits, anchors, head)
    seen = set()
    for seed in range(12):
        picks = acquire(ALFAMix(variant, cap_step=0.5), make_candidates(mixing), 5, seed)
        assert len(set(picks)) == 5
        assert set(picks[:1]) <= {0, 1}
        seen |= set(picks[2:])
    assert seen >= set(range(2, 10))


def test_the_variants_have_their_own_steps() -> None:
    candidates = make_candidates(make_mixing(5, rows=60))
    for variant, step in (("opt", 1 / 32), ("closed", 0.2)):
        own: list[list[int]] = []
        other: list[list[int]] = []
        for seed in range(3):
            own.append(acquire(ALFAMix(variant), candidates, 12, seed))  # type: ignore[arg-type]
            other.append(acquire(ALFAMix(variant, cap_step=step), candidates, 12, seed))  # type: ignore[arg-type]
        assert own == other
        assert acquire(ALFAMix(variant, cap_step=1.0), candidates, 12) != own[0]  # type: ignore[arg-type]


def degenerate_pools() -> dict[str, Mixing]:
    mixing = make_mixing(6, rows=12)
    alike = mixing.features[:1].expand(12, FEATURES)
    saturated = make_mixing(6, rows=12, scale=1e5)
    blind = make_head(0, scale=0.0)
    with torch.no_grad():
        return {
            "duplicates": replace(
                mixing, features=mixing.features[:2].repeat(6, 1), logits=mixing.logits[:2].repeat(6, 1)
            ),
            "all the same": replace(mixing, features=alike, logits=mixing.head(alike)),
            "all the same as the anchors": replace(
                mixing, features=alike, logits=mixing.head(alike), anchors=alike[:CLASSES]
            ),
            "one-hot probabilities": saturated,
            "no features": replace(
                mixing,
                features=torch.zeros_like(mixing.features),
                logits=mixing.head(torch.zeros_like(mixing.features)),
            ),
            "no weights": replace(mixing, head=blind, logits=blind(mixing.features)),
        }


@both_variants
@pytest.mark.parametrize("name", degenerate_pools())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_degenerate_pool_still_gives_distinct_picks(variant: Variant, name: str, dtype: torch.dtype) -> None:
    mixing = degenerate_pools()[name]
    assert isinstance(mixing.head, nn.Module)
    mixing = replace(
        mixing,
        features=mixing.features.to(dtype),
        logits=mixing.logits.to(dtype),
        anchors=mixing.anchors.to(dtype),
        head=mixing.head.to(dtype),
    )
    for budget in (1, 5, 12):
        assert (
            len(set(acquire(ALFAMix(variant, cap_step=0.25), make_candidates(mixing), budget, seed=budget))) == budget
        )


@both_variants
def test_a_head_that_could_still_be_trained_is_left_without_gradients(variant: Variant) -> None:
    mixing = make_mixing(0)
    assert isinstance(mixing.head, nn.Module)
    with torch.no_grad():
        assert len(acquire(ALFAMix(variant), make_candidates(mixing), 5)) == 5
    assert [parameter.grad for parameter in mixing.head.parameters()] == [None, None]


@both_variants
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_input_that_is_not_finite_is_an_error_that_names_the_sample(variant: Variant, value: float) -> None:
    candidates = make_candidates(make_mixing(0))
    assert candidates.features is not None
    assert candidates.logits is not None
    assert candidates.labelled is not None
    features, logits, known = (
        candidates.features.clone(),
        candidates.logits.clone(),
        candidates.labelled.features.clone(),
    )
    features[7, 1], logits[9, 0], known[2, 3] = value, value, value
    for wrong, message in (
        (replace(candidates, features=features), "length of the feature vector of sample 26 is"),
        (replace(candidates, logits=logits), "largest logit of sample 32 is"),
        (
            replace(candidates, labelled=replace(candidates.labelled, features=known)),
            "length of the feature vector of sample 1002 is",
        ),
    ):
        with pytest.raises(ValueError, match=rf"{message} (nan|inf), not a finite number"):
            acquire(ALFAMix(variant), wrong, 5)


def test_labels_that_the_logits_do_not_have_and_no_labels_are_errors() -> None:
    mixing = make_mixing(0)
    for label in (-1, CLASSES):
        candidates = make_candidates(mixing, torch.tensor([0, 1, label, 3]))
        message = rf"the label of sample 1002 must be one of the 4 classes that the logits have, 0 … 3; got {label}"
        with pytest.raises(ValueError, match=message):
            acquire(ALFAMix(), candidates, 5)
    nobody = LabelledSamples(
        torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 4), torch.zeros(0, FEATURES)
    )
    with pytest.raises(
        ValueError, match="mixes with labelled samples, and none is labelled; start from a labelled set"
    ):
        acquire(ALFAMix(), replace(make_candidates(mixing), labelled=nobody), 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "random"}, "variant must be one of opt, closed; got 'random'"),
        ({"cap_step": 0.0}, r"cap_step is a share of the way to an anchor, in \(0, 1\]; got 0.0"),
        ({"cap_step": 1.5}, r"in \(0, 1\]; got 1.5"),
        ({"cap_step": math.nan}, r"in \(0, 1\]; got nan"),
        ({"kmeans_starts": 0}, "kmeans_starts must be at least 1 run; got 0"),
    ],
)
def test_an_argument_out_of_range_is_an_error_that_says_the_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALFAMix(**arguments)
