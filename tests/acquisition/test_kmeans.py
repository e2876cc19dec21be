"""k-means against scikit-learn's own, with each copy a row of its own weight; and what fills a budget."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assl_lightning.acquisition.draw_rest import draw_rest
from assl_lightning.acquisition.kmeans import fit_kmeans

POINTS = F.normalize(torch.randn(400, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=1)


@pytest.mark.parametrize("mini_batch", [False, True])
@pytest.mark.parametrize("starts", [1, 3])
def test_clusters_and_centres_are_those_of_scikit_learn(mini_batch: bool, starts: int) -> None:
    if mini_batch:
        expected = MiniBatchKMeans(60, n_init=starts, batch_size=5000, random_state=3).fit(POINTS.numpy())
    else:
        expected = KMeans(60, n_init=starts, random_state=3).fit(POINTS.numpy())
    cluster, centres = fit_kmeans(POINTS, 60, starts, seed=2**40 + 3, mini_batch=mini_batch)
    assert cluster.tolist() == expected.labels_.tolist()
    torch.testing.assert_close(centres, torch.from_numpy(expected.cluster_centers_))


@pytest.mark.parametrize("mini_batch", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_are_in_one_cluster_and_pull_at_its_centre_with_their_number(
    mini_batch: bool, dtype: torch.dtype
) -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [0.0, 0.0], [0.0, 0.0]], dtype=dtype)
    cluster, centres = fit_kmeans(points, 2, 3, seed=0, mini_batch=mini_batch)
    assert cluster[[0, 1, 3, 4]].unique().numel() == 1
    assert int(cluster[2]) != int(cluster[0])
    # Mini-batches are drawn, so that their centres are only near the means.
    atol = 0.2 if mini_batch else 1e-12
    torch.testing.assert_close(centres[cluster[0]], torch.tensor([0.25, 0.0], dtype=torch.float64), rtol=0, atol=atol)


@pytest.mark.parametrize("mini_batch", [False, True])
def test_there_are_no_more_clusters_than_distinct_points(mini_batch: bool) -> None:
    cluster, centres = fit_kmeans(torch.eye(3).repeat(4, 1), 5, 1, seed=0, mini_batch=mini_batch)
    assert len(centres) == 3
    assert cluster.view(4, 3).tolist() == [cluster[:3].tolist()] * 4


@pytest.mark.parametrize("mini_batch", [False, True])
def test_any_number_of_threads_gives_the_same_clusters(mini_batch: bool) -> None:
    points, found = POINTS.repeat(3, 1) + torch.arange(3).repeat_interleave(400)[:, None], []
    for count in (1, 2):
        with threadpool_limits(count):
            found.append(fit_kmeans(points, 55, 1, seed=1, mini_batch=mini_batch)[0].tolist())
    assert found[0] == found[1]


def test_what_is_left_of_a_budget_is_drawn_from_all_that_was_not_picked_each_once() -> None:
    index, picks = torch.arange(10, 20), torch.tensor([12, 19])
    drawn = [draw_rest(picks, index, 5, torch.Generator().manual_seed(seed)).tolist() for seed in range(40)]
    assert all(found[:2] == [12, 19] and len(set(found)) == 5 for found in drawn)
    assert {index for found in drawn for index in found} == set(range(10, 20))
    assert torch.equal(draw_rest(picks, index, 2, torch.Generator()), picks)
