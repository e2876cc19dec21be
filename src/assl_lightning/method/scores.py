"""Uncertainty, and inconsistency, of predictions: logits (…, C) → (…), larger means label sooner.

Every function reduces the axis `dim` of the classes, the last one if it is not named. It is differentiable almost
everywhere and waits for no device. float64 logits give float64; any other floating type gives float32, computed in
float32 whatever autocast is in force. Logits of ±10⁴ give finite numbers, and a NaN logit gives NaN: a broken model is
not "certain".

    Lim, Na and Kwak 2023: Active Semi-Supervised Learning by Exploring Per-Sample Uncertainty and Consistency
    Settles 2009: Active Learning Literature Survey, §3.1
    Gao et al. 2020: Consistency-based Semi-supervised Active Learning: Towards Minimizing Labeling Cost
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor


def pseudo_el2n(logits: Tensor, dim: int | None = None) -> Tensor:
    """Return the distance of the prediction from its own pseudo-label, ‖p − onehot(argmax p)‖₂: Lim et al. 2023, Eq. 1.

    Args:
        logits: (…, C), C ≥ 2; with `dim`, the classes along that axis.
        dim: the classes' axis, such as 1 for (B, C, H, W); None: the last one, of logits with at most three axes.

    Returns:
        (…) in [0, √(1 − 1/C)]: 0 for a one-hot prediction, the upper end for a uniform one.

    >>> pseudo_el2n(torch.tensor([[0.0, 0.0], [30.0, 0.0]]))
    tensor([7.0711e-01, 1.3234e-13])
    """
    axis = _axis(logits, dim)
    with _full_precision(logits):
        others = _other_probabilities(_to_float(logits), axis)
        # The pseudo-label's own term is Σ of the others: 1 − p_max is 0 in float32 from a gap of 17 between the logits
        # on. The scale keeps the squares of numbers below 10⁻¹⁹ from vanishing: ranks hold up to a gap of 87.
        scale = others.amax(axis, keepdim=True).clamp_min(torch.finfo(others.dtype).tiny)
        difference = others / scale
        squares = difference.sum(axis).square() + difference.square().sum(axis)  # (1 − p_max)² + Σ_{c ≠ ŷ} p_c²
        return squares.sqrt() * scale.squeeze(axis)


def symmetric_kl(logits_a: Tensor, logits_b: Tensor, dim: int | None = None) -> Tensor:
    """Return the disagreement of two views of a sample, (KL(a ‖ b) + KL(b ‖ a)) / 2 in nats: Lim et al. 2023, Eq. 4.

    Args:
        logits_a: (…, C), C ≥ 2.
        logits_b: the same shape; the order of the two does not matter.
        dim: the classes' axis, such as 1 for (B, C, H, W); None: the last one, of logits with at most three axes.

    Returns:
        (…) ≥ 0 without an upper bound: 0 for equal predictions.

    >>> symmetric_kl(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0]))
    tensor(0.3808)
    """
    axis = _axis(logits_a, dim)
    _check_same_shape("symmetric_kl", logits_a, logits_b)
    with _full_precision(logits_a):
        difference, distance = _differences(logits_a, logits_b, axis)
        return 0.5 * (difference * distance).sum(axis)


def view_variance(logits_a: Tensor, logits_b: Tensor, dim: int | None = None) -> Tensor:
    """Return the variance of the predicted probabilities over two views, summed over classes: Gao et al. 2020.

    Both views weigh ½, so that it is Σ_c ((a_c − b_c) / 2)².

    Args:
        logits_a: (…, C), C ≥ 2.
        logits_b: the same shape; the order of the two does not matter.
        dim: the classes' axis, such as 1 for (B, C, H, W); None: the last one, of logits with at most three axes.

    Returns:
        (…) in [0, ½]: 0 for equal predictions, ½ for two certain ones of different classes.

    >>> view_variance(torch.tensor([0.0, 80.0]), torch.tensor([0.0, 0.0]))
    tensor(0.1250)
    """
    axis = _axis(logits_a, dim)
    _check_same_shape("view_variance", logits_a, logits_b)
    with _full_precision(logits_a):
        return 0.25 * _differences(logits_a, logits_b, axis)[0].square().sum(axis)


def entropy(logits: Tensor, dim: int | None = None) -> Tensor:
    """Return the entropy of the prediction, −Σ p log p in nats.

    Args:
        logits: (…, C), C ≥ 2; with `dim`, the classes along that axis.
        dim: the classes' axis, such as 1 for (B, C, H, W); None: the last one, of logits with at most three axes.

    Returns:
        (…) in [0, log C]: 0 for a one-hot prediction; precise also where p_max rounds to 1.

    >>> entropy(torch.tensor([[0.0, 0.0], [30.0, 0.0]]))
    tensor([6.9315e-01, 2.9009e-12])
    """
    axis = _axis(logits, dim)
    with _full_precision(logits):
        # −log p = d + log(1 + Σ e⁻ᵈ), d = z_max − z: a sum of numbers ≥ 0.
        logits = _to_float(logits)
        ratio, total = _ratios(logits, axis)
        gap = torch.where(ratio > 0, logits.amax(axis, keepdim=True) - logits, 0.0)  # so that 0 · ∞ is 0
        return torch.log1p(total) + (ratio * gap).sum(axis) / (1 + total)


def margin(logits: Tensor, dim: int | None = None) -> Tensor:
    """Return the margin between the two most probable classes with its sign turned, p₂ − p₁: larger, label sooner.

    Args:
        logits: (…, C), C ≥ 2; with `dim`, the classes along that axis.
        dim: the classes' axis, such as 1 for (B, C, H, W); None: the last one, of logits with at most three axes.

    Returns:
        (…) in [−1, 0]: 0 where the two are equally probable; precise also where they nearly are.

    >>> margin(torch.tensor([[0.0, 0.0], [1e4, -1e4]]))
    tensor([ 0., -1.])
    """
    axis = _axis(logits, dim)
    with _full_precision(logits):
        logits = _to_float(logits)
        first, second = logits.topk(2, dim=axis).values.unbind(axis)
        return F.softmax(logits, dim=axis).amax(axis) * torch.expm1(second - first)


def least_confidence(logits: Tensor, dim: int | None = None) -> Tensor:
    """Return the probability of all but the most probable class, 1 − p_max, precise also where p_max rounds to 1.

    Args:
        logits: (…, C), C ≥ 2; with `dim`, the classes along that axis.
        dim: the classes' axis, such as 1 for (B, C, H, W); None: the last one, of logits with at most three axes.

    Returns:
        (…) in [0, 1 − 1/C].

    >>> least_confidence(torch.tensor([[0.0, 0.0], [30.0, 0.0]]))
    tensor([5.0000e-01, 9.3576e-14])
    """
    axis = _axis(logits, dim)
    with _full_precision(logits):
        return _other_probabilities(_to_float(logits), axis).sum(axis)


def _other_probabilities(logits: Tensor, axis: int) -> Tensor:
    """Return the softmax (…, C) with a zero at its largest entry (the first of several)."""
    return F.softmax(logits, dim=axis).scatter(axis, logits.max(axis, keepdim=True).indices, 0.0)


def _ratios(logits: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return p / p_max by class (…, C), 0 at the largest (the first of several), and their sum (…): 1 / p_max − 1."""
    largest, where = logits.max(axis, keepdim=True)
    ratio = (logits - largest).exp().scatter(axis, where, 0.0)
    return ratio, ratio.sum(axis)


