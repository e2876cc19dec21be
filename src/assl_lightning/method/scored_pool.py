"""The scores of a pool: what is kept of every sample, and the choice of those to label next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, overload

from torch import Tensor
from torch.utils.data import Subset

from assl_lightning.base.arguments import require_one_of
from assl_lightning.method.bounds import Factors, confidence_bound
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.further_statistics import check_names
from assl_lightning.method.indexed_dataset import IndexedDataset
from assl_lightning.method.query import query, query_further, query_regions
from assl_lightning.method.regions import RegionGrid, are_pairs
from assl_lightning.method.sample_names import indices_of, names_of
from assl_lightning.method.settings import FurtherName, ScoreSettings
from assl_lightning.method.statistics import SampleStatistics, pad_to
from assl_lightning.method.write_picks import picks_as_csv

Samples = Tensor | Iterable[int] | Iterable[str] | Iterable[tuple[int | str, int]] | Subset[Any] | IndexedDataset


class ScoredPool:
    """The statistics of a pool's samples, their latest features and names if there are any, and queries of them.

    `ASSLScoreCallback` fills it while a network trains.

    Args:
        settings: constants of the statistics and of the score.
        keep_features: keep each sample's latest features beside the statistics.
        skip_non_finite: leave out values that are not finite, instead of raising.
        factors: the bounds that `query` ranks by unless it is given others; None: both, or the uncertainty where there
            is one view of each sample.
        further: names of other published statistics to keep.
        grid: the regions of each image, where regions are scored; None: whole samples are, until a state with regions
            is loaded.
    """

    def __init__(
        self,
        settings: ScoreSettings,
        *,
        keep_features: bool = False,
        skip_non_finite: bool = False,
        factors: Factors | None = None,
        further: Sequence[str] = (),
        grid: RegionGrid | None = None,
    ) -> None:
        self.alpha, self.c_u, self.c_i = settings.alpha, settings.c_u, settings.c_i
        self.variance, self.reset = settings.variance, settings.reset
        self.keep_features = keep_features
        self.grid = self._given_grid = grid
        if grid is not None and keep_features:
            raise ValueError("regions have no features: leave keep_features out, and choose by scores alone")
        self.skip_non_finite = skip_non_finite
        self.further = check_names(further)
        if grid is not None and self.further:
            raise ValueError("regions have no further statistics: leave `further` out, and choose by scores alone")
        if factors is not None:
            require_one_of("factors", factors, Factors)
        self.factors = factors
        self._statistics: SampleStatistics | None = None
        self._features: SampleFeatures | None = None
        self._names: Mapping[int, str] = {}
        self._has_one_view = False

    def _bring_back(self) -> None:
        """Take over tables that were filled elsewhere; here there are none."""

    @property
    def statistics(self) -> SampleStatistics:
        """Table of the statistics, on the training device; it exists from the start of `fit` on, and stays after it.

        With `observe.regions` it has a row for each region, image after image; `grid.pairs` says which.
        """
        self._bring_back()
        return self._table

    @property
    def _table(self) -> SampleStatistics:
        if self._statistics is None:
            raise RuntimeError(
                "there are no statistics yet; they exist once Trainer.fit has started with this callback in its list"
            )
        return self._statistics

    @property
    def features(self) -> SampleFeatures:
        """Latest features of every sample, on the training device, if `keep_features` is on."""
        self._bring_back()
        if self._features is None:
            raise RuntimeError(
                "there are no features; they exist once Trainer.fit has started with keep_features=True in this "
                "callback, or with a maker that names them (head=… or features=…)"
            )
        return self._features

    def scores(self) -> Tensor:
        """Return the score of Eq. 6, (N,) float32, NaN where training never visited. Larger means label sooner.

        With `observe.regions` those of each region, (N, R).
        """
        score = self.statistics.score(self.c_u, self.c_i)
        return score if self.grid is None else score.unflatten(0, (-1, self.grid.count))

    @overload
    def query(
        self, k: int, candidates: Samples | None = None, labelled: Samples | None = None, *,
        factors: Factors | None = None, by: FurtherName | None = None, names: Literal[False] = False,
        per_image: int | None = None,
    ) -> Tensor: ...  # fmt: skip
    @overload
    def query(
        self, k: int, candidates: Samples | None = None, labelled: Samples | None = None, *,
        factors: Factors | None = None, by: FurtherName | None = None, names: Literal[True],
        per_image: int | None = None,
    ) -> list[Any]: ...  # fmt: skip
    def query(
        self,
        k: int,
        candidates: Samples | None = None,
        labelled: Samples | None = None,
        *,
        factors: Factors | None = None,
        by: FurtherName | None = None,
        names: bool = False,
        per_image: int | None = None,
    ) -> Tensor | list[Any]:
        """Return k candidates to label next: (k,) int64 pool indices on the CPU, best first; or their names.

        There are two ways to choose. If `labelled` is given and features are kept (`keep_features`), the picks are
        those of `Herding`, which is recommended: samples that are uncertain, unlike the labelled samples and unlike one
        another. Of more than 8,192 candidates 8,192 are drawn, always the same; the kernel takes 256 MB, and the
        candidates' features 4 · d bytes each. Else the picks have the largest scores (Eq. 6), ties to the lower index.
        That goes through the table once, chunk by chunk, and takes less than 64 MB beside it, and 120 bytes for each of
        the k.

        With `observe.regions` the picks are regions, pairs (image, region) (k, 2). Candidates and labelled are then
        images, which stand for all of their regions, or regions themselves: a mask (N, R) bool, or distinct pairs.

        Args:
            k: how many, ≥ 1.
            candidates: which to choose from, such as those without a label: a mask of the pool, (N,) bool, or distinct
                pool indices in any order, which take one more byte for each sample of the pool. None: every visited
                sample, but the labelled ones. A tensor, an array, a column of pandas by its values, a `Subset` of the
                pool, any iterable of whole numbers, or a list or set of names where the data set has names.
            labelled: which have a label, in the same forms.
            factors: "both" bounds multiplied (Eq. 6), or "uncertainty" or "inconsistency" alone; where the training has
                one view of each sample, there is "uncertainty" alone. None: as the callback was made. Covering picks
                are weighed by the uncertainty, or by the inconsistency if it is named.
            by: a statistic of `further`, to rank by instead, largest first: the number of changes ("forgetting", with
                ties drawn at random, always in the same way), the mean variance over views ("view_variance"), or the
                entropy of the mean probabilities ("mean_probabilities"). Such picks cover nothing.
            names: return the names of `IndexedDataset(pool, names=…)`, (k,), instead of indices; with regions pairs
                (name, region).
            per_image: the most regions of one image, where regions are scored; None: as many as there are.

        Raises:
            TypeError: the candidates, the labelled, or k, are no whole numbers.
            ValueError: fewer than k candidates were visited; what training never saw has no score. Or the candidates
                are not distinct, or no mask of this pool, or labelled too. Or a labelled sample has no features, or
                fewer than k visited candidates have. Or there is one view, and `factors` is "both". Or a name is
                unknown, or a pick has none. Or `by` was not kept.
            IndexError: a candidate lies outside the pool.
        """
        picks = self._picks(k, candidates, labelled, factors, by, per_image)
        if not names:
            return picks
        if self.grid is None:
            return names_of(picks.tolist(), self._names)
        images, regions = picks.unbind(1)
        return list(zip(names_of(images.tolist(), self._names), regions.tolist(), strict=True))

    def _picks(
        self,
        k: int,
        candidates: Samples | None,
        labelled: Samples | None,
        factors: Factors | None,
        by: FurtherName | None,
        per_image: int | None,
    ) -> Tensor:
        """Return the indices of the picks of `query`, (k,), or of regions (k, 2)."""
        table = self.statistics
        rows = table.rows(slice(None))
        among = self._indices_of("candidate", candidates), self._indices_of("labelled sample", labelled)
        bounds = self._factors(factors)
        if self.grid is not None:
            if by is not None:
                raise ValueError(f"regions have no further statistics, so none to rank by; got by={by!r}")
            return query_regions(
                rows, self.grid, k, *among, c_u=self.c_u, c_i=self.c_i, factors=bounds, per_image=per_image
            )
        if per_image is not None:
            raise ValueError(
                f"per_image is the most regions of one image, but this callback scores whole samples; leave it out, or "
                f"score regions with observe.regions(…); got per_image={per_image!r}"
            )
        if by is None:
            return query(rows, k, *among, c_u=self.c_u, c_i=self.c_i, factors=bounds, features=self._features)
        if factors is not None:
            raise ValueError(f"give `by` or `factors`, not both; got by={by!r} and factors={factors!r}")
        return query_further(table.further.require(by), table.visits, k, *among)

    def _indices_of(self, what: str, samples: Any) -> Any:
        """Return samples without names; also regions, whose images may be named."""
        if self.grid is not None and are_pairs(samples):
            images, regions = zip(*samples, strict=True)
            return list(zip(indices_of(what, images, self._names), regions, strict=True))
        return indices_of(what, samples, self._names)

    def _factors(self, factors: Factors | None) -> Factors:
        factors = factors or self.factors or ("uncertainty" if self._has_one_view else "both")
        if self._has_one_view and factors != "uncertainty":
            raise ValueError(
                f"factors must be 'uncertainty' here, or left out: the training had one view of each sample, so that "
                f"there is no inconsistency; got {factors!r}. observe.second_view(…) makes a second one"
            )
        return factors

    def picks_table(
        self,
        k: int,
        candidates: Samples | None = None,
        labelled: Samples | None = None,
        factors: Factors | None = None,
        by: FurtherName | None = None,
        per_image: int | None = None,
    ) -> str:
        """Return the picks of `query` as CSV, with the columns rank, index, name, region if there are, and score."""
        picks = self.query(k, candidates, labelled, factors=factors, by=by, per_image=per_image)
        index, region, place = picks, None, picks
        if self.grid is not None:
            index, region = picks.unbind(1)
            place = index * self.grid.count + region
        place = place.to(self.statistics.visits.device)
        if by is None:
            score = confidence_bound(self.statistics.rows(place), self.c_u, self.c_i, self._factors(factors))
        else:
            further = self.statistics.further.require(by)
            score = further.score(further.rows(place))
        of_image = None if region is None else region.tolist()
        return picks_as_csv(index.tolist(), score.tolist(), self._names, of_image)

    def _table_rows(self, num_samples: int) -> int:
        """Return the number of rows of a pool's table: that of its samples, or of all of their regions."""
        return num_samples if self.grid is None else num_samples * self.grid.count

    def _make_tables(self, num_samples: int) -> None:
        if self.reset or self._statistics is None:
            self._statistics, self._features = self._new_statistics(num_samples), None
        else:
            self._make_room(self._statistics, num_samples)
        self._make_features()

    def _make_features(self) -> None:
        """Keep features from now on, where that is wanted and what was loaded has none."""
        if self.keep_features and self._features is None:
            self._features = SampleFeatures(self._table.num_samples)

    def _make_room(self, before: SampleStatistics, num_samples: int) -> None:
        """Go on with the statistics of the last fit, whose pool may have grown since."""
        if num_samples < before.num_samples:
            raise ValueError(
                f"with reset=False the statistics of the last fit go on, and they are of {before.num_samples} samples, "
                f"but the pool of this fit has {num_samples}: an index would mean another sample. Keep the pool, to "
                f"which samples may be added behind the others, or use reset=True"
            )
        if num_samples > before.num_samples:
            state = before.state_dict()
            self._statistics = self._new_statistics(num_samples)
            self._statistics.to(before.visits.device).load_state_dict(pad_to(state, num_samples))
            if self._features is not None:
                self._features.make_room(num_samples)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; nothing before the first fit."""
        self._bring_back()
        if self._statistics is None:
            return {}
        kept: dict[str, Any] = {} if self._features is None else {"features": self._features.state_dict()}
        if self._has_one_view:
            kept["views"] = 1
        if self.grid is not None:
            kept["regions"] = [self.grid.rows, self.grid.columns]
        return {"statistics": self._statistics.state_dict(), **kept}

    def _new_statistics(self, num_samples: int) -> SampleStatistics:
        return SampleStatistics(
            num_samples, self.alpha, self.variance, skip_non_finite=self.skip_non_finite, further=self.further
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the table of a checkpoint."""
        state = state_dict["statistics"]
        grid = RegionGrid(*state_dict["regions"]) if "regions" in state_dict else None
        if self._given_grid not in (None, grid):
            raise ValueError(
                f"these statistics were kept of {grid or 'whole samples'}, but here the maker has "
                f"{self._given_grid}; load them into a callback with the same regions"
            )
        self.grid = grid
        if self._statistics is None:
            self._statistics = self._new_statistics(state["num_samples"])
        self._statistics.load_state_dict(state)
        self._has_one_view = state_dict.get("views") == 1
        self._features = None  # not those of another table
        if self.keep_features and "features" in state_dict:
            self._features = SampleFeatures(state["num_samples"])
            self._features.load_state_dict(state_dict["features"])
