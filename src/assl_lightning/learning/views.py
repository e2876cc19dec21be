"""Views of samples: how a pass over the pool comes by its images, and reads those in files ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from assl_lightning.base.ahead import ahead

View = Callable[[Tensor], Tensor]
"""(b,) int64 indices on a device → (b, channels, height, width) on the same device."""


def _unchanged(pixels: Tensor) -> Tensor:
    return pixels


@dataclass(frozen=True)
class ReadView:
    """A `View` of images in files: `read` decodes them on the CPU, and `make` changes them on the device."""

    read: View
    make: Callable[[Tensor], Tensor] = _unchanged

    def __call__(self, index: Tensor) -> Tensor:
        """Return the images at `index` (b,) on its device."""
        return self.make(self.read(index.cpu()).to(index.device))


def changed(view: View, change: Callable[[Tensor], Tensor]) -> View:
    """Return the view whose images are those of `view`, changed on their device."""
    if isinstance(view, ReadView):
        make = view.make
        return replace(view, make=lambda pixels: change(make(pixels)))
    return lambda index: change(view(index))


def mirrored(view: View) -> View:
    """Return the view whose images are those of `view`, left and right exchanged."""
    return changed(view, lambda images: images.flip(-1))


def images_of_parts(view: View, parts: Sequence[Tensor], device: torch.device) -> Generator[Tensor, None, None]:
    """Yield the images of each part (b,) int64 of a pool's indices, in order, on `device`.

    A thread reads images in files ahead, while the caller computes with those before. To a GPU they go from pinned
    memory, so that nothing waits for the copy. The values are those of `view(part)`, and an image that cannot be read
    raises its error in the place of its part.
    """
    if not isinstance(view, ReadView):
        yield from (view(part.to(device)) for part in parts)
        return
    read, is_pinned = view.read, device.type == "cuda"

    def read_part(part: Tensor) -> Tensor:
        pixels = read(part)
        return pixels.pin_memory() if is_pinned else pixels

    with closing(ahead(read_part, (part.cpu() for part in parts))) as found:
        for pixels in found:
            yield view.make(pixels.to(device, non_blocking=is_pinned))
