"""The search for wrong labels in a run: in groups, by what is known of each label from networks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from assl_lightning.commands.out_of_round import Judged, judge_new, judge_queried, judge_test, judge_trained
from assl_lightning.commands.predicting import RunPredictor
from assl_lightning.commands.wrong_labels import find_wrong_labels

_NEW = "held out, or given since the newest training, by the newest network"
_TEST = "of the test set, by the newest network"
_QUERIED = "that rounds asked for, by their networks and by the newest"
_TRAINED = "that no earlier network has judged, by the newest, though it was trained on them"


@dataclass(frozen=True)
class Group:
    """Labels that are judged in one way, and those of them that are probably wrong."""

    description: str  # of the labels and the way
    judged: Judged
    suspects: tuple[int, ...]  # rows of `judged`, the least probable label first
    by_class: bool = True  # see `WrongLabels`
    is_test: bool = False  # the labels are those of the data's test set
    is_new: bool = False  # the newest network judges, which was not trained on the labels
    was_trained: bool = False  # the newest network judges, though it was trained on the labels


def search_labels(predictor: RunPredictor) -> tuple[Group, ...]:
    """Search all labels of a run.

    The newest network judges the labels that it was not trained on. Those that rounds asked for are judged by what
    their networks predicted then. These were young, and were asked about images that they found hard, so that a suspect
    counts only if the newest network, though it was trained on the label, still predicts another class. Where there is
    no other prediction, this alone makes a suspect.

    Raises:
        ImportError: cleanlab is not installed.
    """
    trained, queried = judge_trained(predictor), judge_queried(predictor)
    doubted = trained.index[trained.probabilities.argmax(1) != trained.label]
    of_queried = _search(_QUERIED, queried)
    is_doubted = torch.isin(queried.index, doubted).tolist()
    others = trained.take((~torch.isin(trained.index, queried.index)).nonzero()[:, 0])
    groups = (
        replace(_search(_NEW, judge_new(predictor)), is_new=True),
        replace(_search(_TEST, judge_test(predictor)), is_new=True, is_test=True),
        replace(of_queried, suspects=tuple(row for row in of_queried.suspects if is_doubted[row])),
        _disagreement(_TRAINED, others),
    )
    return tuple(group for group in groups if len(group.judged))


def _search(description: str, judged: Judged) -> Group:
    found = find_wrong_labels(judged.label.numpy(), judged.probabilities.numpy())
    return Group(description, judged, tuple(found.position.tolist()), by_class=found.by_class)


def _disagreement(description: str, judged: Judged) -> Group:
    is_suspect = judged.probabilities.argmax(1) != judged.label
    rows = is_suspect.nonzero()[:, 0].numpy()
    order = np.argsort(judged.of_label[rows].numpy(), kind="stable")
    return Group(description, judged, tuple(rows[order].tolist()), was_trained=True)
