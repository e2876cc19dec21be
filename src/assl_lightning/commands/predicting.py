"""Predictions of a run's newest network for the images that have no label, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from assl_lightning.base.proportions import wilson_interval
from assl_lightning.base.run_files import FINAL_CHECKPOINT, LEDGER, POOL, STATISTICS
from assl_lightning.base.words import first_line
from assl_lightning.commands.progress import Tell
from assl_lightning.config.classifier import Classifier, load_classifier
from assl_lightning.config.prepare import load_source
from assl_lightning.config.reading import read_written
from assl_lightning.data.answers import Conflicts, resolve
from assl_lightning.data.image_stream import StoredImages, images_in_parts
from assl_lightning.data.pool import EXCLUDED, HELD_OUT, UNLABELLED, Pool
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.learning.calibration import fit_temperature
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.directory import RunDirectory
from assl_lightning.loop.records import read_config
from assl_lightning.method.statistics import SampleStatistics
from assl_lightning.people.ledger import Ledger

FEWEST_TO_CALIBRATE = 30  # labelled images that were not trained on
_AT_ONCE = 256  # images in a forward pass


def _without_progress(_done: int, _count: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Predictions:
    """The predictions of M images, each the most probable class and the second."""

    class_names: tuple[str, ...]  # C, those that the classes have now
    label: Tensor  # (M,) int64 in [0, C)
    confidence: Tensor  # (M,) float64 in [0, 1], the probability of `label`
    second_label: Tensor  # (M,) int64
    second_confidence: Tensor  # (M,) float64, at most `confidence`

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Check:
    """Predictions of images whose labels are known and were not trained on: what the confidence is worth."""

    kind: str  # "held-out" or "test"
    confidence: Tensor  # (H,) float64
    is_right: Tensor  # (H,) bool
    calibrating: int  # how many of them are of classes that the network knows
    temperature: float | None  # by which the logits are divided; None: fewer than `FEWEST_TO_CALIBRATE` images

    def error_above(self, confidence: float) -> tuple[int, int, tuple[float, float]]:
        """Return how many predictions of at least this confidence are wrong, how many there are, and an interval.

        The interval is Wilson's of their error, of 95 %; (0, 1) where there is no such prediction.
        """
        above = self.confidence >= confidence
        count, wrong = int(above.sum()), int((above & ~self.is_right).sum())
        if not count:
            return 0, 0, (0.0, 1.0)
        return wrong, count, wilson_interval(wrong, count)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy on these images (Wilson), in [0, 1]."""
        return wilson_interval(int(self.is_right.sum()), len(self.is_right))


@dataclass(frozen=True)
class Labelled:
    """The images of the pool whose labels are known."""

    index: Tensor  # (L,) int64
    class_names: tuple[str, ...]  # L
    is_held_out: tuple[bool, ...]  # L: only tested on


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by whether it knows the device
        raise ValueError(
            f"--device {device}: must be a device of torch that is there, such as cpu or cuda ({first_line(error)})"
        ) from error


