"""Choose the indices to label after a training: fill the candidates, call the strategy, check its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import isnan
from typing import Any

import torch
from torch import Tensor, nn

from assl_lightning.base.seeding import make_generator
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.trained_model import TrainedModel
from assl_lightning.learning.views import mirrored
from assl_lightning.loop.histograms import Histogram, histogram
from assl_lightning.loop.queried import STATISTICS
from assl_lightning.loop.requirements import OF_TRAINING
from assl_lightning.loop.settings import Unvisited
from assl_lightning.method import scores
from assl_lightning.method.candidates import Acquisition, AnsweredSamples, Candidates, LabelledSamples, Selection
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.settings import FURTHER
from assl_lightning.method.statistics import SampleStatistics
from assl_lightning.networks.base import FeatureNetwork


@dataclass(frozen=True)
class Picks:
    """K samples to label, best first; those that were drawn at random come last and have no score."""

    index: Tensor  # (K,) int64
    drawn_at_random: int
    score: Tensor | None  # (K − drawn_at_random,)
    prediction: Tensor  # (K,) int64, what the model takes each for
    probabilities: Tensor  # (K, C) float32, of the classes, by the model that picked them
    parts: Mapping[str, Tensor] = field(default_factory=dict)  # the statistics, (K,) each, NaN where never visited
    histograms: Mapping[str, Histogram] = field(default_factory=dict)  # of the score and the statistics, pool and picks
    candidates: int | None = None  # that the strategy drew from; None without the probabilities of its picks
    pick_probabilities: tuple[float, ...] = ()  # (K − drawn_at_random,), or none

    def rows(self, sample_ids: tuple[str, ...]) -> list[dict[str, object]]:
        """The rows of queried.csv; what is not known is left empty. `sample_ids` are the K names."""
        columns: dict[str, list[object]] = {"index": [*self.index.tolist()], "sample_id": [*sample_ids]}
        columns["score"] = [] if self.score is None else [*self.score.tolist()]
        for name in (*STATISTICS, "visits"):
            known = self.parts[name].tolist() if name in self.parts else []
            columns[name] = ["" if isnan(value) else value for value in known]
        columns["prediction"] = [*self.prediction.tolist()]
        filled = [[*values, *[""] * (len(self.index) - len(values))] for values in columns.values()]
        rows = zip(*filled, strict=True)
        return [{"rank": rank, **dict(zip(columns, row, strict=True))} for rank, row in enumerate(rows)]


def query(
    acquisition: Acquisition,
    datamodule: PoolDataModule,
    trained: TrainedModel,
    *,
    budget: int,
    unvisited: Unvisited,
    answered: Callable[[], AnsweredSamples] | None = None,
) -> Picks:
    """Pick `budget` of the pool's unlabelled samples; all ranks of a run call it together, and share its passes.

    Args:
        unvisited: the treatment of samples that training never visited, if the strategy needs statistics: "exclude"
            them (if the visited ones are too few, the rest is drawn among them), "infer" their statistics by one
            evaluation pass, which is recorded as a visit in `trained.statistics`, or draw their share of the budget at
            "random". With `trained.features` this also holds for a strategy that needs features, which cannot be
            inferred; those of labelled samples are always known, see `_labelled_of_training`.
        answered: finds the samples of earlier queries; called if the strategy requires them.

    Raises:
        ValueError: the strategy did not return `budget` distinct candidates.
    """
    trained.network.eval()  # a head that a strategy calls must not drop out
    index = _candidate_indices(datamodule, budget)
    known = _are_known(index, acquisition, datamodule, trained, unvisited)
    eligible, unknown = index[known], index[~known]
    at_random = _draw_unknown(unknown, budget, len(index), datamodule, unvisited)
    candidates = _candidates(eligible, acquisition, datamodule, trained)
    if answered is not None and "answered" in acquisition.requires:
        candidates = replace(candidates, answered=answered())
    selection, positions = _select(acquisition, candidates, budget - len(at_random), datamodule)
    everything = torch.cat([selection.index, at_random])
    logits = _logits(everything, datamodule, trained)

    parts: dict[str, Tensor] = {}
    of_pool: dict[str, Tensor] = {}
    of_picks: dict[str, Tensor] = {}
    if selection.scores is not None:
        of_pool["score"] = selection.scores.cpu()
        of_picks["score"] = of_pool["score"][positions]
    if trained.statistics is not None:
        parts = _parts(trained.statistics, everything)
        of_pool |= _parts(trained.statistics, index)
        of_picks |= parts
    chances = selection.pick_probabilities
    return Picks(
        index=everything,
        drawn_at_random=len(at_random),
        score=of_picks.get("score"),
        prediction=logits.argmax(-1),
        probabilities=logits.softmax(-1),
        parts=parts,
        histograms=_histograms(of_pool, of_picks),
        candidates=None if chances is None else len(eligible),
        pick_probabilities=() if chances is None else (*chances.tolist(),),
    )


def _are_known(
    index: Tensor, acquisition: Acquisition, datamodule: PoolDataModule, trained: TrainedModel, unvisited: Unvisited
) -> Tensor:
    """Return which samples have what the strategy requires of the training, (M,) bool; infer it if that is asked."""
    learned = OF_TRAINING if trained.features is None else OF_TRAINING | {"features"}
    if not learned & acquisition.requires or trained.statistics is None:
        return torch.ones_like(index, dtype=torch.bool)
    known = trained.statistics.visits[index] > 0
    if unvisited == "infer" and trained.features is None and not known.all():
        _infer_statistics(index[~known], datamodule, trained)
        return torch.ones_like(known)
    return known


def _draw_unknown(
    unknown: Tensor, budget: int, num_candidates: int, datamodule: PoolDataModule, unvisited: Unvisited
) -> Tensor:
    """Draw picks among candidates that the strategy cannot rank: their share of the budget, or what others lack."""
    share = round(budget * len(unknown) / num_candidates) if unvisited == "random" else 0
    share = max(share, budget - (num_candidates - len(unknown)))
    generator = make_generator(datamodule.seed, "unvisited", datamodule.round_number)
    return unknown[torch.randperm(len(unknown), generator=generator)[:share]]


def _select(
    acquisition: Acquisition, candidates: Candidates, budget: int, datamodule: PoolDataModule
) -> tuple[Selection, Tensor]:
    """Return the strategy's selection, and the positions (budget,) of its picks among the candidates."""
    selection, name = Selection(candidates.index[:0]), type(acquisition).__name__
    if budget:
        generator = make_generator(datamodule.seed, "acquisition", datamodule.round_number)
        selection = acquisition.acquire(candidates, budget, generator)
        _check_selection(selection, candidates, budget, name)
    return selection, _positions_of_picks(selection.index, candidates, budget, name)


