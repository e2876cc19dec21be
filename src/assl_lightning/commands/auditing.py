"""Find what is probably wrong with a run's labels and images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from assl_lightning.commands.label_search import Group, search_labels
from assl_lightning.commands.predicting import RunPredictor
from assl_lightning.commands.progress import Tell
from assl_lightning.commands.wrong_labels import label_issue_finder
from assl_lightning.data.image_quality import contrast_and_sharpness, find_empty_and_blurred
from assl_lightning.data.image_stream import StoredImages, images_in_parts
from assl_lightning.data.near_copies import Hashes, Indices, hash_function, nearest_among, nearest_earlier
from assl_lightning.data.pool import EXCLUDED, HELD_OUT

Kind = Literal["label", "copy", "copy_in_test", "blurred", "empty", "unreadable"]
Part = Literal["pool", "hold-out", "test"]

_AT_ONCE = 256  # images


@dataclass(frozen=True)
class Finding:
    """A label or an image with which something is probably wrong."""

    kind: Kind
    name: str
    part: Part
    index: int  # in the pool, or in the test set
    label: str = ""  # the class; "" where there is none
    predicted: str = ""  # the class that the network predicts, if `kind` is "label"
    score: float | None = None  # label: its probability; copies: bits that differ; blurred: share of the median
    # sharpness; empty: standard deviation in grey levels of 256
    other: str = ""  # the pool image that this one is a copy of
    other_index: int = -1
    other_label: str = ""
    judged_by: str = ""  # the network, if `kind` is "label"

    @property
    def contradicts(self) -> bool:
        """True for a copy whose label is known to be another than that of its original."""
        return bool(self.label and self.other_label) and self.label != self.other_label


@dataclass(frozen=True)
class Audit:
    """The result of an audit."""

    findings: tuple[Finding, ...]  # of each kind the worst first
    groups: tuple[Group, ...]  # of labels, by the way in which they were judged
    images: int  # number of pool images that were looked at

    @property
    def questions(self) -> dict[int, str]:
        """Pool index → the class that speaks against the label: suspects first, then copies with differing labels."""
        asked = {finding.index: finding.predicted for finding in self.of_kind("label") if finding.part != "test"}
        for finding in (finding for finding in self.of_kind("copy") if finding.contradicts):
            asked.setdefault(finding.index, finding.other_label)
            asked.setdefault(finding.other_index, finding.label)
        return asked

    def of_kind(self, kind: Kind) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]


def check_packages() -> None:
    """Raise an ImportError if a package of the extra audit is missing."""
    hash_function()
    label_issue_finder()


def audit(predictor: RunPredictor, distance: int, tell: Tell) -> Audit:
    """Look at all labels and images of a run; images that left it are passed over.

    Args:
        predictor: has the run's newest network, its pool and its labels.
        distance: bits of 64 in which the hashes of near copies differ at most.
        tell: called with the number of pool images that were looked at, and of all.

    Raises:
        ImportError: a package of the extra audit is missing.
    """
    hash_images = hash_function()
    source, describe = predictor.source, _Describe(predictor)
    groups = search_labels(predictor)
    lost = torch.cat([source.unreadable, source.absent])
    is_used = predictor.pool.labelled_in_round != EXCLUDED
    is_used[lost] = False
    index = is_used.nonzero()[:, 0]
    hashes = np.empty(len(index), dtype=np.uint64)
    contrast, sharpness = torch.empty(2, len(index), dtype=torch.float64)
    for rows, images in _pieces(source.pool_images, index):
        hashes[rows] = hash_images(images)
        contrast[rows], sharpness[rows] = contrast_and_sharpness(images)
        tell(rows.stop, len(index))
    of_test = np.empty(len(source.test_images), dtype=np.uint64)
    for rows, images in _pieces(source.test_images, torch.arange(len(of_test))):
        of_test[rows] = hash_images(images)
    is_empty, is_blurred, share = find_empty_and_blurred(contrast, sharpness)
    findings = [
        *_suspects(describe, groups, source.class_names),
        *_find_copies(describe, index[~is_empty], hashes[~is_empty.numpy()], of_test, distance),
        *(describe.pool("empty", sample, score) for sample, score in _ranked(index, contrast, is_empty)),
        *(describe.pool("blurred", sample, score) for sample, score in _ranked(index, share, is_blurred)),
        *(describe.pool("unreadable", sample) for sample in lost.unique().tolist()),
    ]
    return Audit(tuple(findings), groups, len(index))


class _Describe:
    """Findings with the names of their images and labels."""

    def __init__(self, predictor: RunPredictor) -> None:
        self._source = predictor.source
        self._labels = predictor.pool.labels.tolist()
        self.is_held_out = predictor.pool.labelled_in_round == HELD_OUT

    def pool(self, kind: Kind, sample: int, score: float | None = None) -> Finding:
        part: Part = "hold-out" if self.is_held_out[sample] else "pool"
        return Finding(kind, self._source.sample_ids[sample], part, sample, self._label(sample), score=score)

    def test(self, kind: Kind, image: int, score: float | None = None) -> Finding:
        name = self._source.test_ids[image] if self._source.test_ids else f"test image {image}"
        label = self._source.class_names[int(self._source.test_labels[image])]
        return Finding(kind, name, "test", image, label, score=score)

    def copy(self, finding: Finding, original: int) -> Finding:
        name = self._source.sample_ids[original]
        return replace(finding, other=name, other_index=original, other_label=self._label(original))

    def _label(self, sample: int) -> str:
        return self._source.class_names[self._labels[sample]] if self._labels[sample] >= 0 else ""


def _pieces(images: StoredImages, index: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield some of the images at `index` (K,) at a time, and their rows."""
    done = 0
    for part, found in images_in_parts(images, index, _AT_ONCE):
        yield slice(done, done + len(part)), found
        done += len(part)


