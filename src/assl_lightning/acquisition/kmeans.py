"""k-means by scikit-learn, copies as one point of their weight: clusters of ALFA-Mix, TypiClust and ProbCover."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from assl_lightning.base.copies import first_copies

_BATCH = 5000  # of mini-batch k-means, as in the code of TypiClust


def fit_kmeans(
    points: Tensor, clusters: int, starts: int, seed: int, *, mini_batch: bool = False
) -> tuple[Tensor, Tensor]:
    """Cluster points: the same on every processor, but for points as far from two centres up to rounding.

    Args:
        points: (n, d) of any float type and device. Copies of a point count as one point with their weight.
        clusters: at most n; as many as there are distinct points at most.
        starts: runs from different k-means++ seeds; the run with the least inertia counts. Of `mini_batch` only the
            seeds are compared.
        seed: ≥ 0.
        mini_batch: update the centres after every 5,000 points: less time for many points and clusters.

    Returns:
        The cluster of each point, (n,) int64, and the centres, (at most `clusters`, d) float64, both on the CPU.
        Copies are in one cluster. A cluster of `mini_batch` may have no member.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    # float64: threads add up a centre in no fixed order, which in float32 can change a pick; scikit-learn's seeding is
    # also three times as fast as in float32.
    points = points.cpu().double()
    # Copies would be shared out among clusters by rounding, which differs with the number of threads.
    distinct, row, copies = first_copies(points).unique(return_inverse=True, return_counts=True)
    rows = points if len(distinct) == len(points) else points[distinct]
    settings = {"n_clusters": min(clusters, len(rows)), "n_init": starts, "random_state": seed % 2**32}
    kmeans = MiniBatchKMeans(batch_size=_BATCH, **settings) if mini_batch else KMeans(**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # points that differ by rounding alone
        kmeans.fit(rows.numpy(), sample_weight=copies.double().numpy())
    return torch.from_numpy(kmeans.labels_).long()[row], torch.from_numpy(kmeans.cluster_centers_)
