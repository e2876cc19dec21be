"""Sixty small images of blurry stripes, in three classes, and thirty to test with: a few steps learn something."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from assl_lightning import PoolDataModule
from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
from assl_lightning.data.pool import Pool
from assl_lightning.data.sources.base import PoolSource

POOL_SIZE, CLASSES = 60, 3
LABELS = torch.arange(90) % CLASSES
CLASS_NAMES = ("wide", "middling", "narrow")
SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True)


def draw_stripes(labels: Tensor, seed: int = 0) -> Tensor:
    """(N, 1, 8, 8) uint8, of the classes in `labels` (N,)."""
    noise = torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    stripes = 128 + 80 * torch.sin(torch.arange(8)[None, None, None] * (1 + labels[:, None, None, None]) * 0.8)
    return (stripes + 20 * noise).clamp(0, 255).to(torch.uint8)


IMAGES = draw_stripes(LABELS)


def make_datamodule(pool: Pool, **changes: Any) -> PoolDataModule:
    """Over the sixty, but for what is changed."""
    weak = WeakAugment(flip=False)
    arguments: dict[str, Any] = {
        "pool_images": IMAGES[:POOL_SIZE],
        "test_images": IMAGES[POOL_SIZE:],
        "test_labels": LABELS[POOL_SIZE:],
        "normalise": Normalise((0.5,), (0.3,)),
        "weak": weak,
        "strong": StrongAugment(weak=weak),
        "batch_size": 4,
        "mu": 3,
    }
    return PoolDataModule(pool, **(arguments | changes))


def make_source(labels: Tensor = LABELS[:POOL_SIZE], **changes: Any) -> PoolSource:
    """As many images as there are `labels`, with names; nobody need know the labels."""
    arguments: dict[str, Any] = {
        "pool_images": draw_stripes(labels),
        "hidden_labels": labels,
        "test_images": IMAGES[POOL_SIZE:],
        "test_labels": LABELS[POOL_SIZE:],
        "class_names": CLASS_NAMES,
        "sample_ids": tuple(f"{number:02d}.png" for number in range(len(labels))),
    }
    return PoolSource(**(arguments | changes))
