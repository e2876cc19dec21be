"""Principal components of pixels: features of images without a network."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.base.copies import first_of_equal, row_digests
from assl_lightning.data.image_stream import StoredImages, images_in_parts

NUM_COMPONENTS = 50

_LONGEST_SIDE = 32  # pixels; the components of photographs are of much coarser detail
_AT_ONCE = 256  # images; a pool in files is never in memory as a whole
_WHOLE = 1024  # images or pixels up to which the whole decomposition is faster than a part of it


def pixel_components(images: StoredImages, index: Tensor, count: int = NUM_COMPONENTS) -> Tensor:
    """Return (M, k) float32, the first k = min(`count`, M, pixels) principal components of the images at `index`.

    Pixels lie in [0, 1]; sides longer than 32 are averaged down to 32. Components are centred and not whitened, the
    most varying first. Equal images get equal rows. Takes 8 bytes for each pixel of each image.

    Args:
        images: (N, channels, height, width) uint8, in memory or in files.
        index: (M,) int64, M ≥ 1.
        count: the most components.

    >>> pixel_components(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1), torch.arange(3))
    tensor([[-0.4000],
            [-0.2000],
            [ 0.6000]])
    """
    from sklearn.decomposition import PCA  # imported here, as only few runs wait for it

    height, width = (min(side, _LONGEST_SIDE) for side in images.shape[2:])
    pixels = np.empty((len(index), images.shape[1] * height * width))
    digests = []
    every = torch.arange(len(index)).split(_AT_ONCE)
    for rows, (_, part) in zip(every, images_in_parts(images, index, _AT_ONCE), strict=True):
        found = part.cpu()
        digests.append(row_digests(found))
        smaller = F.adaptive_avg_pool2d(found.double() / 255, (height, width))
        pixels[rows[0] : rows[-1] + 1] = smaller.flatten(1).numpy()
    components = min(count, *pixels.shape)
    solver = "full" if min(pixels.shape) <= _WHOLE else "arpack"
    with np.errstate(invalid="ignore"):  # shares of a variance that is 0, which nothing reads
        reduced = PCA(components, copy=False, svd_solver=solver, random_state=0).fit_transform(pixels)
    return torch.from_numpy(reduced).float()[first_of_equal(torch.cat(digests))]
