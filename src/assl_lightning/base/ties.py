"""Ties between scores: how strategies make the same picks on every processor, and the limits of that.

A matrix product, a softmax and a sum over a row are rounded differently by different processors, with another number of
threads, and for another position of the row; even `exp` differs at the end of a tensor. Two scores that are equal in
exact arithmetic may therefore differ in their last bits. The strategies make them equal again:

* They compute in float64, including the network's head (`head_in_float64`), and compare at the precision of float32
  (`comparable`). This removes the rounding errors of float64, 10⁻¹⁶ to 10⁻¹³ of the value, and the lower index wins a
  tie.
* Copies, which are rows with the same bits, get the score of the first of them (`copies.first_copies`), which is exact.
  The pass over the pool gives equal images equal rows (`inference.evaluate`).
* Statistics, and other numbers that are float32 from the start, are compared as they are: all processors round
  `mean + c · √variance` and products of two numbers by the same rule.

Two numbers that differ by a share e are rounded to different float32 with a probability of about e / 6·10⁻⁸, which is
10⁻⁸ for the 10⁻¹⁵ of a softmax; then their last bits decide. Measured over a million pairs of predictions whose ten
classes were permuted: 350,000 to 610,000 pairs had two different scores (entropy, margin, least confidence,
pseudo-EL2N) in float32, as many in float64, and none after rounding. A small difference of large numbers, as of two
near points far from the origin, has a larger e; copies avoid that computation.

This holds for given candidates. Logits and features are computed by the network in float32 and differ by about 10⁻⁶
between processors, so the order of two samples whose scores are that close may differ too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call


def float64_device(device: torch.device) -> torch.device:
    """Return the device, or the CPU if the device has no float64, such as Apple's."""
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(values: Tensor) -> Tensor:
    """Return `values` as float64 without a gradient, on the CPU if their device has no float64."""
    return values.detach().to(float64_device(values.device)).double()


def comparable(score: Tensor) -> Tensor:
    """Round float64 (…) to the 24 significant bits of a float32: scores that differ only by rounding become equal.

    The range is that of float64, so that scores of 10⁻¹⁰⁰ keep their order. ±∞ and NaN stay as they are.

    >>> third = torch.tensor([1 / 3, 1 - 2 / 3], dtype=torch.float64)
    >>> (third[0] == third[1]).item(), (comparable(third)[0] == comparable(third)[1]).item()
    (False, True)
    """
    if score.dtype != torch.float64:
        return score
    rounded = (score.view(torch.int64) + 2**28) & -(2**29)  # half a unit more, then 29 of 53 bits cut off
    return torch.where(score.isfinite(), rounded.view(torch.float64), score)


def head_in_float64(head: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return `head` as a function of float64 features (…, d) on `device` that returns float64 logits (…, C).

    A module computes in float64, with its parameters converted. Anything else, and a module that does not accept
    float64, computes in float32.
    """

    def in_float32(features: Tensor) -> Tensor:
        return head(features.float()).double()

    if not isinstance(head, nn.Module):
        return in_float32
    module, state = head, {}
    for name, values in (*head.named_parameters(), *head.named_buffers()):
        there = values.detach().to(device)
        state[name] = there.double() if there.is_floating_point() else there

    def in_float64(features: Tensor) -> Tensor:
        try:
            logits: Tensor = functional_call(module, state, (features,))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # two precisions in one product
            return in_float32(features)
        return logits.double()

    return in_float64
