"""`ASSLScoreCallback`: per-sample statistics of uncertainty and inconsistency, kept while any trainer runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException

from assl_lightning.base.arguments import whole_number
from assl_lightning.base.processes import LOST_RESULTS, check_that_results_return
from assl_lightning.base.seeding import make_generator
from assl_lightning.method import scores
from assl_lightning.method.assl import ASSL
from assl_lightning.method.candidates import Candidates, LabelledSamples
from assl_lightning.method.contracts import Observation
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.herding import Herding
from assl_lightning.method.pool_mask import as_mask, count_true
from assl_lightning.method.settings import ScoreSettings, Variance
from assl_lightning.method.statistics import NOTHING, SampleStatistics, pad_to

Observe = Callable[[Any, Any, LightningModule], Observation | None]

_KEYS = ("index", "logits_weak", "logits_strong")


class ASSLScoreCallback(Callback):
    """Score every unlabelled sample from the forward passes that training makes anyway.

    After each training batch it takes `index` (B,), `logits_weak` (B, C) and `logits_strong` (B, C) from what
    `training_step` returned, computes pseudo-EL2N of the weak and the symmetric KL divergence between both views, and
    updates one row of `SampleStatistics` for each sample (Lim et al. 2023, Eq. 1 and 3–6). It draws no random numbers,
    changes nothing in the module and never waits for the device, except to check the first batch and, every
    `trainer.log_every_n_steps`, whether a value was not finite.

    >>> callback = ASSLScoreCallback(num_samples=4, c_u=0.5, c_i=2.0)
    >>> table = SampleStatistics(4)
    >>> table.update(torch.tensor([0, 3, 2]), torch.tensor([0.2, 0.6, 0.1]), torch.tensor([1.0, 2.0, 0.3]))
    >>> callback.load_state_dict({"statistics": table.state_dict()})  # as after a fit, or from a checkpoint
    >>> callback.query(2)
    tensor([3, 0])

    Give it in a list (`Trainer(callbacks=[ASSLScoreCallback()])`); the same class then works in `lightning` and in
    `pytorch_lightning` trainers. Before 2.6, and for its LightningCLI, the latter wants the class of
    `assl_lightning.pytorch_lightning`. Under DDP every rank gathers all observations and holds the same table.

    Args:
        num_samples: N, the size of the pool that `index` counts in. None: the datamodule's `num_samples`.
        alpha: weight of the new observation, in (0, 1] (Eq. 3).
        c_u: confidence value of the uncertainty's upper bound, ≥ 0 (Eq. 3).
        c_i: confidence value of the inconsistency's upper bound, ≥ 0 (Eq. 5).
        observe: `observe(outputs, batch, module) → Observation | None`, for a training step that does not return the
            three keys, or a task where uncertainty is something else; None skips the batch. Under DDP it must skip on
            all ranks alike. Rows of index −1 count as none.
        variance: "post" as the paper prints it, or "pre"; see `SampleStatistics`.
        assume_unique: no batch holds an index twice (over all ranks); saves a sort in each step.
        reset: each fit starts with a fresh table, as the paper's statistics start at 0. False goes on with what an
            earlier fit or `load_state_dict` left, of the same pool; samples that it has gained lie behind the others.
        keep_features: also keep each sample's latest weak-view features, from the key `features_weak` (B, d), as
            float16 on the device; with them `ASSLDiv` needs no pass over the pool either. Those of labelled samples
            join them where `training_step` also returns `labelled_index` (L,) int64 and `features_labelled` (L, d).
        skip_non_finite: values that are not finite are left out, instead of ending the fit.
        name: distinguishes two such callbacks in one trainer.
    """

    def __init__(
        self,
        num_samples: int | None = None,
        alpha: float = 0.8,
        c_u: float = 0.5,
        c_i: float = 2.0,
        observe: Observe | None = None,
        *,
        variance: Variance = "post",
        assume_unique: bool = False,
        reset: bool = True,
        keep_features: bool = False,
        skip_non_finite: bool = False,
        name: str = "default",
    ) -> None:
        super().__init__()
        settings = ScoreSettings(alpha, c_u, c_i, variance, reset)
        self.alpha, self.c_u, self.c_i = settings.alpha, settings.c_u, settings.c_i
        self.variance, self.reset = settings.variance, settings.reset
        self.num_samples = None if num_samples is None else whole_number("num_samples", num_samples, least=1)
        self.assume_unique = assume_unique
        self.keep_features = keep_features
        self.skip_non_finite = skip_non_finite
        self.name = name
        self._observe = observe or observe_step_output
        self._statistics: SampleStatistics | None = None
        self._features: SampleFeatures | None = None
        self._batches = 0
        self._observed_batches = 0
        self._rows_per_rank = self._labelled_per_rank = 0  # under DDP, how many each rank sends in a step

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints; it stays the same when the class is renamed or subclassed."""
        return f"assl_lightning.ASSLScoreCallback[{self.name}]"

    @property
    def statistics(self) -> SampleStatistics:
        """Table of the statistics, on the training device; it exists from the start of `fit` on, and stays after it."""
        if self._statistics is None:
            raise RuntimeError(
                "there are no statistics yet; they exist once Trainer.fit has started with this callback in its list"
            )
        return self._statistics

    @property
    def features(self) -> SampleFeatures:
        """Latest features of every sample, on the training device, if `keep_features` is on."""
        if self._features is None:
            raise RuntimeError(
                "there are no features; they exist once Trainer.fit has started with keep_features=True here"
            )
        return self._features

    def scores(self) -> Tensor:
        """Return the score of Eq. 6, (N,) float32, NaN where training never visited. Larger means label sooner."""
        return self.statistics.score(self.c_u, self.c_i)

    def query(
        self,
        k: int,
        candidates: Tensor | Iterable[int] | None = None,
        labelled: Tensor | Iterable[int] | None = None,
    ) -> Tensor:
        """Return k candidates to label next: (k,) int64 pool indices on the CPU, best first.

        With `labelled`, where features are kept (`keep_features`), the picks are those of `Herding`: they cover what
        is uncertain and unlike the labelled samples, and unlike one another. Of more than 8,192 candidates 8,192 are
        drawn, always the same; the kernel takes 256 MB, and the candidates' features 4 · d bytes each.

        Else they are those of the largest scores, ties to the lower index. That goes through the table once, chunk by
        chunk; takes less than 64 MB beside it, and 120 bytes for each of the k.

        Args:
            k: how many, ≥ 1.
            candidates: which to choose from, such as those without a label: a mask of the pool, (N,) bool, or distinct
                pool indices in any order, which take one more byte for each sample of the pool. None: every visited
                sample, but the labelled ones. A tensor, an array, a column of pandas by its values, or any iterable of
                whole numbers.
            labelled: which have a label, in the same forms.

        Raises:
            TypeError: the candidates, the labelled, or k, are no whole numbers.
            ValueError: fewer than k candidates were visited; what training never saw has no score. Or the candidates
                are not distinct, or no mask of this pool, or labelled too. Or a labelled sample has no features.
            IndexError: a candidate lies outside the pool.
        """
        k = whole_number("k", k)
        num_samples = self.statistics.num_samples
        device = self.statistics.visits.device
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
        best = ASSL(self.c_u, self.c_i).rank(self.statistics.rows(slice(None)), min(k, num_samples), mask=mask)
        if k > best.seen:
            count = num_samples if mask is None else count_true(mask)
            raise ValueError(
                f"asked for {k} samples, but training visited only {best.seen} of the {count} candidates; "
                f"ask for fewer, or train until every candidate was drawn at least once"
            )
        if known is None or mask is None or self._features is None:
            return best.picks()
        return self._cover(k, (mask & (self.statistics.visits > 0)).nonzero()[:, 0], known.nonzero()[:, 0])

    def _cover(self, k: int, index: Tensor, labelled: Tensor) -> Tensor:
        """Return the k picks of `Herding` among the visited candidates at `index` (M,), with `labelled` (L,)."""
        unseen = labelled[~self.features.seen(labelled).to(labelled.device)]
        if len(unseen):
            raise ValueError(
                f"{len(unseen)} of the {len(labelled)} labelled samples have no features, such as sample "
                f"{int(unseen[0])}; return labelled_index and features_labelled from training_step, and train until "
                f"every labelled sample was drawn at least once"
            )
        nothing = torch.full_like(labelled, -1)  # herding reads no labels
        candidates = Candidates(
            index,
            statistics=self.statistics.rows(index),
            features=self.features.rows(index),
            labelled=LabelledSamples(labelled, nothing, None, self.features.rows(labelled)),
        )
        generator = make_generator(0, "query")
        return Herding(c_u=self.c_u, c_i=self.c_i).acquire(candidates, k, generator).index

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make a fresh table, unless `reset` is off; Lightning restores a checkpoint's state after this."""
        if stage != "fit":
            return
        check_that_results_return(trainer)
        num_samples = self.num_samples
        if num_samples is None:
            num_samples = getattr(getattr(trainer, "datamodule", None), "num_samples", None)
        if num_samples is None:
            raise ValueError(
                "ASSLScoreCallback needs the size of the pool: pass num_samples, or give the trainer a datamodule "
                "with a `num_samples` attribute"
            )
        num_samples = whole_number("num_samples", num_samples, least=1)
        if self.reset or self._statistics is None:
            self._statistics = self._new_statistics(num_samples)
            self._features = SampleFeatures(num_samples) if self.keep_features else None
        else:
            self._make_room(self._statistics, num_samples)
        self._batches = self._observed_batches = self._rows_per_rank = self._labelled_per_rank = 0

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

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the table to where training happens."""
        self.statistics.to(pl_module.device)
        if self._features is not None:
            self._features.to(pl_module.device)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Observe the batch that was just trained on."""
        self._batches += 1
        observation = self._observe(outputs, batch, pl_module)
        if observation is not None:
            if self._observed_batches == 0:
                _check_first(observation, self.statistics.num_samples, self.keep_features)
                self._rows_per_rank = _most_rows(observation.index, trainer, pl_module)
                if self.keep_features and observation.labelled_index is not None:
                    self._labelled_per_rank = _most_rows(observation.labelled_index, trainer, pl_module)
            self._observed_batches += 1
            index, uncertainty, inconsistency = self._gather(observation, trainer, pl_module)
            self.statistics.update(index, uncertainty, inconsistency, assume_unique=self.assume_unique)
            if self._features is not None:
                self._keep(self._features, index, observation, trainer, pl_module)
        if self._batches % max(trainer.log_every_n_steps, 1) == 0:  # type: ignore[attr-defined]
            self.statistics.check()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise for an invalid observation of the last steps, and for a fit of which no batch was observed."""
        if self._batches and not self._observed_batches:
            raise RuntimeError(
                f"ASSLScoreCallback observed none of the {self._batches} training batches: training_step returned "
                f"None, or `observe` did, every time; return a dict with the keys {', '.join(_KEYS)} beside 'loss'"
            )
        self.statistics.check()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Raise the error that `setup` raised in a process that the fit started, in the process that began the fit."""
        if isinstance(exception, ProcessRaisedException) and LOST_RESULTS in str(exception):
            check_that_results_return(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; nothing before the first fit."""
        if self._statistics is None:
            return {}
        kept = {} if self._features is None else {"features": self._features.state_dict()}
        return {"statistics": self._statistics.state_dict(), **kept}

    def _keep(
        self,
        table: SampleFeatures,
        gathered: Tensor,
        observation: Observation,
        trainer: Trainer,
        module: LightningModule,
    ) -> None:
        """Keep the features of a batch, of all ranks; `gathered` are the indices of its observations.

        The labelled rows come last, so that of a sample in both streams (`include_labelled`) the labelled row is kept.
        """
        if observation.features is not None:
            features = observation.features.detach().half()
            features = self._gather_rows(features, 0, self._rows_per_rank, trainer, module)
            table.update(gathered, features, assume_unique=self.assume_unique)
        labelled_index, labelled_features = observation.labelled_index, observation.labelled_features
        if labelled_index is not None and labelled_features is not None:
            most = self._labelled_per_rank
            table.update(
                self._gather_rows(labelled_index, NOTHING, most, trainer, module),
                self._gather_rows(labelled_features.detach().half(), 0, most, trainer, module),
            )

    def _gather(
        self, observation: Observation, trainer: Trainer, module: LightningModule
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the observations of all ranks, rank-major, so that every rank applies the same update."""
        values = torch.stack([observation.uncertainty.float(), observation.inconsistency.float()], dim=-1)  # (B, 2)
        most = self._rows_per_rank
        uncertainty, inconsistency = self._gather_rows(values, 0.0, most, trainer, module).unbind(-1)
        return self._gather_rows(observation.index, NOTHING, most, trainer, module), uncertainty, inconsistency

    def _gather_rows(self, rows: Tensor, filler: float, most: int, trainer: Trainer, module: LightningModule) -> Tensor:
        """Gather rows: (B, …) on each of W ranks → (W·R, …) on every rank.

        R, `most`, is how many rows the largest first batch of a rank had. Ranks with fewer add rows of `filler`:
        tensors of unequal shape cannot be gathered, and no rank knows the others' without waiting for the device.
        """
        if trainer.world_size == 1:
            return rows
        missing = most - len(rows)
        if missing < 0:
            raise ValueError(
                f"rank {trainer.global_rank} has {len(rows)} samples in a batch, but no rank had more than {most} in "
                f"the fit's first one: under DDP the first batch must be the largest"
            )
        rows = torch.cat([rows, rows.new_full((missing, *rows.shape[1:]), filler)])
        gathered: Tensor = module.all_gather(rows).flatten(0, 1)  # type: ignore[union-attr]
        return gathered

    def _new_statistics(self, num_samples: int) -> SampleStatistics:
        return SampleStatistics(num_samples, self.alpha, self.variance, skip_non_finite=self.skip_non_finite)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the table of a checkpoint."""
        state = state_dict["statistics"]
        if self._statistics is None:
            self._statistics = self._new_statistics(state["num_samples"])
        self._statistics.load_state_dict(state)
        if self.keep_features and "features" in state_dict:
            self._features = SampleFeatures(state["num_samples"])
            self._features.load_state_dict(state_dict["features"])


def observe_step_output(outputs: Any, batch: Any, module: LightningModule) -> Observation | None:  # noqa: ARG001
    """Compute Eq. 1 and 4 of the logits that `training_step` returned; None where it returned None. The default."""
    if not outputs:
        return None
    missing = [key for key in _KEYS if not isinstance(outputs, Mapping) or key not in outputs]
    if missing:
        present = ", ".join(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise KeyError(
            f"ASSLScoreCallback expects training_step to return {', '.join(_KEYS)} beside 'loss'; missing: "
            f"{', '.join(missing)}; returned: {present}. Return them detached, or pass observe=…"
        )
    weak, strong = outputs["logits_weak"].detach(), outputs["logits_strong"].detach()
    return Observation(
        outputs["index"],
        scores.pseudo_el2n(weak),
        scores.symmetric_kl(weak, strong),
        outputs.get("features_weak"),
        outputs.get("labelled_index"),
        outputs.get("features_labelled"),
    )


def _check_first(observation: Observation, num_samples: int, keep_features: bool) -> None:
    """Raise for an observation of a wrong kind. Of the first batch alone, since the check waits for the device."""
    index = observation.index
    _check_index("index", index, num_samples)
    for name in ("uncertainty", "inconsistency"):
        value = getattr(observation, name)
        if value.shape != index.shape:
            raise ValueError(
                f"'{name}' must have one number for each of the {len(index)} indices; got shape {tuple(value.shape)}: "
                f"reduce a dense task to one number per sample in `observe`"
            )
    if not keep_features:
        return
    if observation.features is None:
        raise KeyError(
            "keep_features=True needs 'features_weak' (B, d) in what training_step returns, or `features` in what "
            "`observe` returns; return the input of the last layer for the weak views, detached"
        )
    _check_labelled(observation.labelled_index, observation.labelled_features, observation.features, num_samples)


def _check_labelled(index: Tensor | None, features: Tensor | None, of_weak: Tensor, num_samples: int) -> None:
    """Raise unless there are labelled indices (L,) and features (L, d) as wide as `of_weak` (B, d), or neither."""
    if index is None and features is None:
        return
    if index is None or features is None:
        missing, there = "'labelled_index' (L,)", "'features_labelled' (L, d)"
        if index is not None:
            missing, there = there, missing
        raise KeyError(
            f"keep_features=True found {there} without {missing}; return both, or neither, from training_step (in what "
            f"`observe` returns they are `labelled_index` and `labelled_features`)"
        )
    _check_index("labelled_index", index, num_samples)
    expected = (len(index), *of_weak.shape[1:])
    if features.shape != expected:
        raise ValueError(
            f"'features_labelled' must have one row for each of the {len(index)} labelled indices, as wide as those of "
            f"the weak views, shape {expected}; got shape {tuple(features.shape)}"
        )


def _check_index(name: str, index: Tensor, num_samples: int) -> None:
    """Raise unless `index` is (B,) int64 of pool indices, or −1."""
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 1:
        kind = f"{index.dtype} of shape {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(
            f"'{name}' must be an int64 tensor of shape (B,), the samples' positions in the pool; got {kind}"
        )
    outside = index[(index < -1) | (index >= num_samples)]
    if len(outside):
        raise IndexError(
            f"'{name}' holds {int(outside[0])}, outside the pool's 0 … {num_samples - 1}; give pool indices, not "
            f"positions within a subset, or a larger num_samples"
        )


def _most_rows(index: Tensor, trainer: Trainer, module: LightningModule) -> int:
    """Return the number of rows in the largest batch of all ranks; waits for the device."""
    if trainer.world_size == 1:
        return len(index)
    return int(module.all_gather(torch.tensor(len(index), device=module.device)).max())  # type: ignore[union-attr]
