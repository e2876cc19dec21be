"""`observe.regions`: a score for each region of an image, which follows crops and flips."""

from __future__ import annotations

import torch
from torch import Tensor

from assl_lightning.base.arguments import whole_number
from assl_lightning.method import reducers
from assl_lightning.method.contracts import Observation, TrainingStep
from assl_lightning.method.observers import ViewObserver
from assl_lightning.method.regions import RegionGrid
from assl_lightning.method.statistics import NOTHING
from assl_lightning.observe.places import OfBatch, PlaceObserver, of_batch

PADDING = (-1, 255)
"""Numbers of a region map that are no region: what padding is filled with. 255 only where there are no more regions."""


class regions(PlaceObserver):  # noqa: N801
    """Score each pixel by Eq. 1 and 4, and keep the mean of each region of a grid: `query` answers (image, region).

    The callback's table has a row for each region of each image; `num_samples` stays the number of images. A region
    seen partly is scored on what is seen of it; one that a view does not show is not visited.

    Where the training crops, flips or resizes images, the data set gives `RegionGrid(rows, columns).map(height, width)`
    of the whole image as one more mask, which goes through the same geometric transforms, by nearest interpolation,
    with −1 (or 255) where they pad; `region_map` says where in the batch it is. torchvision's transforms of version 2
    do this for a `tv_tensors.Mask`, and padding with `fill={tv_tensors.Mask: -1}`.

    Args:
        inner: the maker that finds the logits, (B, C, H, W).
        rows: rows of the grid.
        columns: its columns.
        region_map: where the maps (B, H, W) of the weak view lie in the batch: key, position, or a function of the
            batch. None: every view shows the whole image as it lies.
        stride: the network predicts each `stride`-th pixel of the map, such as 4 for outputs of a quarter the size.
        least_places: a region of which fewer predictions are seen is not visited: a strip of pixels says little.
        dim: the classes' axis.
        ignore_index: places where `target` has this value do not count.
        target: where the targets (B, H, W) lie in the batch: key, position, or a function of the batch.

    >>> from assl_lightning import observe
    >>> observe.regions(observe.forward("model", 0, 1), rows=4, columns=4, region_map="region_map").grid.count
    16
    """

    def __init__(
        self,
        inner: ViewObserver,
        rows: int,
        columns: int,
        *,
        region_map: OfBatch | None = None,
        stride: int = 1,
        least_places: int = 1,
        dim: int = 1,
        ignore_index: int | None = None,
        target: OfBatch | None = None,
    ) -> None:
        super().__init__(inner, dim, ignore_index, target)
        if self.gives_features:
            raise ValueError("regions have no features: leave features=… and head=… of the inner maker out")
        self.grid: RegionGrid = RegionGrid(rows, columns)
        self.region_map = region_map
        self.stride = whole_number("stride", stride, least=1)
        self.least_places = whole_number("least_places", least_places, least=1)
        self._maps: dict[tuple[int, int, torch.device], Tensor] = {}

    def observe(self, step: TrainingStep) -> Observation | None:
        """Return the numbers of each region of each image, B · R rows; −1 where a region was not seen."""
        places = self.places(step)
        if places is None:
            return None
        if len(places.shape) != 2:
            raise ValueError(f"regions want predictions with two axes of places, (B, C, H, W); got {places.shape}")
        index, count = places.views.index, self.grid.count
        regions = self._regions(step, (len(index), *places.shape), index.device).to(index.device)  # (B, P)
        uncertainty, number = reducers.per_region(places.uncertainty, regions, count, places.counts)  # (B, R)
        inconsistency = None
        if places.inconsistency is not None:
            inconsistency, _ = reducers.per_region(places.inconsistency, regions, count, places.counts)
        rows = index[:, None] * count + torch.arange(count, device=index.device)
        rows = torch.where(index[:, None] < 0, index[:, None], rows)
        return Observation(
            torch.where(number >= self.least_places, rows, NOTHING).flatten(),
            uncertainty.flatten(),
            None if inconsistency is None else inconsistency.flatten(),
        )

    def _whole(self, height: int, width: int, device: torch.device) -> Tensor:
        """Return the regions (P,) of whole images of this size, copied to the device once."""
        key = (height, width, device)
        if key not in self._maps:
            self._maps[key] = self.grid.map(height, width).flatten().to(device)
        return self._maps[key]

    def _regions(self, step: TrainingStep, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Return the region of each place, (B, P) int64."""
        images, height, width = shape
        if self.region_map is None:
            return self._whole(height, width, device).expand(images, -1)
        maps = of_batch("region_map", self.region_map, step.batch)
        if self.stride > 1:
            maps = maps[..., self.stride // 2 :: self.stride, self.stride // 2 :: self.stride]
        if maps.numel() != images * height * width or maps.shape[-2:] != (height, width):
            at_stride = f" at stride={self.stride}" if self.stride > 1 else ""
            raise ValueError(
                f"region_map={self.region_map!r} has the shape {tuple(maps.shape)}{at_stride}, but the predictions are "
                f"of {images} images of {height} × {width} places: crop and flip the map as the image, and say "
                f"stride=… where the network predicts at a coarser resolution"
            )
        if step.is_first:
            self._check_map(maps)
        return maps.reshape(images, -1).long()

    def _check_map(self, maps: Tensor) -> None:
        """Raise for numbers that are no regions, in the first batch; waits for the device."""
        count, whole = self.grid.count, maps.long()
        is_known = ((whole >= 0) & (whole < count)) | (whole == PADDING[0]) | (whole == PADDING[1])
        is_known &= maps == whole
        if not bool(is_known.all()):
            raise ValueError(
                f"region_map={self.region_map!r} must hold the regions 0 … {count - 1} of {self.grid.rows} × "
                f"{self.grid.columns}, and −1 or 255 where the view is padded; it has {maps[~is_known][0].item():g}. "
                f"Make it with RegionGrid({self.grid.rows}, {self.grid.columns}).map(height, width), and transform it "
                f"by nearest interpolation"
            )
