"""Make the batches that people label: the samples of a request, and the images that they see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assl_lightning.data.contact_sheet import contact_sheet
from assl_lightning.data.rendition import rendition
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.loop.oracles import LabelRequest
from assl_lightning.loop.records import read_config
from assl_lightning.people.batch import AskedSample, LabelBatch, write_batch

_MAX_THUMBNAILS = 100


class BatchMaker:
    """A maker of batches from the images of a source.

    Args:
        source: the pool's images, their names and the names of the classes.
        show_predictions: True if people may see the model's prediction.
        longest_side: pixels of an image that people look at; larger images are shrunk.
    """

    def __init__(self, source: PoolSource, *, show_predictions: bool, longest_side: int) -> None:
        self._source = source
        self._show_predictions = show_predictions
        self._longest_side = longest_side
        self.missing = {*source.absent.tolist(), *source.unreadable.tolist()}
        """Pool indices of images that cannot be shown."""

    def write(self, samples: Sequence[AskedSample], round_number: int, directory: Path) -> None:
        """Write a batch for the round that trains on its labels, with the images that people see."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        index = torch.tensor([sample.index for sample in samples])
        shown = [self._show(sample.index) for sample in samples]
        named = [
            replace(sample, image=f"{number:04d}.{suffix}")
            for number, (sample, (suffix, _)) in enumerate(zip(samples, shown, strict=True))
        ]
        run_id, name = _identity(directory.parent.parent)
        batch = LabelBatch(
            directory=directory,
            run_id=run_id,
            name=name,
            round=round_number,
            class_names=self._source.class_names,
            samples=tuple(named),
            show_predictions=self._show_predictions,
        )
        sheet = contact_sheet(self._source.pool_images[index[:_MAX_THUMBNAILS]])
        write_batch(batch, [content for _, content in shown], sheet)

    def requested(self, request: LabelRequest) -> list[AskedSample]:
        """Return the samples of a request, in its order, without those whose images cannot be shown."""
        return [
            AskedSample(
                sample_id=name,
                index=index,
                image="",
                path=self._path(index),
                prediction=self._class_of(request.prediction, row),
                score=_value(request.score, row),
                parts={part: _value(values, row) for part, values in request.parts.items()},
            )
            for row, (index, name) in enumerate(zip(request.index.tolist(), request.sample_id, strict=True))
            if index not in self.missing
        ]

    def again(
        self, sample_id: str, index: int, prediction: str | None = None, parts: Iterable[str] = ()
    ) -> AskedSample:
        """Return a sample that has a label, to be asked for once more; the `parts` of its score are unknown."""
        return AskedSample(sample_id, index, "", self._path(index), prediction, parts=dict.fromkeys(parts), again=True)

    def check_indices(self, batch: LabelBatch) -> None:
        """Raise if a batch has other indices for its images than the run, so that a label would go to another image."""
        names = self._source.sample_ids
        for sample in batch.samples:
            if sample.index >= len(names) or names[sample.index] != sample.sample_id:
                raise ValueError(
                    f"{batch.directory} has {sample.sample_id} as image {sample.index}, which it is not in this run; "
                    f"it was copied from elsewhere or changed: restore it"
                )

    def _path(self, index: int) -> str | None:
        return str(self._source.paths[index]) if self._source.paths else None

    def _show(self, index: int) -> tuple[str, bytes]:
        path = self._source.paths[index] if self._source.paths else None
        return rendition(self._source.pool_images[torch.tensor([index])][0], path, self._longest_side)

    def _class_of(self, prediction: Tensor | None, row: int) -> str | None:
        if prediction is None or row >= len(prediction):
            return None
        return self._source.class_names[int(prediction[row])]


def _identity(run_dir: Path) -> tuple[str, str]:
    """Return the run's id and its name for people."""
    config: dict[str, Any] = read_config(run_dir)
    return str((config.get("history") or {}).get("run_id") or run_dir.name), str(config.get("name") or run_dir.name)


def _value(values: Tensor | None, row: int) -> float | None:
    """Return a number that JSON has, or None if it is unknown."""
    if values is None or row >= len(values):
        return None
    value = float(values[row])
    return value if isfinite(value) else None
