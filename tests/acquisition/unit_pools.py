"""Small pools for the strategies that compare directions, and all of their distances by loops."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from assl_lightning.method.candidates import Acquisition, Candidates, LabelledSamples

CLASSES = 3


def make_pool(rows: int, labelled: int, seed: int, columns: int = 4) -> Candidates:
    """Candidates around one direction a class, in no order, with copies of candidates and of labelled samples."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.randn(CLASSES, columns, generator=generator)
    of_class = torch.randint(CLASSES, (rows + labelled,), generator=generator)
    features = 3 * middle[of_class] + torch.randn(rows + labelled, columns, generator=generator)
    features[rows // 2 : rows // 2 + 3] = features[rows // 2].clone()
    features[rows : rows + labelled // 3] = features[: labelled // 3]
    logits = features @ middle.T + torch.randn(rows + labelled, CLASSES, generator=generator)
    index = torch.randperm(3 * (rows + labelled), generator=generator)[: rows + labelled]
    known = LabelledSamples(index[rows:], of_class[rows:], logits[rows:], features[rows:])
    return Candidates(index[:rows], logits=logits[:rows], features=features[:rows], labelled=known)


def on_circle(degrees: list[float], labelled: list[float], predicted: list[int] | None = None) -> Candidates:
    """Candidates 0, 1, … and labelled samples 1,000, 1,001, … of class 0 by their angles; lengths differ."""
    angle = torch.tensor([*degrees, *labelled], dtype=torch.float64).deg2rad()
    length = torch.arange(1, len(angle) + 1)[:, None]
    features = length * torch.stack([angle.cos(), angle.sin()], dim=1)
    logits = torch.eye(CLASSES)[torch.tensor(predicted or [0] * len(angle))]
    rows, known = len(degrees), 1000 + torch.arange(len(labelled))
    samples = LabelledSamples(known, torch.zeros_like(known), logits[rows:], features[rows:])
    return Candidates(torch.arange(rows), logits=logits[:rows], features=features[:rows], labelled=samples)


@dataclass(frozen=True)
class Reference:
    """Samples as Python's numbers, candidates and labelled ones each in the order of their index."""

    index: list[int]  # of candidates
    rows: list[list[float]]  # of candidates, length 1
    logits: list[list[float]]
    known_index: list[int]
    known: list[list[float]]
    known_logits: list[list[float]]
    label: list[int]


def read(candidates: Candidates) -> Reference:
    samples, features, logits = candidates.labelled, candidates.features, candidates.logits
    assert samples is not None
    assert features is not None
    assert logits is not None
    assert samples.logits is not None
    order, known = candidates.index.argsort(), samples.index.argsort()
    return Reference(
        candidates.index[order].tolist(),
        unit_rows(features[order]),
        logits[order].tolist(),
        samples.index[known].tolist(),
        unit_rows(samples.features[known]),
        samples.logits[known].tolist(),
        samples.labels[known].tolist(),
    )


def unit_rows(features: Tensor) -> list[list[float]]:
    rows = features.double().tolist()
    lengths = [math.hypot(*row) or 1.0 for row in rows]
    return [[h / length for h in row] for row, length in zip(rows, lengths, strict=True)]


def inside(a: list[float], b: list[float], radius: float) -> bool:
    """Nearer than the radius, which the distances of these tests are not: copies are exact."""
    return a == b or math.dist(a, b) < radius


def acquire(strategy: Acquisition, candidates: Candidates, budget: int, seed: int = 0) -> list[int]:
    picks: list[int] = strategy.acquire(candidates, budget, torch.Generator().manual_seed(seed)).index.tolist()
    return picks


ALIKE = ("copies of a labelled sample", "two distinct samples", "no features", "one class")
"""The kinds of `make_alike`."""


def make_alike(candidates: Candidates, kind: str) -> Candidates:
    """Return candidates whose features, or the labels of labelled samples, hardly differ."""
    assert candidates.features is not None
    assert candidates.labelled is not None
    features, labelled = candidates.features, candidates.labelled
    if kind == "copies of a labelled sample":
        features = labelled.features[:1].repeat(len(candidates), 1)
    elif kind == "two distinct samples":
        features = features[:2].repeat(len(candidates) // 2, 1)
    elif kind == "no features":
        features, labelled = torch.zeros_like(features), replace(labelled, features=torch.zeros_like(labelled.features))
    else:
        labelled = replace(labelled, labels=torch.zeros_like(labelled.labels))
    return replace(candidates, features=features, labelled=labelled)
