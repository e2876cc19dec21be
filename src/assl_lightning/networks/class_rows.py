"""Carry the rows of a classifier over to other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import torch
from torch import Tensor, nn

from assl_lightning.networks.adapt import find_head


def carry_rows(
    before: Mapping[str, Tensor], head: nn.Module, places: Sequence[int | None], prefix: str = ""
) -> dict[str, Tensor]:
    """Return the state from `before` a change of classes for the same network with another `head`.

    The last linear layer of the head has a row for each class. A class that stays keeps its row to the last bit. A new
    class, and a class of which it is not known which present class it is, has the row that `head` begins with. Classes
    that were merged have the mean of their rows, and log k more bias for k of them: with equal logits that is the
    log-sum-exp, whose softmax is the sum of their probabilities; elsewhere it is the tangent there, and smaller.

    Args:
        before: a state_dict, of any weights; it is not changed.
        head: the new network's head.
        places: (C before,) the number of each class among the present classes; None where it has none.
        prefix: before the names of the head's parameters in `before`.

    Raises:
        ValueError: the last linear layer of `head` is not that of `before`.
    """
    name = find_head(head, _rows(head))
    layer = head.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    carried = dict(before)
    for leaf, fresh in layer.named_parameters():
        key = f"{prefix}{name}.{leaf}" if name else f"{prefix}{leaf}"
        old = before.get(key)
        if old is None or old.shape != (len(places), *fresh.shape[1:]):
            shape = "none" if old is None else tuple(old.shape)
            raise ValueError(
                f"the head of the last round must have the parameter {key} with a row for each of its {len(places)} "
                f"classes; its shape is {shape}: begin each round anew with init=rand"
            )
        carried[key] = _carry(old, fresh.detach(), places, is_bias=leaf == "bias")
    return carried


def _carry(old: Tensor, fresh: Tensor, places: Sequence[int | None], is_bias: bool) -> Tensor:
    rows = fresh.to(old).clone()
    for number in range(len(rows)):
        sources = [former for former, present in enumerate(places) if present == number]
        if len(sources) == 1:
            rows[number] = old[sources[0]]
        elif sources:
            rows[number] = old[torch.tensor(sources)].mean(0) + (log(len(sources)) if is_bias else 0.0)
    return rows


def _rows(head: nn.Module) -> int:
    """Return the number of outputs of the head's last linear layer."""
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(
            f"a head whose classes change must end in an nn.Linear; {type(head).__name__} has none: begin each round "
            f"anew with init=rand"
        )
    return layers[-1].out_features
