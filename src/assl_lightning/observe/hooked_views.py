"""The base of `forward`, `split` and `teacher_student`: predictions and features from hooks on a module's parts."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from assl_lightning.base.arguments import require_one_of
from assl_lightning.method.contracts import TrainingStep
from assl_lightning.method.observers import ViewObserver
from assl_lightning.observe.module_calls import ModuleCalls

Rows = Literal["all", "first", "last"]
"""Which rows of a call belong to the index: all of them, or the first or last B."""


class HookedViews(ViewObserver):
    """An observer of predictions that are made in parts of the module, which hooks watch.

    Args:
        features: dotted name of the part whose output are the features (B, d), flattened; None: there is none.
        head: dotted name of the part whose *input* are the features, such as the last layer, instead of `features`.
        stream: the loader whose samples are scored, where there are several with an `IndexedDataset`; "unlabelled" if
            there is one of that name.
        labelled_stream: the loader with the labelled samples, whose features are kept too.
        from_probabilities: the parts return probabilities, (B, C) in [0, 1] with the sum 1, instead of logits.
    """

    def __init__(
        self,
        *,
        features: str | None,
        head: str | None,
        stream: str | None,
        labelled_stream: str | None,
        from_probabilities: bool,
    ) -> None:
        super().__init__(from_probabilities=from_probabilities)
        if features is not None and head is not None:
            raise ValueError(
                "give features=… (a part whose output they are) or head=… (a part whose input they are), not both"
            )
        self.stream, self.labelled_stream = stream, labelled_stream
        self.gives_features = features is not None or head is not None
        self._of_input = head is not None
        name = head if features is None else features
        self._features = None if name is None else ModuleCalls(name, keep_inputs=self._of_input)
        self._calls: list[ModuleCalls] = [] if self._features is None else [self._features]
        self._has_called = False

    def watch(self, calls: ModuleCalls) -> ModuleCalls:
        """Watch a part in each fit."""
        self._calls.append(calls)
        return calls

    def start(self, module: nn.Module) -> None:
        """Hook the parts."""
        super().start(module)
        self._has_called = False
        for calls in self._calls:
            calls.start(module)

    def begin_step(self) -> None:
        """Note the calls of this step."""
        for calls in self._calls:
            calls.begin()

    def end_step(self) -> None:
        """Note no calls until the next step begins."""
        for calls in self._calls:
            calls.end()
        self._has_called = self._has_called or self._was_called

    def ends_in(self, kind: type[nn.Module]) -> bool:
        """True if the last layer of a watched part is of this kind."""
        parts = (calls.module for calls in self._calls if calls.module is not None)
        return any(isinstance([*part.modules()][-1], kind) for part in parts)

    def is_left_out(self, step: TrainingStep) -> bool:
        """True if `training_step` skipped the batch before it called any part, or the batch has no samples to score.

        A step that skips returns None; one that optimizes by hand always may, and has then called a part before.
        """
        may_skip = self._has_called or bool(getattr(step.module, "automatic_optimization", False))
        if not step.outputs and not self._was_called and may_skip:
            return True
        return len(self.index(step)) == 0

    @property
    def _was_called(self) -> bool:
        return any(calls.was_called for calls in self._calls)

    def stop(self) -> None:
        """Remove the hooks."""
        for calls in self._calls:
            calls.stop()

    def index(self, step: TrainingStep) -> Tensor:
        """Return the index (B,) of the scored rows: of the `IndexedDataset`, or the key `index` of the outputs.

        It is empty in a step whose batch has no samples of the stream, since that loader has ended before the others.
        """
        index = step.index_of(self.stream)
        if index is None and isinstance(step.outputs, dict):
            index = step.outputs.get("index")
        if index is None:
            raise ValueError(
                "no index of the samples is known: wrap the data set that the loader loads, "
                "IndexedDataset(pool), or return 'index' (B,) from training_step"
            )
        return index

    def labelled_index(self, step: TrainingStep) -> Tensor | None:
        """Return the index (L,) of the labelled stream; None where none is named, or known."""
        if self.labelled_stream is None:
            others = [name for name in step.indices if name != self.stream and name in ("labelled", "labeled")]
            return step.indices[others[0]] if others else None
        return step.index_of(self.labelled_stream)

    def features_of(self, number: int) -> Tensor | None:
        """Return the features (B, d) of a call, or None where none are named."""
        if self._features is None:
            return None
        if self._of_input:
            return self._features.call(number).first(self._features.name).flatten(1)
        return self._features.predictions(number).flatten(1)

    def scored_features(self, number: int, count: int, rows: Rows) -> Tensor | None:
        """Return the features of the `count` scored rows of a call, or None where none are named."""
        features = self.features_of(number)
        return None if features is None else rows_of(features, count, rows, "the call of the features")


def rows_of(values: Tensor, count: int, rows: Rows, what: str) -> Tensor:
    """Return the `count` rows that belong to the index.

    Raises:
        ValueError: there are fewer, or more and `rows` is "all".
    """
    return values[which_rows(values, count, rows, what)]


def which_rows(values: Tensor, count: int, rows: Rows, what: str) -> slice:
    """Return which rows `rows_of` takes; it raises the same error."""
    if rows == "first" and len(values) >= count:
        return slice(count)
    if rows == "last" and len(values) >= count:
        return slice(len(values) - count, None)
    if len(values) != count:
        raise ValueError(
            f"{what} has {len(values)} rows, but the batch has {count} samples to score: say which rows are theirs "
            f"with rows='first' or rows='last', use observe.split(…) where one call has several views, or name the "
            f"loader with stream=…"
        )
    return slice(None)


def check_rows(rows: Rows) -> Rows:
    """Return `rows`, or raise unless it is a known choice."""
    require_one_of("rows", rows, Rows)
    return rows
