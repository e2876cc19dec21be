"""`observe.forward`: a network that the training step calls once for each view."""

from __future__ import annotations

from torch import Tensor

from assl_lightning.base.arguments import whole_number
from assl_lightning.method.contracts import TrainingStep
from assl_lightning.method.view_scores import Views
from assl_lightning.observe.hooked_views import HookedViews, Rows, check_rows, rows_of
from assl_lightning.observe.module_calls import ModuleCalls


class forward(HookedViews):  # noqa: N801
    """Take the predictions from calls of a part of the module, by a forward hook; the module stays as it is.

    For trainers that return the loss alone and call their network once for each view: FixMatch ports with separate
    passes, UDA, SimCLR and DINO with a classifier on top (solo-learn, lightly); and, without `strong`, for supervised
    classification with one view (lightning-hydra-template, torchgeo's ClassificationTask), where
    `query(…, factors="uncertainty")` ranks by the uncertainty alone.

    Args:
        name: dotted name of the part, as in `named_modules()`, such as "model".
        weak: number of the call in `training_step` that sees the weak view, from 0 on, or from −1 back.
        strong: number of the call that sees the strong view; None: there is one view, and no inconsistency.
        labelled: number of the call that sees the labelled samples, whose features are kept; None: those are not kept.
        rows: which rows of the calls of weak and strong belong to the scored samples: "all", or the "first" or "last"
            of a call that has labelled rows too.
        output: key, position or attribute of the logits, where the part returns several things.
        features: see `HookedViews`.
        head: see `HookedViews`.
        stream: see `HookedViews`.
        labelled_stream: see `HookedViews`; "labelled" if there is one of that name.
        from_probabilities: see `HookedViews`.

    >>> forward("model", weak=0, strong=2, head="model.fc").gives_features
    True
    """

    def __init__(
        self,
        name: str,
        weak: int = 0,
        strong: int | None = None,
        *,
        labelled: int | None = None,
        rows: Rows = "all",
        output: str | int | None = None,
        features: str | None = None,
        head: str | None = None,
        stream: str | None = None,
        labelled_stream: str | None = None,
        from_probabilities: bool = False,
    ) -> None:
        super().__init__(
            features=features,
            head=head,
            stream=stream,
            labelled_stream=labelled_stream,
            from_probabilities=from_probabilities,
        )
        self.weak = whole_number("weak", weak)
        self.strong = None if strong is None else whole_number("strong", strong)
        self.labelled = None if labelled is None else whole_number("labelled", labelled)
        self.rows = check_rows(rows)
        self._network = self.watch(ModuleCalls(name, output))

    def find(self, step: TrainingStep) -> Views | None:
        """Return the rows of the calls that were named."""
        self.end_step()
        if self.is_left_out(step):
            return None
        index = self.index(step)
        weak = self._rows_of(self.weak, len(index))
        strong = None if self.strong is None else self._rows_of(self.strong, len(index))
        features = self.scored_features(self.weak, len(index), self.rows)
        labelled_index = labelled_features = None
        if features is not None and self.labelled is not None:
            labelled_index = self.labelled_index(step)
            labelled_features = None if labelled_index is None else self.features_of(self.labelled)
        return Views(index, weak, strong, features, labelled_index, labelled_features)

    def _rows_of(self, number: int, count: int) -> Tensor:
        what = f"call {number} of {self._network.name!r}"
        return rows_of(self._network.predictions(number), count, self.rows, what)