def _logits(index: Tensor, datamodule: PoolDataModule, trained: TrainedModel) -> Tensor:
    """Return logits (K, C) float32 of the picks `index` (K,), to compare with answers; they change no pick."""
    logits, _ = trained.evaluate(datamodule.plain_view, index, datamodule.test_batch_size, is_shared=True)
    return logits.cpu()


def _candidate_indices(datamodule: PoolDataModule, budget: int) -> Tensor:
    """Return the unlabelled samples, without those of the last request that got no label if enough others are left."""
    index = datamodule.pool.unlabelled
    others = index[datamodule.pool.asked_in_round[index] != datamodule.round_number]
    return others if len(others) >= budget else index


def _histograms(of_pool: Mapping[str, Tensor], of_picks: Mapping[str, Tensor]) -> dict[str, Histogram]:
    """Return a histogram of each quantity by name, of those that have one."""
    found = {name: histogram(values, of_picks[name]) for name, values in of_pool.items()}
    return {name: each for name, each in found.items() if each is not None}


def _parts(statistics: SampleStatistics, index: Tensor) -> dict[str, Tensor]:
    """Return the statistics by name; NaN if training never visited the sample."""
    rows = statistics.rows(index)
    parts = {name: torch.where(rows.visits > 0, getattr(rows, name), torch.nan) for name in STATISTICS}
    return {**parts, "visits": rows.visits}


def _candidates(
    index: Tensor, acquisition: Acquisition, datamodule: PoolDataModule, trained: TrainedModel
) -> Candidates:
    """Fill the fields that the strategy requires, by at most one pass over the pool, or two with mirror images.

    With features of training there is no pass: a strategy that also requires logits was refused before the training.
    """
    found: dict[str, Any] = {}
    if "statistics" in acquisition.requires and trained.statistics is not None:
        found["statistics"] = trained.statistics.rows(index)
    for name in FURTHER:
        if name in acquisition.requires and trained.statistics is not None:
            found[name] = trained.statistics.further[name].rows(index)
    if "head" in acquisition.requires:
        found["head"] = Head(trained.network)
    needs = acquisition.requires & {"logits", "features", "labelled"}
    labelled = datamodule.pool.labelled if "labelled" in needs else index[:0]
    labels = datamodule.pool.labels[labelled].long()
    if needs and trained.features is not None:
        found["features"] = trained.features.rows(index)
        if "labelled" in needs:
            features = _labelled_of_training(labelled, trained.features, datamodule, trained)
            found["labelled"] = LabelledSamples(labelled, labels, None, features)
    elif needs:
        logits, features = trained.evaluate(
            datamodule.plain_view, torch.cat([index, labelled]), datamodule.test_batch_size, is_shared=True
        )
        found |= {"logits": logits[: len(index)], "features": features[: len(index)]}
        if "labelled" in needs:
            found["labelled"] = LabelledSamples(labelled, labels, logits[len(index) :], features[len(index) :])
    if "flipped_logits" in acquisition.requires:
        found["flipped_logits"], _ = trained.evaluate(
            mirrored(datamodule.plain_view), index, datamodule.test_batch_size, is_shared=True
        )
    return Candidates(index, **found)


