"""Uncertainty and inconsistency of detections: boxes with a class and a score each, of one or two views of an image.

A detection of score p is a prediction (p, 1 − p): the object is there, or is not. Its numbers are those of Lim et al.
2023, Eq. 1 and 4, for these two classes. Between two views the detections of one class that overlap most are compared,
as in consistency-based active learning for detection:

    Yu et al. 2022: Consistency-based Active Learning for Object Detection
    Elezi et al. 2022: Not All Labels Are Equal
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from assl_lightning.method import scores
from assl_lightning.method.view_scores import as_logits

Detections = dict[str, Tensor]
"""Of an image, as torchvision's detectors give them: boxes (D, 4) as x0, y0, x1, y1; labels (D,) int64; scores (D,)."""


def uncertainty(score: Tensor) -> Tensor:
    """Return pseudo-EL2N of (p, 1 − p), √2 · min(p, 1 − p): scores (D,) → (D,) in [0, √½], largest at p = ½.

    >>> uncertainty(torch.tensor([0.5, 0.9]))
    tensor([0.7071, 0.1414])
    """
    return scores.pseudo_el2n(_two_classes(score))


def inconsistency(view: Detections, other: Detections, *, least_iou: float = 0.5, missing: float = 0.05) -> Tensor:
    """Return the symmetric KL divergence of each detection's scores in two views, (D + E,) ≥ 0 in nats.

    Args:
        view: D detections.
        other: detections of another view, with their boxes brought to the first one's places.
        least_iou: a detection is compared with the one of the same class that overlaps it most, from this intersection
            over union on.
        missing: the score of an object that a view lacks: at most the detector's threshold.

    Returns:
        One number for each detection of the first view, then one for each of the E detections that only the other has.

    >>> there = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.8])}
    >>> inconsistency(there, there)
    tensor([0.])
    """
    overlap = box_iou(view["boxes"], other["boxes"])  # (D, D')
    fits = (overlap >= least_iou) & (view["labels"][:, None] == other["labels"])
    overlap = torch.where(fits, overlap, -1.0)
    matched = view["scores"].new_full((len(overlap),), missing)
    if overlap.numel():
        best = overlap.max(1).indices
        matched = torch.where(fits.any(1), other["scores"][best], matched)
    alone = other["scores"][~fits.any(0)]
    return scores.symmetric_kl(
        _two_classes(torch.cat([view["scores"], alone])),
        _two_classes(torch.cat([matched, torch.full_like(alone, missing)])),
    )


def _two_classes(score: Tensor) -> Tensor:
    """Return the logits (D, 2) whose softmax is (p, 1 − p), with p clamped by the precision of its type."""
    least = torch.finfo(score.dtype).eps
    wide = (score if score.dtype == torch.float64 else score.float()).clamp(least, 1 - least)
    return as_logits(torch.stack([wide, 1 - wide], dim=-1))
