"""All images of a source as one tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from assl_lightning.data.image_stream import StoredImages, StreamedImages


def in_memory(images: StoredImages) -> Tensor:
    """Return (N, channels, height, width) uint8: a tensor as it is, images in files decoded."""
    return images[torch.arange(len(images))] if isinstance(images, StreamedImages) else images