def _labelled_of_training(
    labelled: Tensor, kept: SampleFeatures, datamodule: PoolDataModule, trained: TrainedModel
) -> Tensor:
    """Return the kept features (L, d) of the samples at `labelled` (L,).

    Features of samples that a short training never visited come from a pass over them: of plain images in evaluation
    mode, unlike the others, but without them their neighbours would count as not covered.
    """
    features, missing = kept.rows(labelled), ~kept.seen(labelled)
    if missing.any():
        _, of_pass = trained.evaluate(
            datamodule.plain_view, labelled[missing.cpu()], datamodule.test_batch_size, is_shared=True
        )
        features[missing] = of_pass.to(features)
    return features


class Head(nn.Module):
    """A network's head for features (…, d) of any precision, with float32 logits (…, C) as in the pass over the pool.

    With its parameters in float64 it has float64 logits: `base.ties`.
    """

    like: Tensor

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.head = network.head
        like = next(network.parameters())
        self.register_buffer("like", like.detach().new_empty(0))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, (…, d) → (…, C)."""
        logits: Tensor = self.head(features.to(self.like))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _infer_statistics(index: Tensor, datamodule: PoolDataModule, trained: TrainedModel) -> None:
    """Record one weak and one strong view of each sample, in evaluation mode, as a visit."""
    assert trained.statistics is not None
    device = next(trained.network.parameters()).device
    for part, images in datamodule.images_in_parts(index, datamodule.test_batch_size, device):
        rows = torch.arange(len(part))
        weak, strong = (
            trained.evaluate(view.__getitem__, rows, len(part))[0].cpu()
            for view in datamodule.augmented_views(part, "infer", images)
        )
        table = trained.statistics
        further = table.further.observe(weak, strong) if table.further else None
        table.update(
            part.cpu(), scores.pseudo_el2n(weak), scores.symmetric_kl(weak, strong), assume_unique=True, further=further
        )


def _check_selection(selection: object, candidates: Candidates, budget: int, name: str) -> None:
    """Raise unless `selection` is a `Selection` with a score for each candidate, and a probability for each pick."""
    if not isinstance(selection, Selection):
        raise ValueError(  # noqa: TRY004
            f"{name}.acquire must return a Selection, and returned a {type(selection).__name__}; return "
            f"Selection(index, scores), or Selection(index) where there are no scores"
        )
    if selection.scores is not None and selection.scores.shape != candidates.index.shape:
        raise ValueError(
            f"the scores of {name} must be one number for each of the {len(candidates)} candidates; got shape "
            f"{tuple(selection.scores.shape)}"
        )
    chances = selection.pick_probabilities
    if chances is None:
        return
    if chances.dtype != torch.float64 or chances.shape != (budget,):
        raise ValueError(
            f"the pick_probabilities of {name} must be a float64 for each of its {budget} picks, or None; got "
            f"{chances.dtype} of shape {tuple(chances.shape)}"
        )
    wrong = chances[~((chances > 0) & (chances <= 1))]
    if len(wrong):
        raise ValueError(
            f"the pick_probabilities of {name} must be in (0, 1], or None where they are not known; got "
            f"{float(wrong[0])}"
        )


def _positions_of_picks(picked: Tensor, candidates: Candidates, budget: int, name: str) -> Tensor:
    """Return the positions (budget,) int64 of the picks in the ascending candidates; raise for a wrong result."""
    if not isinstance(picked, Tensor) or picked.dtype != torch.int64 or picked.shape != (budget,):
        is_tensor = isinstance(picked, Tensor)
        got = f"{picked.dtype} of shape {tuple(picked.shape)}" if is_tensor else f"a {type(picked).__name__}"
        raise ValueError(f"{name} must return {budget} int64 pool indices; got {got}")
    distinct, counts = picked.unique(return_counts=True)
    if len(distinct) != budget:
        raise ValueError(
            f"{name} returned index {int(distinct[counts > 1][0])} twice; a strategy must return `budget` distinct "
            f"candidate indices"
        )
    positions = torch.searchsorted(candidates.index, picked.contiguous()).clamp_max(len(candidates) - 1)
    strange = picked[candidates.index[positions] != picked]
    if len(strange):
        raise ValueError(
            f"{name} returned index {int(strange.min())}, which is not among the {len(candidates)} candidates; return "
            f"entries of candidates.index, not positions in it"
        )
    return positions
