"""`observe.detections`: detectors, whose predictions are boxes with a class and a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from assl_lightning.base.arguments import real_number, require_one_of, whole_number
from assl_lightning.base.rules import SHARE, checked
from assl_lightning.method import detections as of_detections
from assl_lightning.method import reducers
from assl_lightning.method.beside_training import side_pass, step_key
from assl_lightning.method.contracts import Observation, TrainingStep
from assl_lightning.method.detections import Detections
from assl_lightning.method.reducers import OfDetections
from assl_lightning.method.view_scores import Views
from assl_lightning.observe.hooked_views import HookedViews, Rows, check_rows
from assl_lightning.observe.module_calls import ModuleCalls
from assl_lightning.observe.other_view import precision_of


class detections(HookedViews):  # noqa: N801
    """Score each detection, and reduce the numbers of an image to one; for torchvision's detectors and those like them.

    The detector takes a list of images and gives in evaluation mode a dictionary for each, of boxes (D, 4) in pixels,
    labels (D,) and scores (D,). Its images, and their mirror images, are passed through it again after the step, in
    evaluation mode and beside the training, as `second_view` does: the training is the same to the last bit. A
    detector waits for the device wherever it picks boxes, and so do these two passes.

    Args:
        name: dotted name of the detector, as in `named_modules()`; its first argument is the list of images.
        call: number of its call in `training_step` whose images are taken, from 0 on.
        every: make the passes in each `every`-th step, and skip the others.
        rows: which images of the call belong to the scored samples: "all", or the "first" or "last".
        reducer: "max": the largest number of an image's detections; "mean": their mean.
        empty: both numbers of an image without a detection; 0 puts such images last.
        least_iou: from this intersection over union on two views' detections of a class are one object, in (0, 1].
        missing: score of a detection that one of the views lacks, in (0, 1]; best the detector's own threshold.
        stream: see `HookedViews`.

    >>> detections("detector", every=4).reducer
    'max'
    """

    def __init__(
        self,
        name: str,
        *,
        call: int = 0,
        every: int = 1,
        rows: Rows = "all",
        reducer: OfDetections = "max",
        empty: float = 0.0,
        least_iou: float = 0.5,
        missing: float = 0.05,
        stream: str | None = None,
    ) -> None:
        super().__init__(features=None, head=None, stream=stream, labelled_stream=None, from_probabilities=False)
        self.number = whole_number("call", call)
        self.every = whole_number("every", every, least=1)
        self.rows = check_rows(rows)
        require_one_of("reducer", reducer, OfDetections)
        self.reducer, self.empty = reducer, real_number("empty", empty)
        self.least_iou = checked("least_iou", least_iou, Annotated[float, SHARE])
        self.missing = checked("missing", missing, Annotated[float, SHARE])
        self._detector = self.watch(ModuleCalls(name, keep_inputs=True))

    def find(self, step: TrainingStep) -> Views | None:
        """Raise: detections are no logits that another maker could go around."""
        raise TypeError("observe.detections has no logits: give it alone, without another maker around it")

    def observe(self, step: TrainingStep) -> Observation | None:
        """Return the reduced numbers of each image, or None in a step that is skipped."""
        self.end_step()
        if step.number % self.every or self.is_left_out(step):
            return None
        index = self.index(step)
        images = self._images(len(index))
        detector = self._detector.module
        assert detector is not None, "the hooks were set at the start of the fit"
        with side_pass(detector, step_key(step)), precision_of(step.module):
            found = _checked(detector(images), len(images), self._detector.name)
            other = _checked(detector([image.flip(-1) for image in images]), len(images), self._detector.name)
        mirrored = [_mirrored(each, image.shape[-1]) for each, image in zip(other, images, strict=True)]
        uncertainty = self._reduce([of_detections.uncertainty(each["scores"]) for each in found], index)
        settings = {"least_iou": self.least_iou, "missing": self.missing}
        pairs = zip(found, mirrored, strict=True)
        inconsistency = self._reduce([of_detections.inconsistency(*pair, **settings) for pair in pairs], index)
        return Observation(index, uncertainty, inconsistency)

    def _images(self, count: int) -> list[Tensor]:
        call = self._detector.call(self.number)
        given = next(iter((*call.inputs, *call.keywords.values())), None)
        images = list(given) if isinstance(given, (list, tuple, Tensor)) else []
        if len(images) < count or (self.rows == "all" and len(images) != count):
            raise ValueError(
                f"call {self.number} of {self._detector.name!r} has {len(images)} images, but the batch has {count} "
                f"samples to score: its first argument must be the list of their images; say which are theirs with "
                f"rows='first' or rows='last', name another call, or the loader with stream=…"
            )
        return images[len(images) - count :] if self.rows == "last" else images[:count]

    def _reduce(self, of_images: Sequence[Tensor], index: Tensor) -> Tensor:
        image = torch.repeat_interleave(
            torch.arange(len(of_images), device=index.device),
            torch.tensor([len(each) for each in of_images], device=index.device),
        )
        return reducers.per_detection(
            torch.cat(list(of_images)), image, len(of_images), empty=self.empty, reducer=self.reducer
        )


def _mirrored(found: Detections, width: int) -> Detections:
    left, top, right, bottom = found["boxes"].unbind(-1)
    return {**found, "boxes": torch.stack([width - right, top, width - left, bottom], dim=-1)}


def _checked(found: Any, count: int, name: str) -> list[Detections]:
    is_list = isinstance(found, (list, tuple)) and len(found) == count
    if not is_list or not all(
        isinstance(each, dict) and {"boxes", "labels", "scores"} <= each.keys() for each in found
    ):
        raise ValueError(
            f"{name!r} must give in evaluation mode a dictionary for each of its {count} images, with boxes, labels "
            f"and scores, as torchvision's detectors do; got {type(found).__name__}. For another detector give a "
            f"function of your own, with reducers.per_detection"
        )
    return list(found)