def _differences(logits_a: Tensor, logits_b: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return |a − b| and |log a − log b| of two predictions, (…, C) each, precise also where both are small."""
    logits_a, logits_b = _to_float(logits_a), _to_float(logits_b)
    # log a − log b from differences of the logits: those of two logarithms lose what is small in them.
    shift = logits_a.amax(axis, keepdim=True) - logits_b.amax(axis, keepdim=True)
    normaliser = torch.log1p(_ratios(logits_a, axis)[1]) - torch.log1p(_ratios(logits_b, axis)[1])
    distance = ((logits_a - logits_b) - shift - normaliser.unsqueeze(axis)).abs()
    larger = torch.maximum(F.softmax(logits_a, dim=axis), F.softmax(logits_b, dim=axis))
    return larger * -torch.expm1(-distance), distance


def _check_same_shape(name: str, logits_a: Tensor, logits_b: Tensor) -> None:
    if logits_a.shape != logits_b.shape:
        raise ValueError(
            f"{name} compares two predictions of the same samples, so both logits must have one shape; "
            f"got {tuple(logits_a.shape)} and {tuple(logits_b.shape)}"
        )


def _to_float(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _full_precision(logits: Tensor) -> AbstractContextManager[object]:
    """Turn autocast off, which would round the products of a formula to 8 or 11 bits."""
    kind = logits.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _axis(logits: Tensor, dim: int | None) -> int:
    """Return the classes' axis, or raise where they cannot be logits.

    The classes stay there: of (B, C, H, W) a softmax along axis 1 takes a CPU a twentieth of that along a last one.
    """
    if not logits.is_floating_point():
        raise TypeError(
            f"logits must be a floating-point tensor, the network's output before softmax; got {logits.dtype}"
        )
    if dim is None and logits.ndim > 3:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} may have their classes on axis 1, as (B, C, H, W), or on the last "
            f"one: say which with dim=1 or dim=-1"
        )
    if dim is not None and not -logits.ndim <= dim < logits.ndim:
        raise ValueError(f"logits of shape {tuple(logits.shape)} have no axis dim={dim}")
    axis = -1 if dim is None else dim
    if logits.ndim == 0 or logits.shape[axis] < 2:
        raise ValueError(f"logits must have shape (…, C) with at least C = 2 classes; got {tuple(logits.shape)}")
    return axis