def _ranked(index: Tensor, score: Tensor, is_found: Tensor) -> Iterator[tuple[int, float]]:
    """Yield the samples that were found, and their scores, the smallest first."""
    samples, scores = index[is_found], score[is_found]
    order = scores.argsort(stable=True)
    return zip(samples[order].tolist(), scores[order].tolist(), strict=True)


def _find_copies(
    describe: _Describe, index: Tensor, hashes: Hashes, of_test: Hashes, distance: int
) -> Iterator[Finding]:
    """Yield near copies among the images that are trained on, and tested images with a near copy among these."""
    is_held_out = describe.is_held_out[index]
    pool, held_out = index[~is_held_out].tolist(), index[is_held_out].tolist()
    of_pool, of_hold_out = hashes[~is_held_out.numpy()], hashes[is_held_out.numpy()]
    within = nearest_earlier(of_pool, distance)
    leaked, tested = nearest_among(of_hold_out, of_pool, distance), nearest_among(of_test, of_pool, distance)
    searches: tuple[tuple[tuple[Indices, Indices], Kind, list[int] | None], ...] = (
        (within, "copy", pool),
        (leaked, "copy_in_test", held_out),
        (tested, "copy_in_test", None),  # of the test set
    )
    for (other, bits), kind, images in searches:
        rows = (other >= 0).nonzero()[0]
        for row in rows[np.argsort(bits[rows], kind="stable")].tolist():
            score = float(bits[row])
            found = describe.test(kind, row, score) if images is None else describe.pool(kind, images[row], score)
            yield describe.copy(found, pool[other[row]])


def _suspects(describe: _Describe, groups: Iterable[Group], class_names: Sequence[str]) -> list[Finding]:
    """Return the labels that are probably wrong, of all groups, the least probable first."""
    found = []
    for group in groups:
        judged, make = group.judged, describe.test if group.is_test else describe.pool
        of_label = judged.of_label.tolist()
        for row in group.suspects:
            predicted = class_names[int(judged.probabilities[row].argmax())]
            by = f"round {int(judged.round[row])}{', trained on it' if group.was_trained else ''}"
            finding = make("label", int(judged.index[row]), of_label[row])
            found.append(replace(finding, predicted=predicted, judged_by=by))
    return sorted(found, key=lambda finding: (finding.score, finding.name))
