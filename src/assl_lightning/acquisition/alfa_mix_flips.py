"""Predictions that change when a candidate's features are mixed, up to a cap, with those of labelled samples.

M candidates, C classes, d features. A mixture of the features h with an anchor z is (1 − α) ∘ h + α ∘ z, one weight α
for each feature; its prediction *flips* where it is not the candidate's own, ŷ. A cap bounds the weights; it grows
until more than `budget` candidates have flipped, and these are *flagged*. There are two ways to choose α:

    `flag_closed_form`  one step along the gradient of the cross-entropy, no longer than cap / √d of the distance to z
    `flag_optimised`    four steps on the weights themselves, α ∈ [10⁻⁸, cap]

    Parvaneh et al. 2022: Active Learning by Feature Mixing, §3.2, and its reference code
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

import torch
from torch import Tensor

from assl_lightning.base.seeding import Draws, derive_key

_SMALLEST = 1e-8  # the lower end of a weight, and Adam's ε
_LEARNING_RATE = 0.1
_NORM_WEIGHT = 0.01
_TESTED = 5  # the first weights and those of four updates
_BFLOAT16 = 2.0**-7  # twice what rounding a product's factors and its sum to 8 bits can do to it

# Numbers in a block of rows: a block that fits the cache makes drawing the weights three times as fast on a CPU, and a
# large block keeps a GPU busy.
_BLOCK_CPU, _BLOCK_GPU = 2**16, 2**22


@dataclass(frozen=True)
class Mixing:
    """Candidates, the anchors to mix them with, and the head that predicts; all on one device."""

    index: Tensor  # (M,) int64 pool indices, ascending
    features: Tensor  # (M, d) float64
    logits: Tensor  # (M, C) float64, what the network's pass made of the features
    anchors: Tensor  # (C, d) float64, one for each class
    head: Callable[[Tensor], Tensor]  # (…, d) → (…, C) float64

    def blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Divide `rows` (n,) int64 into parts that are small enough to work on at once."""
        size = _BLOCK_CPU if rows.device.type == "cpu" else _BLOCK_GPU
        parts: tuple[Tensor, ...] = rows.split(max(1, size // max(self.anchors.shape)))
        return parts


def make_caps(step: float) -> list[float]:
    """Return the caps of the weights, `step`, 2 · `step`, …, 1; the last is 1 also where `step` does not divide it.

    The reference adds up `step` until the sum is 1 or more, so that for a `step` such as 0.3, and through rounding for
    0.1, its last cap is above 1: a mixture beyond the anchor. For its own 1/32 and 0.2 the caps are the same.

    >>> make_caps(0.3)
    [0.3, 0.6, 0.8999999999999999, 1.0]
    """
    return [min(number * step, 1.0) for number in range(1, ceil(1 / step - 1e-9) + 1)]


def flag_closed_form(mixing: Mixing, caps: list[float], budget: int) -> Tensor:
    """Flag the candidates that flip under the first of the `caps` that flags more than `budget`, or under the last.

    Returns (M,) bool on the CPU. A flip stays as the cap grows, so that each candidate's least cap decides, and no cap
    is tried.
    """
    number = torch.searchsorted(torch.tensor(caps, dtype=torch.float64), least_cap(mixing).cpu())
    flagged = torch.bincount(number, minlength=len(caps) + 1)[: len(caps)].cumsum(0)  # by each cap
    tried = int((flagged <= budget).sum())
    return number <= min(tried, len(caps) - 1)


def least_cap(mixing: Mixing) -> Tensor:
    """Return the smallest cap under which each candidate flips by the closed form, (M,) float64 ≥ 0; ∞ where none does.

    The mixture is h + (cap / √d) · ‖z − h‖ · g / ‖g‖, g the gradient of the cross-entropy of ŷ with respect to h. Only
    the length of the step depends on the anchor, so the farthest one flips first; along the line the logits are affine.
    O(M·d·C) time. A candidate whose gradient is zero never flips.

    The reference divides each weight by z − h + 10⁻⁸, so that a feature in which candidate and anchor are equal stays
    as it is; here it moves with the others. In float32 its p_ŷ − 1 is 0 from a gap of 17 between the logits on, which
    leaves ŷ out of g. Its g is that of a mean over all M candidates, and the squares in ‖g‖ vanish, so that it divides
    by 0, from a gap of 42 to 45 on for M = 1,000 to 5,000 and of 40 to 41 for 50,000 (C = 10, d = 64 to 512, weights as
    they are initialised). Here the direction is exact at any confidence.

    Raises:
        ValueError: the head is not affine, or the logits are not what it makes of the features.
    """
    anchors, mean = mixing.anchors, mixing.features.mean(0)
    weight, logits_of_mean = _linearise(mixing.head, mean, anchors)

    caps = []
    for rows in mixing.blocks(torch.arange(len(mixing.index), device=mixing.index.device)):
        features, logits = mixing.features[rows], mixing.logits[rows]  # (n, d), (n, C)
        affine = logits_of_mean + (features - mean) @ weight.T
        size = torch.linalg.vector_norm(features, dim=1, keepdim=True) * torch.linalg.vector_norm(weight, dim=1)
        _check_affine(logits, affine, _BFLOAT16 * (size + logits.abs()), mixing.index[rows])

        farthest = (anchors.square().sum(1) - 2 * features @ anchors.T).argmax(1)
        reach = torch.linalg.vector_norm(anchors[farthest] - features, dim=1)  # (n,) max_c ‖z_c − h‖
        cap = _distance_to_flip(logits, weight) * sqrt(features.shape[1]) / reach
        caps.append(torch.where(reach > 0, cap, torch.inf))
    return torch.cat(caps)


def flag_optimised(mixing: Mixing, caps: list[float], budget: int, key: int) -> Tensor:
    """Flag the candidates that flipped under any of the `caps`, until more than `budget` have, or the last was tried.

    Returns (M,) bool on the CPU. Under each cap and for each anchor the weights begin at N(cap / 2, cap / 2), clamped,
    and descend on −CE(head(mixture), ŷ) + 0.01 · ‖α‖₂. As the reference makes a new Adam for each update, an update is
    0.1 · g / (|g| + 10⁻⁸): a step of known length, by the sign. The reference tests before it updates, so that its
    fifth update, with a smaller learning rate, changes no result; here it is not made. A candidate that has flipped is
    not tried again.

    Args:
        key: of the first weights; a candidate's depend on it, on the pool index, the cap and the class alone.
    """
    flagged = torch.zeros(len(mixing.index), dtype=torch.bool, device=mixing.index.device)
    # ŷ by the head that the mixtures meet: logits of a pass in half precision can have another argmax.
    everything = torch.arange(len(mixing.index), device=mixing.index.device)
    with torch.no_grad():
        predicted = torch.cat([mixing.head(mixing.features[rows]).argmax(1) for rows in mixing.blocks(everything)])
    for number, cap in enumerate(caps):
        for label, anchor in enumerate(mixing.anchors):
            draws_key = derive_key(key, "alpha", number, label)
            for rows in mixing.blocks((~flagged).nonzero().squeeze(1)):
                features = mixing.features[rows]
                alpha = draw_weights(draws_key, mixing.index[rows], features, cap)
                flagged[rows] = _optimised_flips(features, predicted[rows], anchor, alpha, cap, mixing.head)
        if int(flagged.sum()) > budget:
            break
    return flagged.cpu()


def draw_weights(key: int, index: Tensor, like: Tensor, cap: float) -> Tensor:
    """Draw mixing weights (n, d) from N(cap / 2, cap / 2), clamped to [10⁻⁸, cap]; shape, dtype and device of `like`.

    The row of `index` (n,) depends on `key` and on that pool index alone.
    """
    feature = torch.arange(like.shape[1], device=like.device)
    uniform = Draws(key, (index[:, None] * like.shape[1] + feature).flatten()).uniform(0).double()
    # By the inverse of the distribution function: one draw for a number, and the tails that 24 bits lack are clamped.
    normal = sqrt(2) * torch.erfinv(2 * uniform - 1)
    return (cap / 2 * (1 + normal)).clamp_(_SMALLEST, cap).reshape(like.shape).to(like.dtype)


def _optimised_flips(
    features: Tensor, predicted: Tensor, anchor: Tensor, alpha: Tensor, cap: float, head: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return (n,) bool: True if the mixture of `features` (n, d) and `anchor` (d,) flips before or after any update."""
    towards = anchor - features
    flips = torch.zeros_like(predicted, dtype=torch.bool)
    for remaining in reversed(range(_TESTED)):
        mixture = torch.addcmul(features, alpha, towards)
        with torch.set_grad_enabled(remaining > 0):
            logits = head(mixture.requires_grad_(remaining > 0))
        flips |= logits.argmax(1) != predicted
        if remaining:
            (gradient,) = torch.autograd.grad(logits, mixture, -_cross_entropy_gradient(logits.detach(), predicted))
            norm = torch.linalg.vector_norm(alpha, dim=1, keepdim=True)
            gradient = torch.addcmul(alpha * (_NORM_WEIGHT / norm), gradient, towards)
            # α − 0.1 · g / (|g| + ε) in one pass: half of the time goes to passes over (n, d) numbers.
            alpha = alpha.addcdiv(gradient, gradient.abs() + _SMALLEST, value=-_LEARNING_RATE).clamp_(_SMALLEST, cap)
    return flips


def _cross_entropy_gradient(logits: Tensor, label: Tensor) -> Tensor:
    """Return softmax − onehot (n, C), the gradient of the cross-entropy of `label` (n,), without computing 1 − p."""
    others = logits.softmax(1).scatter(1, label[:, None], 0.0)
    return others.scatter(1, label[:, None], -others.sum(1, keepdim=True))


def _distance_to_flip(logits: Tensor, weight: Tensor) -> Tensor:
    """Return the distance (n,) along the gradient at which the first other class overtakes ŷ; ∞ where none does."""
    label = logits.argmax(1, keepdim=True)
    # (softmax − onehot) / (1 − p_ŷ): the same direction, and a number at any confidence.
    gradient = logits.scatter(1, label, -torch.inf).softmax(1).scatter(1, label, -1.0)
    direction = gradient @ weight  # (n, d)
    slope = direction @ weight.T
    gain = slope - slope.gather(1, label)  # by which another class gains on ŷ
    gap = logits.gather(1, label) - logits
    length = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    distance: Tensor = torch.where(gain > 0, gap * length / gain, torch.inf).amin(1)
    return distance


def _linearise(head: Callable[[Tensor], Tensor], point: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Jacobian (C, d) of the head at `point` (d,) and its logits (C,) there, exact for an affine head."""
    with torch.enable_grad():
        points = point.expand_as(anchors).clone().requires_grad_()
        logits = head(points)
    unit = torch.eye(len(anchors), dtype=logits.dtype, device=logits.device)
    (weight,) = torch.autograd.grad(logits, points, unit)
    return weight, logits[0].detach()


def _check_affine(logits: Tensor, affine: Tensor, tolerance: Tensor, index: Tensor) -> None:
    """Raise unless all `logits` (n, C) are as the linearised head has them: `affine`, to within `tolerance`."""
    wrong = ~((logits - affine).abs() <= tolerance)
    if not bool(wrong.any()):
        return
    row, label = wrong.nonzero()[0].tolist()
    raise ValueError(
        f"the closed form of ALFA-Mix needs an affine head, and logits that it made of the features; sample "
        f"{int(index[row])} has the logit {float(logits[row, label]):.4g} for class {label} where an affine head would "
        f"have made {float(affine[row, label]):.4g}; use variant=opt, or logits and features of one pass"
    )
