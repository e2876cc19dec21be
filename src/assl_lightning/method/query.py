"""Choose the samples to label next from the statistics of a training, and from features if there are any."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from assl_lightning.base.arguments import require_one_of, whole_number
from assl_lightning.base.seeding import make_generator
from assl_lightning.method.assl import ASSL
from assl_lightning.method.bounds import Factors, confidence_bound
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Candidates, LabelledSamples
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.further_statistic import FurtherStatistic
from assl_lightning.method.herding import Herding
from assl_lightning.method.pool_mask import Samples, as_mask, count_true
from assl_lightning.method.regions import RegionGrid
from assl_lightning.method.top_k import top_k, top_k_with_drawn_ties


def query(
    statistics: CandidateStatistics,
    k: int,
    candidates: Samples | None = None,
    labelled: Samples | None = None,
    *,
    c_u: float,
    c_i: float,
    factors: Factors = "both",
    features: SampleFeatures | None = None,
) -> Tensor:
    """Return k candidates to label next: (k,) int64 pool indices on the CPU, best first; see `ASSLScoreCallback.query`.

    Args:
        statistics: those of the whole pool, N rows.
        k: number of samples, ≥ 1.
        candidates: the samples to choose from; None: every visited sample except the labelled ones.
        labelled: the samples with a label.
        c_u: standard deviations that are added to the uncertainty, ≥ 0.
        c_i: standard deviations that are added to the inconsistency, ≥ 0.
        factors: "both" bounds multiplied (Eq. 6), or "uncertainty" or "inconsistency" alone.
        features: of the samples; with them, and `labelled`, the picks are those of `Herding`.
    """
    k = whole_number("k", k, least=1)
    require_one_of("factors", factors, Factors)
    num_samples = len(statistics.visits)
    mask, known = _masks(statistics.visits, candidates, labelled)
    best = ASSL(c_u, c_i, factors).rank(statistics, min(k, num_samples), mask=mask)
    _check_count(k, best.seen, num_samples, mask)
    if known is None or mask is None or features is None:
        return best.picks()
    index = (mask & (statistics.visits > 0)).nonzero()[:, 0]
    strategy = Herding(weight="inconsistency" if factors == "inconsistency" else "uncertainty", c_u=c_u, c_i=c_i)
    return _cover(statistics, features, k, index, known.nonzero()[:, 0], strategy)


def query_further(
    statistic: FurtherStatistic,
    visits: Tensor,
    k: int,
    candidates: Samples | None = None,
    labelled: Samples | None = None,
) -> Tensor:
    """Return the k candidates of the largest scores of a further statistic: (k,) int64 pool indices, best first.

    Ties are drawn if the statistic is a count, always in the same way; otherwise the lower index comes first.

    Args:
        statistic: of the whole pool, N samples.
        visits: (N,) int32.
        k: number of samples, ≥ 1.
        candidates: the samples to choose from; None: every visited sample except the labelled ones.
        labelled: the samples with a label.
    """
    k = whole_number("k", k, least=1)
    mask, _ = _masks(visits, candidates, labelled)
    eligible = visits > 0 if mask is None else mask & (visits > 0)
    index = eligible.nonzero()[:, 0]
    _check_count(k, len(index), len(visits), mask)
    score = statistic.score(statistic.rows(index))
    if statistic.is_count:
        return top_k_with_drawn_ties(score, index, k, make_generator(0, "query"))
    return top_k(score, index, k)


def _masks(visits: Tensor, candidates: Samples | None, labelled: Samples | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the candidates and the labelled samples as masks (N,), None if they are not given."""
    num_samples, device = len(visits), visits.device
    mask = None if candidates is None else as_mask("candidate", candidates, num_samples, device)
    known = None if labelled is None else as_mask("labelled sample", labelled, num_samples, device)
    if known is not None:
        both = torch.zeros_like(known) if mask is None else mask & known
        if count_true(both):
            raise ValueError(
                f"candidates must have no label yet; {count_true(both)} of them are labelled too, such as "
                f"{int(both.nonzero()[0])}"
            )
        mask = ~known if mask is None else mask
    return mask, known


