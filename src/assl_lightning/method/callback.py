"""`ASSLScoreCallback`: per-sample statistics of uncertainty and inconsistency, kept while any trainer runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from assl_lightning.base.arguments import whole_number
from assl_lightning.base.atomic import write_text
from assl_lightning.method.batch_index import IndexTaker, find_streams, indexed_datasets, pool_size, sample_names
from assl_lightning.method.bounds import Factors
from assl_lightning.method.contracts import Observation, TrainingStep
from assl_lightning.method.first_observation import check_first
from assl_lightning.method.gathering import Rows
from assl_lightning.method.observed_rows import new_gather, rows_of
from assl_lightning.method.observers import KEYS, Observer, StepOutput, as_observer
from assl_lightning.method.returning import StateCarrier
from assl_lightning.method.sample_names import names_by_index
from assl_lightning.method.saved_state import STATE_KEY, read_state
from assl_lightning.method.scored_pool import ScoredPool
from assl_lightning.method.settings import ScoreSettings, Variance
from assl_lightning.method.stream_checks import check_streams
from assl_lightning.method.write_picks import check_target, picks_as_csv

Observe = Callable[..., Observation | None] | type[Observer]


class ASSLScoreCallback(ScoredPool, Callback):
    """Score every unlabelled sample from the forward passes that training makes anyway.

    After each training batch an observer gives the index (B,) and the logits of a weak and a strong view (B, C). From
    them the callback computes the uncertainty of the weak view (pseudo-EL2N, Eq. 1) and the inconsistency of both views
    (symmetric KL divergence, Eq. 4), and updates the moving averages of each sample in `SampleStatistics` (Eq. 3 and 5
    of Lim et al. 2023). `query` then chooses the samples to label. It draws no random numbers, changes nothing in
    the module and never waits for the device, except to check the first batch and, every `trainer.log_every_n_steps`,
    whether a value was not finite.

    >>> from assl_lightning import SampleStatistics
    >>> callback = ASSLScoreCallback(num_samples=4, c_u=0.5, c_i=2.0)
    >>> table = SampleStatistics(4)
    >>> table.update(torch.tensor([0, 3, 2]), torch.tensor([0.2, 0.6, 0.1]), torch.tensor([1.0, 2.0, 0.3]))
    >>> callback.load_state_dict({"statistics": table.state_dict()})  # as after a fit, or from a checkpoint
    >>> callback.query(2)
    tensor([3, 0])

    Give it in a list (`Trainer(callbacks=[ASSLScoreCallback()])`); the same class then works in `lightning` and in
    `pytorch_lightning` trainers. Before 2.6, and for its LightningCLI, the latter wants the class of
    `assl_lightning.pytorch_lightning`. Under DDP every rank gathers all observations and holds the same table. After
    ddp_spawn, ddp_fork or ddp_notebook the table is in the process that called `fit`, on the CPU.

    Args:
        num_samples: N, the size of the pool that the index counts in; also with `observe.regions` its images. None: the
            datamodule's `num_samples`, or the length of the loader's data set where that is an `IndexedDataset`.
        alpha: weight of the new observation, in (0, 1] (Eq. 3).
        c_u: confidence value of the uncertainty's upper bound, ≥ 0 (Eq. 3).
        c_i: confidence value of the inconsistency's upper bound, ≥ 0 (Eq. 5).
        observe: where the index and the predictions are found. None: in what `training_step` returns, under `index`,
            `logits_weak` and `logits_strong`. Else a maker of `assl_lightning.observe`; or a function `observe(outputs,
            batch, module) → Observation | None`; or the import path of either. The function runs in evaluation mode,
            without gradients and with generators of its own. If it has a parameter `index`, it gets the index (B,) too.
            If it returns None, the batch is skipped on this rank; rows of index −1 are skipped as well.
        variance: "post" as the paper prints it, or "pre"; see `SampleStatistics`.
        assume_unique: no batch holds an index twice (over all ranks); saves a sort in each step.
        reset: each fit starts with a fresh table, as the paper's statistics start at 0. False: a fit goes on with the
            table of an earlier fit or of `load_state_dict`. The pool must be the same; samples may have been added at
            its end.
        keep_features: also keep each sample's latest weak-view features (B, d), as float16 on the device. With them
            `query` covers the pool, and `ASSLDiv` needs no pass over it. They come from `features=` or `head=` of the
            maker, or from the key `features_weak`. Features of labelled samples are kept where the maker names the
            labelled rows, or `training_step` returns `labelled_index` (L,) int64 and `features_labelled` (L, d). None:
            keep features if the maker gives them.
        skip_non_finite: values that are not finite are left out, instead of ending the fit.
        name: distinguishes two such callbacks in one trainer.
        factors: the bounds that `query` ranks by unless it is given others: "both" multiplied (Eq. 6), or "uncertainty"
            or "inconsistency" alone. None: both, or the uncertainty where the training has one view of each sample.
        query_to: a CSV file, written at the end of a fit, with the `query_k` samples to label next among all that were
            visited; for trainings that are configured in YAML, where no code calls `query`.
        query_k: how many samples `query_to` has; fewer where fewer were visited.
        further: names of other published statistics to keep beside the two, for `query(…, by=name)`: "forgetting" (how
            often the predicted class changed, Eq. 2; 8 bytes a sample), "view_variance" (variance of the probabilities
            over both views, a mean over the visits; 4), "mean_probabilities" (their moving average; 4·C). They need
            the logits (B, C), which the makers give; a function of your own returns `logits_weak` and, for the
            variance, `logits_strong` in its `Observation`.
    """

    def __init__(
        self,
        num_samples: int | None = None,
        alpha: float = 0.8,
        c_u: float = 0.5,
        c_i: float = 2.0,
        observe: Observer | Observe | str | None = None,
        *,
        variance: Variance = "post",
        assume_unique: bool = False,
        reset: bool = True,
        keep_features: bool | None = None,
        skip_non_finite: bool = False,
        name: str = "default",
        factors: Factors | None = None,
        query_to: str | Path | None = None,
        query_k: int = 100,
        further: Sequence[str] = (),
    ) -> None:
        observer = as_observer(observe)
        super().__init__(
            ScoreSettings(alpha, c_u, c_i, variance, reset),
            keep_features=observer.gives_features if keep_features is None else keep_features,
            skip_non_finite=skip_non_finite,
            factors=factors,
            further=further,
            grid=observer.grid,
        )
        self.num_samples = None if num_samples is None else whole_number("num_samples", num_samples, least=1)
        self.assume_unique = assume_unique
        self.name = name
        self.query_to = None if query_to is None else Path(query_to)
        self.query_k = whole_number("query_k", query_k, least=1)
        self.is_replayed = False
        self._observer = observer
        self._batches_before = 0  # those of the fit that a checkpoint is of
        self._batches = 0
        self._observed_batches = 0
        self._gather = new_gather()
        self._taker: IndexTaker | None = None
        self._has_index = False
        self._carrier = StateCarrier()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the index out of all batches from now on, and make a fresh table for a fit, unless `reset` is off.

        Lightning restores a checkpoint's state after this.
        """
        self._taker = IndexTaker.stand_in(trainer)
        if stage != "fit":
            return
        if self.query_to is not None and trainer.is_global_zero:
            check_target(self.query_to)
        self._take_over(self._carrier.look())  # of an earlier fit, in a process that was started for this one
        self._batches_before = self._batches = self._observed_batches = 0
        self._gather = new_gather()
        num_samples = self._known_size(trainer)
        if num_samples is not None:
            self._make_tables(self._table_rows(num_samples))
        elif self.reset:  # the loader's data set tells the size, once it is there
            self._statistics = self._features = None

    def _known_size(self, trainer: Trainer) -> int | None:
        """Return the size of the pool that was given, or that the datamodule has."""
        given = self.num_samples
        if given is None:
            given = getattr(getattr(trainer, "datamodule", None), "num_samples", None)
        return None if given is None else whole_number("num_samples", given, least=1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the loaders whose data sets carry an index, make the table where they tell its size, and move it."""
        if self.grid != self._observer.grid:
            raise ValueError(
                f"the statistics are those of {self.grid or 'whole samples'}, and the maker scores "
                f"{self._observer.grid or 'whole samples'}; make the callback with the same observe.regions(…)"
            )
        streams = find_streams(trainer)
        known = self._known_size(trainer)
        check_streams(trainer, known)
        if known is None:
            self._make_tables_of(pool_size(streams))
        self._make_features()
        self._table.to(pl_module.device)
        if self._features is not None:
            self._features.to(pl_module.device)
        self._names = sample_names(streams)
        self._has_index = bool(indexed_datasets(streams))
        self._observer.start(pl_module)

    def _make_tables_of(self, num_samples: int | None) -> None:
        """Make the tables of a pool whose size the loader's data set tells; a checkpoint may have filled them."""
        if num_samples is not None and self._statistics is not None:
            self._make_room(self._statistics, self._table_rows(num_samples))
        elif num_samples is not None:
            self._make_tables(self._table_rows(num_samples))
        elif self._statistics is None:
            raise ValueError(
                "ASSLScoreCallback needs the size of the pool: pass num_samples, or wrap the pool in IndexedDataset, "
                "or give the trainer a datamodule with a `num_samples` attribute"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Let the observer watch the step."""
        self._observer.begin_step()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Observe the batch that was just trained on."""
        self._batches += 1
        if not self.is_replayed:
            self._observe_batch(trainer, pl_module, outputs, batch)
        if self._batches % max(trainer.log_every_n_steps, 1) == 0:  # type: ignore[attr-defined]
            self._gather.check()
            self._table.check()

    @torch.no_grad()
    def _observe_batch(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        is_first = self._observed_batches == 0
        with self._gather.telling(trainer, module):
            observation = self._observation(module, outputs, batch, is_first)
        own = None if observation is None else rows_of(observation, self.keep_features)
        rows = self._gather.gather(own, trainer, module)
        if rows is None:
            return
        if is_first:  # also on a rank that observes nothing
            self._has_one_view = "inconsistency" not in rows
            self._factors(None)
        self._update(rows)

    def _observation(self, module: LightningModule, outputs: Any, batch: Any, is_first: bool) -> Observation | None:
        """Observe a step on this rank, and check the first observation."""
        indices = {} if self._taker is None else self._taker.indices_on(module.device, batch)
        number = self._batches_before + self._batches - 1
        observation = self._observer.observe(TrainingStep(outputs, batch, module, indices, is_first, number))
        if observation is None:
            return None
        if self.further:
            observation = self._with_further(observation)
        if is_first:
            check_first(observation, self._table.num_samples, self.keep_features)
        self._observed_batches += 1
        return observation

    def _with_further(self, observation: Observation) -> Observation:
        """Add what the further statistics observe of the logits."""
        weak, strong = observation.logits_weak, observation.logits_strong
        if weak is None:
            raise KeyError(
                f"further={list(self.further)} needs the logits of each sample: return logits_weak (B, C), and "
                f"logits_strong where there are two views, in the Observation of `observe`"
            )
        return replace(observation, further=self._table.further.observe(weak, strong))

    def _update(self, rows: Rows) -> None:
        """Update the tables; the labelled rows come last, so that they win of a sample in both streams."""
        index, uncertainty = rows["index"], rows["uncertainty"]
        inconsistency = rows["inconsistency"] if "inconsistency" in rows else torch.zeros_like(uncertainty)
        further = rows.get("further")
        self._table.update(index, uncertainty, inconsistency, assume_unique=self.assume_unique, further=further)
        if self._features is None:
            return
        if "features" in rows:
            self._features.update(index, rows["features"], assume_unique=self.assume_unique)
        if "labelled_index" in rows:
            self._features.update(rows["labelled_index"], rows["labelled_features"])

    def can_be_replayed(self) -> bool:
        """Return if observing a step is operations on tensors, as of what `training_step` returns; see `Replayable`."""
        return type(self._observer) is StepOutput and not self._has_index and self._observed_batches > 0

    def step_on_device(self, trainer: Trainer, pl_module: LightningModule, outputs: Any) -> None:
        """Observe a step that has been trained on."""
        self._observe_batch(trainer, pl_module, outputs, None)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise for an invalid observation of the last steps, and for a fit of which no batch was observed."""
        self._stop()
        if self._batches and not self._observed_batches and not self._gather.is_agreed:
            raise RuntimeError(
                f"ASSLScoreCallback observed none of the {self._batches} training batches: training_step returned "
                f"None, or `observe` did, every time; return a dict with the keys {', '.join(KEYS)} beside 'loss'"
            )
        self._gather.check()
        self._table.check()
        if self.query_to is not None and trainer.is_global_zero:
            self._write_picks(self.query_to)
        self._carrier.leave(trainer, {**self.state_dict(), "names": dict(self._names)})

    def _write_picks(self, path: Path) -> None:
        visited = int(self.statistics.visits.count_nonzero())
        picks = self.picks_table(min(self.query_k, visited)) if visited else picks_as_csv([], [], self._names)
        write_text(path, picks)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the module and the trainer as they were."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module and the trainer as they were, also where training never began."""
        self._stop()

    def _stop(self) -> None:
        self._observer.stop()
        if self._taker is not None:
            self._taker.stand_back()
            self._taker = None

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        name: str | None = None,
        c_u: float = 0.5,
        c_i: float = 2.0,
        names: Sequence[str] | Mapping[int, str] | None = None,
    ) -> ASSLScoreCallback:
        """Return a callback with the table of a checkpoint, to query without a trainer. No code of the file runs.

        Args:
            path: a checkpoint that Lightning wrote in a fit with the callback.
            name: the callback's `name`; None: the only one.
            c_u: as in the constructor; a checkpoint does not have it.
            c_i: likewise.
            names: a name for each sample of the pool, or pool index → name; for `query(…, names=True)`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has no such callback, or `names` are not as many as the samples.
        """
        state = read_state(path, name)
        kept = state["statistics"]
        rows, columns = state.get("regions", (1, 1))
        num_samples = kept["num_samples"] // (rows * columns)
        callback = cls(
            num_samples, kept["alpha"], c_u, c_i, variance=kept["variance"], keep_features="features" in state,
            name=name or "default", further=list(kept.get("further", ())),
        )  # fmt: skip
        callback.load_state_dict(state)
        if names is not None:
            callback._names = names_by_index(names, num_samples, path)
        return callback

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints; it stays the same when the class is renamed or subclassed."""
        return STATE_KEY.format(name=self.name)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; nothing before the first fit."""
        state = super().state_dict()
        return {**state, "batches": self._batches_before + self._batches} if state else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the table of a checkpoint, and the number of its batches."""
        super().load_state_dict(state_dict)
        self._batches_before, self._batches = state_dict.get("batches", 0), 0

    def _bring_back(self) -> None:
        """Take over the tables that a fit in other processes left (ddp_spawn, ddp_fork, ddp_notebook)."""
        self._take_over(self._carrier.take())

    def _take_over(self, left: dict[str, Any] | None) -> None:
        if left is not None:
            self._names = left.pop("names")
            self._statistics = self._features = None
            self.load_state_dict(left)
