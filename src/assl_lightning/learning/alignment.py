"""Distribution alignment: predictions whose classes are as frequent, on the average, as they should be.

Berthelot et al. 2020: ReMixMatch. Semi-Supervised Learning with Distribution Alignment and Augmentation Anchoring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isclose
from typing import Literal

import torch
from torch import Tensor, nn

from assl_lightning.base.arguments import real_number, require_one_of
from assl_lightning.learning.running_averages import RunningAverages

Target = Literal["uniform", "labelled", "prior", "none"]

_SMALL = 1e-6  # added to both frequencies


class DistributionAlignment(nn.Module):
    """p̃ = norm(p · (Q + 10⁻⁶) / (P + 10⁻⁶)), with P the running mean of p and Q the frequencies that it should have.

    Args:
        num_classes: C.
        target: "uniform": Q = 1 / C; "labelled": the running mean of the predictions for labelled images; "prior": as
            given; "none": p̃ = p. Labelled images that a strategy chose are not a random sample of the pool: where it
            asks for rare classes, "labelled" teaches that they are frequent.
        prior: (C,) frequencies ≥ 0 that sum to 1, for "prior" alone.
        momentum: of the running means, in [0, 1).
        warm_up: see `RunningAverages`.
    """

    def __init__(
        self, num_classes: int, target: Target, prior: Sequence[float] | None, *, momentum: float, warm_up: bool
    ) -> None:
        super().__init__()
        require_one_of("target", target, Target)
        _check_prior(target, prior, num_classes)
        self.target = target
        even = torch.full((num_classes,), 1 / num_classes)
        self.running = RunningAverages(
            momentum, warm_up=warm_up, from_first=("of_unlabelled",), of_unlabelled=even, of_labelled=even
        )
        wanted = even if prior is None else torch.tensor([float(share) for share in prior])
        self.register_buffer("wanted", wanted, persistent=False)

    wanted: Tensor

    def align(self, unlabelled: Tensor, labelled: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        """Return p̃ (Bu, C) of the step's probabilities, which count in P and Q already.

        Args:
            unlabelled: (Bu, C) probabilities.
            labelled: (B, C) probabilities.
            mean: of rows, over all processes.
        """
        if self.target == "none":
            return unlabelled
        self.running.update(of_unlabelled=mean(unlabelled))
        wanted = self.wanted
        if self.target == "labelled":
            self.running.update(of_labelled=mean(labelled))
            wanted = self.running["of_labelled"]
        aligned = unlabelled * (wanted + _SMALL) / (self.running["of_unlabelled"] + _SMALL)
        found: Tensor = aligned / aligned.sum(-1, keepdim=True)
        return found


def _check_prior(target: Target, prior: Sequence[float] | None, num_classes: int) -> None:
    """Raise unless there is a prior where the target is "prior", and one only there, and it can be one."""
    if (target == "prior") != (prior is not None):
        raise ValueError(f"prior must be given with target=prior, and only then; got target={target}, prior={prior}")
    if prior is None:
        return
    if isinstance(prior, str) or not isinstance(prior, Sequence):
        raise TypeError(f"prior must be a list of the frequencies of the {num_classes} classes; got {prior!r}")
    shares = [real_number(f"prior[{number}]", share) for number, share in enumerate(prior)]
    if len(shares) != num_classes or min(shares) < 0 or not isclose(sum(shares), 1, abs_tol=1e-3):
        raise ValueError(
            f"prior must be {num_classes} frequencies of at least 0 that sum to 1, in the order of the classes; got "
            f"{len(shares)} that sum to {sum(shares):g}"
        )
