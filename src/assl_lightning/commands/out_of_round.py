"""Predictions of labelled images, most of them by networks that were not trained on their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from assl_lightning.base.run_files import QUERIED_PROBABILITIES
from assl_lightning.commands.predicting import RunPredictor
from assl_lightning.data.pool import HELD_OUT


@dataclass(frozen=True)
class Judged:
    """J labels with what networks predict for their images."""

    index: Tensor  # (J,) int64, in the pool or in the test set
    label: Tensor  # (J,) int64 in [0, C), of the present classes
    probabilities: Tensor  # (J, C) float64; 0 for a class that the network did not know
    round: Tensor  # (J,) int64, of the network

    def __len__(self) -> int:
        return len(self.index)

    @property
    def of_label(self) -> Tensor:
        """(J,) float64, the probabilities of the labels."""
        return self.probabilities.gather(1, self.label[:, None])[:, 0]

    def take(self, rows: Tensor) -> Judged:
        """Return some of the labels, by their rows (K,) int64."""
        return Judged(self.index[rows], self.label[rows], self.probabilities[rows], self.round[rows])


def judge_new(predictor: RunPredictor) -> Judged:
    """Judge the pool's labels that the newest network was not trained on: held out, or answered since."""
    index = predictor.labelled.index
    since = predictor.pool.labelled_in_round[index]
    return _by_newest(predictor, index[(since == HELD_OUT) | (since > predictor.trained_round)])


def judge_trained(predictor: RunPredictor) -> Judged:
    """Judge the labels that the newest network was trained on, by the same network."""
    index = predictor.labelled.index
    since = predictor.pool.labelled_in_round[index]
    return _by_newest(predictor, index[(since >= 0) & (since <= predictor.trained_round)])


def judge_test(predictor: RunPredictor) -> Judged:
    """Judge the labels of the data's test set by the newest network."""
    source = predictor.source
    found = predictor.probabilities(source.test_images, torch.arange(len(source.test_images)))
    return _of_known_classes(predictor, torch.arange(len(found)), source.test_labels, found)


def judge_queried(predictor: RunPredictor) -> Judged:
    """Judge labels that the newest network was trained on by what the network predicted whose round asked for them.

    A round writes these probabilities down (queried.pt). Those of earlier versions did not, nor is anything known if a
    class was divided since.
    """
    pool, labelled = predictor.pool, predictor.labelled.index
    size = len(predictor.source.class_names)
    probabilities = torch.zeros(pool.num_samples, size, dtype=torch.float64)
    by_round = torch.full((pool.num_samples,), -1)
    for number in range(predictor.trained_round):
        if (recorded := _recorded(predictor, number)) is None:
            continue
        index, values, columns = recorded
        since = pool.labelled_in_round[index]
        is_first = (since > number) & (since <= predictor.trained_round)  # no network had the label before
        is_first &= _known(columns, size)[pool.labels[index].clamp(min=0).long()]
        probabilities[index[is_first]] = _spread(values[is_first], columns, size)
        by_round[index[is_first]] = number
    index = labelled[by_round[labelled] >= 0]
    return Judged(index, pool.labels[index].long(), probabilities[index], by_round[index])


def _by_newest(predictor: RunPredictor, index: Tensor) -> Judged:
    found = predictor.probabilities(predictor.source.pool_images, index)
    return _of_known_classes(predictor, index, predictor.pool.labels[index].long(), found)


def _of_known_classes(predictor: RunPredictor, index: Tensor, label: Tensor, found: Tensor) -> Judged:
    """Return the predictions of the newest network for labels of classes that it knows."""
    names = predictor.source.class_names
    columns, size = [names.index(name) for name in predictor.class_names], len(names)
    is_known = _known(columns, size)[label]
    number = torch.full((int(is_known.sum()),), predictor.trained_round)
    return Judged(index[is_known], label[is_known], _spread(found[is_known], columns, size), number)


def _recorded(predictor: RunPredictor, number: int) -> tuple[Tensor, Tensor, list[int]] | None:
    """Return the samples that a round queried (K,), their probabilities (K, D), and the present class of each column.

    None where the round has written nothing down, or a class was divided since.
    """
    if not predictor.directory.has(number, QUERIED_PROBABILITIES):
        return None
    state = predictor.directory.load_tensors(number, QUERIED_PROBABILITIES)
    with predictor.directory.reading(number, QUERIED_PROBABILITIES):
        index, values = state["index"].long(), state["probabilities"].double()
        size = values.shape[1]
        present = range(size) if predictor.history is None else predictor.history.present_labels(number)
        if len(present) != size or len(index) != len(values):
            raise ValueError(f"its probabilities must be of {len(present)} classes; got shape {tuple(values.shape)}")
    columns = [label for label in present if label is not None]
    return (index, values, columns) if len(columns) == size else None


def _spread(probabilities: Tensor, columns: Sequence[int], size: int) -> Tensor:
    """Return (K, size): each column of `probabilities` added to its present class, others 0."""
    spread = torch.zeros(len(probabilities), size, dtype=torch.float64)
    return spread.index_add_(1, torch.tensor(columns, dtype=torch.int64), probabilities)


def _known(columns: Sequence[int], size: int) -> Tensor:
    known = torch.zeros(size, dtype=torch.bool)
    known[list(columns)] = True
    return known
