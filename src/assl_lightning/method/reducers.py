"""Reduce the numbers of an image's places, regions or detections to one for the image; larger means label sooner.

The paper scores classified images, which need no reduction. The numbers of a place are those of Eq. 1 and 4 (`scores`).
Nothing waits for the device. Of B images with P places each, `counts` (B, P) bool is True for the places that count,
such as those that are not `ignore_index`; None: all do. An image without such a place has NaN: leave it out, with the
index −1 in an `Observation`. A NaN in a place that counts gives NaN.

    Brust et al. 2019: Active Learning for Deep Object Detection, §3.2 (sum, average or maximum over detections)
    Elezi et al. 2022: Not All Labels Are Equal (maximum over detections)
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from assl_lightning.base.arguments import require_one_of, whole_number
from assl_lightning.base.rules import SHARE, checked

OfDetections = Literal["max", "mean"]
"""The number of an image: the largest of its detections, or their mean."""


def mean(values: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return the mean of the places that count: values (B, P) → (B,). Every pixel weighs the same.

    >>> mean(torch.tensor([[0.1, 0.3, 9.0]]), torch.tensor([[True, True, False]]))
    tensor([0.2000])
    """
    counts = _all_if_none(values, counts)
    return torch.where(counts, values, 0.0).sum(1) / counts.sum(1)  # 0 / 0 is NaN


def top_share(values: Tensor, share: float, counts: Tensor | None = None) -> Tensor:
    """Return the mean of the largest `share` of the places that count: values (B, P) → (B,). For small objects.

    Args:
        values: (B, P).
        share: of n places that count the ⌈share · n⌉ largest are taken, in (0, 1]; 1 is `mean`.
        counts: (B, P) bool.

    >>> top_share(torch.tensor([[0.1, 0.8, 0.2, 0.4]]), share=0.5)
    tensor([0.6000])
    """
    share = checked("share", share, Annotated[float, SHARE])
    counts = _all_if_none(values, counts)
    # A product just above a whole number is that number, so that 0.07 of 100 places are 7.
    width = max(1, math.ceil(share * values.shape[1] - 1e-4))
    number = (share * counts.sum(1) - 1e-4).ceil().clamp(1, width)  # (B,)
    largest = values.masked_fill(~counts, -torch.inf).topk(min(width, values.shape[1]), dim=1).values
    taken = torch.arange(largest.shape[1], device=values.device) < number[:, None]
    return torch.where(counts.any(1), torch.where(taken, largest, 0.0).sum(1) / number, torch.nan)


def per_class(values: Tensor, classes: Tensor, num_classes: int, counts: Tensor | None = None) -> Tensor:
    """Return the mean over an image's classes of each class's mean: values (B, P) → (B,).

    Every class has the same weight, so that a large background does not hide small objects. Classes without a place do
    not count.

    Args:
        values: (B, P).
        classes: (B, P) int64 in [0, C), such as the predicted class of each place.
        num_classes: C.
        counts: (B, P) bool.

    >>> per_class(torch.tensor([[0.1, 0.1, 0.1, 0.9]]), torch.tensor([[0, 0, 0, 2]]), num_classes=3)
    tensor([0.5000])
    """
    of_class, places = per_region(values, classes, num_classes, counts)  # (B, C) each
    return mean(of_class, places > 0)


def per_region(
    values: Tensor, regions: Tensor, num_regions: int, counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean of each region's places, and their number: values (B, P) → (B, R) and (B, R) int64.

    A region of which no place counts has NaN and 0.

    Args:
        values: (B, P).
        regions: (B, P) int64, the region of each place; a place with a number outside [0, R) does not count.
        num_regions: R.
        counts: (B, P) bool.

    >>> per_region(torch.tensor([[0.1, 0.3, 0.8]]), torch.tensor([[0, 0, -1]]), num_regions=2)
    (tensor([[0.2000,    nan]]), tensor([[2, 0]]))
    """
    num_regions = whole_number("num_regions", num_regions, least=1)
    counts = _all_if_none(values, counts) & (regions >= 0) & (regions < num_regions)
    # A further column takes the places that do not count, so that the shape is always the same.
    column = torch.where(counts, regions, num_regions)
    sums = values.new_zeros(len(values), num_regions + 1)
    sums = sums.scatter_add(1, column, torch.where(counts, values, 0.0))[:, :-1]
    places = torch.zeros_like(sums, dtype=torch.int64)
    places = torch.cat([places, places[:, :1]], 1).scatter_add(1, column, torch.ones_like(column))[:, :-1]
    return sums / places, places


def per_detection(
    values: Tensor, image: Tensor, num_images: int, *, empty: float, reducer: OfDetections = "max"
) -> Tensor:
    """Return the largest number of an image's detections, or their mean: values (D,) → (B,).

    Args:
        values: (D,) one number for each detection of all B images, in any order.
        image: (D,) int64 in [0, B), the image that a detection is of.
        num_images: B.
        empty: the number of an image without a detection: 0 puts such images last; the upper end of the scale puts
            them first, since all of their objects may have been missed.
        reducer: "max", as Elezi et al. 2022, or "mean", which does not grow with the number of detections.

    >>> per_detection(torch.tensor([0.2, 0.6, 0.1]), torch.tensor([0, 0, 2]), num_images=3, empty=0.0)
    tensor([0.6000, 0.0000, 0.1000])
    """
    require_one_of("reducer", reducer, OfDetections)
    if values.ndim != 1 or image.shape != values.shape or image.dtype != torch.int64:
        raise ValueError(
            f"values and image must have one entry for each detection, (D,), and image int64; got shapes "
            f"{tuple(values.shape)} and {tuple(image.shape)}, and {image.dtype}"
        )
    method = "amax" if reducer == "max" else "mean"
    start = values.new_zeros(whole_number("num_images", num_images, least=0))
    reduced = start.scatter_reduce(0, image, values, method, include_self=False)
    number = torch.zeros_like(start).index_add(0, image, torch.ones_like(values))
    return torch.where(number > 0, reduced, empty)


def _all_if_none(values: Tensor, counts: Tensor | None) -> Tensor:
    if values.ndim != 2 or (counts is not None and counts.shape != values.shape):
        raise ValueError(
            f"values must have one row for each image and one column for each place, (B, P), and so must counts; got "
            f"{tuple(values.shape)} and {None if counts is None else tuple(counts.shape)}"
        )
    return torch.ones_like(values, dtype=torch.bool) if counts is None else counts