def _check_count(k: int, seen: int, num_samples: int, mask: Tensor | None) -> None:
    if k > seen:
        count = num_samples if mask is None else count_true(mask)
        raise ValueError(
            f"asked for {k} samples, but training visited only {seen} of the {count} candidates, and a sample that was "
            f"in no training batch has no score; ask for fewer, or train until every candidate was in a batch"
        )


def query_regions(
    statistics: CandidateStatistics,
    grid: RegionGrid,
    k: int,
    candidates: Any = None,
    labelled: Any = None,
    *,
    c_u: float,
    c_i: float,
    factors: Factors = "both",
    per_image: int | None = None,
) -> Tensor:
    """Return k regions to label next: (k, 2) int64 pairs (image, region) on the CPU, best first.

    Args:
        statistics: those of every region of the pool, N · R rows.
        grid: its regions.
        k: number of regions, ≥ 1.
        candidates: images or regions to choose from, as `RegionGrid.mask` takes them; None: every visited region
            except the labelled ones.
        labelled: images or regions that have a label; candidates of them are left out.
        c_u: standard deviations that are added to the uncertainty, ≥ 0.
        c_i: standard deviations that are added to the inconsistency, ≥ 0.
        factors: "both" bounds multiplied (Eq. 6), or "uncertainty" or "inconsistency" alone.
        per_image: the most regions of one image, ≥ 1; None: as many as there are.
    """
    k = whole_number("k", k, least=1)
    require_one_of("factors", factors, Factors)
    num_images, device = len(statistics.visits) // grid.count, statistics.visits.device
    mask = None if candidates is None else grid.mask("candidate", candidates, num_images, device)
    if labelled is not None:
        unknown = ~grid.mask("labelled sample", labelled, num_images, device)
        mask = unknown if mask is None else mask & unknown
    if per_image is not None:
        per_image = whole_number("per_image", per_image, least=1)
        bound = confidence_bound(statistics, c_u, c_i, factors)
        mask = grid.at_most(per_image, bound, statistics, mask)
        if k > (found := count_true(mask)):
            raise ValueError(
                f"asked for {k} regions, but with at most {per_image} an image only {found} of the candidates were "
                f"visited; ask for fewer, or allow more an image"
            )
    return grid.pairs(query(statistics, k, mask, c_u=c_u, c_i=c_i, factors=factors))


def _cover(
    statistics: CandidateStatistics,
    features: SampleFeatures,
    k: int,
    index: Tensor,
    labelled: Tensor,
    strategy: Herding,
) -> Tensor:
    """Return the k picks of `strategy` among the visited candidates at `index` (M,), with `labelled` (L,).

    Candidates without features, which were visited before features were kept, are left out.
    """
    known = index[features.seen(index).to(index.device)]
    if k > len(known):
        raise ValueError(
            f"asked for {k} samples, but only {len(known)} of the {len(index)} visited candidates have features; ask "
            f"for fewer, leave `labelled` out, or train until every candidate was drawn while features were kept"
        )
    index = known
    unseen = labelled[~features.seen(labelled).to(labelled.device)]
    if len(unseen):
        raise ValueError(
            f"{len(unseen)} of the {len(labelled)} labelled samples have no features, such as sample "
            f"{int(unseen[0])}; return labelled_index and features_labelled from training_step, or name the labelled "
            f"rows in the maker (labelled=…), and train until every labelled sample was drawn at least once"
        )
    nothing = torch.full_like(labelled, -1)  # herding reads no labels
    candidates = Candidates(
        index,
        statistics=statistics.take(index),
        features=features.rows(index),
        labelled=LabelledSamples(labelled, nothing, None, features.rows(labelled)),
    )
    return strategy.acquire(candidates, k, make_generator(0, "query")).index