class RunPredictor:
    """The newest network of a run with its pool, its labels, and the temperature that they give it.

    Attributes:
        number: the round under way; in a finished run the last one.
        pool: the labels as they are now, with answers that have come since the newest training.

    Raises:
        ValueError: the directory holds no run, or none that has trained a network yet.
        ConfigurationError: its configuration is not one of this version's, or its data cannot be read.
    """

    def __init__(self, run_dir: Path, *, device: str = "cpu") -> None:
        _check_device(device)
        self.classifier: Classifier = load_classifier(run_dir, device=device)
        self.directory = RunDirectory(run_dir)
        self.history = read_history(run_dir)
        self.config = replace(read_written(read_config(run_dir)), run_dir=str(run_dir))
        self.source: PoolSource = load_source(self.config)
        self.number = self.directory.under_way()
        self.pool = self._load_pool()
        self.newer_answers = self._take_newer_answers(self.config.oracle.get("conflicts", "error"))
        now = [self._present(name) for name in self.classifier.class_names]
        self.class_names = tuple(dict.fromkeys(now))
        self._present_label = torch.tensor([self.class_names.index(name) for name in now])
        self.check = self._make_check()

    @property
    def temperature(self) -> float:
        """The number by which logits are divided; 1 where there are too few labelled images to tell it."""
        return (self.check.temperature if self.check is not None else None) or 1.0

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The outputs of the network that each class has: one, or several where classes were merged since."""
        labels = self._present_label.tolist()
        return tuple(
            tuple(output for output, label in enumerate(labels) if label == present)
            for present in range(len(self.class_names))
        )

    def _present(self, name: str) -> str:
        return name if self.history is None else self.history.resolve(name)

    def _load_pool(self) -> Pool:
        """Return the run's pool with the classes that there are now, and with the images that have come since."""
        pool = Pool(len(self.source.sample_ids), len(self.source.class_names), self.source.sample_ids)
        known = len(self.directory.load_tensors(self.number, POOL)["labels"])
        self.directory.load_pool(self.number, pool, grown=known < pool.num_samples)
        return pool

    def _take_newer_answers(self, conflicts: Conflicts) -> int:
        """Take over what people have answered since the newest training; return how many samples it changes.

        A bad image leaves the pool. A sample that is skipped, or that people differ about, stays as it is.
        """
        index_of = {name: index for index, name in enumerate(self.source.sample_ids)}
        label_of = {name: label for label, name in enumerate(self.source.class_names)}
        answers = resolve(Ledger(self.directory.path / LEDGER).active_answers(), conflicts)
        changed = 0
        for name, answer in answers.items():
            index = index_of.get(name)
            if index is None or answer.kind not in ("label", "bad"):
                continue
            label, since = label_of.get(answer.label or "", -1), int(self.pool.labelled_in_round[index])
            if answer.kind == "bad":
                changed += since != EXCLUDED
                self.pool.labelled_in_round[index], self.pool.labels[index] = EXCLUDED, -1
            elif label >= 0 and (since == UNLABELLED or int(self.pool.labels[index]) != label):
                changed += 1
                self.pool.labels[index] = label
                if since == UNLABELLED:
                    self.pool.labelled_in_round[index] = self.number + 1
        return changed

    @property
    def unlabelled(self) -> Tensor:
        """(M,) int64 indices of the pool's images that have no label and can be read, ascending."""
        return self._readable(self.pool.unlabelled)

    @property
    def labelled(self) -> Labelled:
        """The images of the pool whose labels are known, and which can be read."""
        since = self.pool.labelled_in_round
        index = self._readable(((self.pool.labels >= 0) & ((since >= 0) | (since == HELD_OUT))).nonzero()[:, 0])
        names = self.source.class_names
        return Labelled(
            index,
            tuple(names[label] for label in self.pool.labels[index].tolist()),
            tuple((since[index] == HELD_OUT).tolist()),
        )

    def _readable(self, index: Tensor) -> Tensor:
        return index[~torch.isin(index, torch.cat([self.source.unreadable, self.source.absent]))]

    def predict_pool(self, index: Tensor, tell: Tell = _without_progress) -> Predictions:
        """Predict the pool's images at `index` (M,) int64; images in files are read a few at a time."""
        return self._collect(self._logits(self.source.pool_images, index, tell))

    def probabilities(self, images: StoredImages, index: Tensor, tell: Tell = _without_progress) -> Tensor:
        """(M, C) float64 of the images at `index` (M,), in the order of `class_names`, as the network gives them."""
        parts = [self._merged(part).softmax(1) for part in self._logits(images, index, tell)]
        return torch.cat(parts) if parts else torch.empty(0, len(self.class_names), dtype=torch.float64)

    @property
    def trained_round(self) -> int:
        """The round of the newest network."""
        return max(number for number in range(self.number + 1) if self.directory.has(number, FINAL_CHECKPOINT))

    def predict_files(self, paths: Sequence[Path], tell: Tell = _without_progress) -> tuple[list[str], Predictions]:
        """Predict image files, and all files below directories; those that cannot be read are left out with a warning.

        Returns:
            the names of the M files, and their predictions.

        Raises:
            ValueError: there is no image.
        """
        names: list[str] = []
        log_probabilities = []
        for name, probability in self.classifier.named_probabilities(paths, skip_unreadable=True):
            names.append(name)
            log_probabilities.append(probability.log())
            if len(names) % _AT_ONCE == 0:
                tell(len(names), 0)
        if not names:
            raise ValueError(f"{', '.join(map(str, paths))}: there is no image that can be read")
        return names, self._collect(iter(torch.stack(log_probabilities).split(_AT_ONCE)))

    def uncertainty(self, index: Tensor) -> Tensor:
        """Return the running uncertainty (M,) float64 of samples from the newest training; NaN where it kept none."""
        values = torch.full((len(index),), torch.nan, dtype=torch.float64)
        for number in range(self.number, -1, -1):
            if self.directory.has(number, STATISTICS):
                state = self.directory.load_tensors(number, STATISTICS)
                kept = SampleStatistics(int(state["num_samples"]), alpha=state["alpha"], variance=state["variance"])
                kept.load_state_dict(state)
                known = index < kept.num_samples  # images may have come since
                seen = known.clone()
                seen[known] = kept.visits[index[known]] > 0
                values[seen] = kept.uncertainty_mean[index[seen]].double()
                break
        return values

    def _make_check(self) -> Check | None:
        """Predict the hold-out, or the data's test set where the hold-out is smaller, and too small to calibrate by."""
        labelled = self.labelled
        place = torch.tensor(labelled.is_held_out, dtype=torch.bool)
        held_out, test = int(place.sum()), len(self.source.test_images)
        if held_out >= FEWEST_TO_CALIBRATE or held_out >= test:
            kind, images, index = "held-out", self.source.pool_images, labelled.index[place]
            numbers = self.pool.labels[index].tolist()
        else:
            kind, images, index = "test", self.source.test_images, torch.arange(test)
            numbers = self.source.test_labels.tolist()
        place_of = {name: label for label, name in enumerate(self.class_names)}
        labels = torch.tensor([place_of.get(self.source.class_names[number], -1) for number in numbers])
        known = labels >= 0  # of the others, whose classes have come since the training, every prediction is wrong
        if not bool(known.any()):
            return None
        logits = torch.cat([self._merged(part) for part in self._logits(images, index)])
        calibrating = int(known.sum())
        is_enough = calibrating >= FEWEST_TO_CALIBRATE
        temperature = fit_temperature(logits[known], labels[known]) if is_enough else None
        confidence, predicted = (logits / (temperature or 1.0)).softmax(1).max(1)
        return Check(kind, confidence, predicted == labels, calibrating, temperature)

    @torch.inference_mode()
    def _logits(self, images: StoredImages, index: Tensor, tell: Tell = _without_progress) -> Iterator[Tensor]:
        """Yield (b, classes of the network) float64 logits of some images at a time."""
        network, normalise = self.classifier.network, self.classifier.normalise
        device = next(network.parameters()).device
        done = 0
        for part, found in images_in_parts(images, index, _AT_ONCE):
            yield network(normalise(found.to(device))).cpu().double()  # some devices have no float64
            done += len(part)
            tell(done, len(index))

    def _merged(self, logits: Tensor) -> Tensor:
        """Return logits (b, C) of the classes as they are now: a class that was merged has the sum of probabilities."""
        return torch.stack([logits[:, list(group)].logsumexp(1) for group in self.groups], dim=1)

    def _collect(self, parts: Iterator[Tensor]) -> Predictions:
        found = [
            (self._merged(part) / self.temperature).softmax(1).topk(min(2, len(self.class_names)), dim=1)
            for part in parts
        ]
        values = torch.cat([part.values for part in found]) if found else torch.empty(0, 2, dtype=torch.float64)
        labels = torch.cat([part.indices for part in found]) if found else torch.empty(0, 2, dtype=torch.int64)
        return Predictions(self.class_names, labels[:, 0], values[:, 0], labels[:, -1], values[:, -1])
