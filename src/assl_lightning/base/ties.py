"""Scores made comparable, so that picks are the same on every processor; and the limits of that promise.

A product of matrices, a softmax and a sum over a row round differently from processor to processor, from one number of
threads to another, and by a row's place among the others; even `exp` does at the end of a tensor. So no two scores that
are equal in exact arithmetic may be expected to be equal to the last bit. What the strategies do about it:

* They compute in float64, the network's head included (`head_in_float64`), and compare at the precision of a float32
  (`comparable`). What float64 rounded differently, 10⁻¹⁶ to 10⁻¹³ of the value, is equal again, so that ties go to the
  lower index.
* Copies, rows that are equal to the last bit, share what the first of them got (`copies.first_copies`): exactly,
  whatever the rounding. The pass over the pool gives equal images equal rows (`inference.evaluate`).
* Statistics and other numbers that come as float32 are compared as they are: `mean + c · √variance` and products of two
  numbers are rounded by a rule that every processor keeps.

Rounding has a boundary: numbers that differ by a share e of themselves fall on two sides of it with a probability of
about e / 6·10⁻⁸, that is 10⁻⁸ for the 10⁻¹⁵ that a softmax leaves, and then are ordered as their last bits have it, as
any two different scores are. Of a million pairs of predictions that had their ten classes swapped, 350,000 to 610,000
had two scores (entropy, margin, least confidence, pseudo-EL2N) in float32, as many in float64, and none when compared.
Where a difference of large numbers leaves little, as of two near points that are long, e is larger; copies do not pass
that way.

All this holds for candidates that are given. Logits and features of a network, a float32 computation, differ by a
millionth between processors, and so may the order of two samples whose scores differ by as little.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU where it has no float64, as Apple's has none."""
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(values: Tensor) -> Tensor:
    """`values` as float64 without a gradient, on the CPU where their device has no float64."""
    return values.detach().to(float64_device(values.device)).double()


def comparable(score: Tensor) -> Tensor:
    """(…) float64 rounded to the 24 significant bits of a float32: equal where only the rounding of float64 differed.

    The range is that of float64, so that the order of scores of 10⁻¹⁰⁰ is not lost. ±∞ and NaN stay as they are.

    >>> third = torch.tensor([1 / 3, 1 - 2 / 3], dtype=torch.float64)
    >>> (third[0] == third[1]).item(), (comparable(third)[0] == comparable(third)[1]).item()
    (False, True)
    """
    if score.dtype != torch.float64:
        return score
    rounded = (score.view(torch.int64) + 2**28) & -(2**29)  # half a unit more, then 29 of 53 bits cut off
    return torch.where(score.isfinite(), rounded.view(torch.float64), score)


def head_in_float64(head: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """`head` as a function of float64 features (…, d) on `device`, with float64 logits (…, C).

    A module computes in float64, with its parameters as they are. Anything else, and a module that refuses float64, is
    given float32.
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
