"""`observe.split`: a network that sees labelled rows and both views in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from assl_lightning.base.arguments import whole_number
from assl_lightning.method.contracts import TrainingStep
from assl_lightning.method.view_scores import Views
from assl_lightning.observe.hooked_views import HookedViews
from assl_lightning.observe.module_calls import ModuleCalls


class split(HookedViews):  # noqa: N801
    """Take the predictions from one call of a part of the module, and split its rows into the views.

    For FixMatch ports that put labelled, weak and strong images into one batch for the sake of batch norms, such as
    kekmodel's FixMatch-pytorch and its ports to Lightning, MixMatch, TorchSSL's and USB's `use_cat`.

    Args:
        name: dotted name of the part, as in `named_modules()`.
        parts: the order of the rows. "weak" and "strong", and any other word, have one row for each scored sample;
            "labelled" has the rest.
        interleave: the number of groups that the rows were interleaved by: row r of the batch was put to place
            r // groups + (r % groups) · (rows / groups), as kekmodel's `interleave(x, groups)` does; 1: they were not.
        call: number of the call in `training_step`, from 0 on.
        output: key, position or attribute of the logits, where the part returns several things.
        features: see `HookedViews`.
        head: see `HookedViews`.
        stream: see `HookedViews`.
        labelled_stream: see `HookedViews`; "labelled" if there is one of that name.
        from_probabilities: see `HookedViews`.

    >>> split("model", ["labelled", "weak", "strong"], interleave=15).parts
    ('labelled', 'weak', 'strong')
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[str] = ("labelled", "weak", "strong"),
        *,
        interleave: int = 1,
        call: int = 0,
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
        self.parts = (parts,) if isinstance(parts, str) else tuple(parts)
        if "weak" not in self.parts or len(set(self.parts)) != len(self.parts):
            raise ValueError(f"parts must be distinct words, one of them 'weak'; got {', '.join(self.parts)}")
        self.interleave = whole_number("interleave", interleave, least=1)
        self.number = whole_number("call", call)
        self._network = self.watch(ModuleCalls(name, output))

    def find(self, step: TrainingStep) -> Views | None:
        """Return the parts of the call."""
        self.end_step()
        if self.is_left_out(step):
            return None
        index = self.index(step)
        rows = self._divide(self._network.predictions(self.number), len(index))
        views = Views(index, rows["weak"], rows.get("strong"))
        features = self.features_of(self.number)
        if features is None:
            return views
        of_part = self._divide(features, len(index))
        labelled = self.labelled_index(step) if "labelled" in of_part else None
        of_labelled = None if labelled is None else of_part["labelled"]
        return replace(views, features=of_part["weak"], labelled_index=labelled, labelled_features=of_labelled)

    def _divide(self, values: Tensor, count: int) -> dict[str, Tensor]:
        """Divide rows (R, …) into those of each part, in the order before they were interleaved."""
        others = [part for part in self.parts if part != "labelled"]
        rest = len(values) - count * len(others)
        if rest < 0 or (rest > 0 and "labelled" not in self.parts) or len(values) % self.interleave:
            raise ValueError(
                f"call {self.number} of {self._network.name!r} has {len(values)} rows, which cannot be "
                f"{', '.join(self.parts)} of {count} samples to score each"
                f"{f', interleaved by {self.interleave}' if self.interleave > 1 else ''}; name the parts in the order "
                f"of the rows, 'labelled' for those that are not scored, and the loader with stream=…"
            )
        if self.interleave > 1:
            values = values.unflatten(0, (self.interleave, -1)).transpose(0, 1).flatten(0, 1)
        sizes = [rest if part == "labelled" else count for part in self.parts]
        return dict(zip(self.parts, values.split(sizes), strict=True))
