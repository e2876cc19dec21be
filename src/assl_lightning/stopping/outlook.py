"""Outlook on labelling more, from the rounds so far, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assl_lightning.base.words import counted, per_cent
from assl_lightning.stopping.agreement import Agreement
from assl_lightning.stopping.learning_curve import LEAST_ROUNDS, Expected, expected_accuracy
from assl_lightning.stopping.rules import Progress


@dataclass(frozen=True)
class Outlook:
    """Outlook on labelling more, from the rounds up to one of them."""

    last: Progress
    floor: tuple[int, Agreement] | None  # the newest round that was trained twice, and the agreement of the two
    expected: Expected | None  # after the next batch; None: too few rounds
    rounds: int  # so far

    @classmethod
    def of(cls, rounds: Sequence[Progress], next_batch: int | None) -> Outlook:
        """Look ahead from at least one trained round, in order, to that after `next_batch` labels more (None: none)."""
        last = rounds[-1]
        floors = [(progress.round, progress.floor) for progress in rounds if progress.floor is not None]
        expected = None
        if next_batch:
            labels, accuracies = ([getattr(of, name) for of in rounds] for name in ("labels", "accuracy"))
            expected = expected_accuracy(labels, accuracies, last.labels + next_batch, last.test_images)
        return cls(last, floors[-1] if floors else None, expected, len(rounds))

    @property
    def is_known(self) -> bool:
        """True if there is a number to show."""
        return self.last.agreement is not None or self.expected is not None

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield a word and a sentence for each number that is known, and for what is missing."""
        agreement = self.last.agreement
        if agreement is not None:
            images = counted(agreement.images, "image")
            yield "changed", f"{changed(agreement)} since the round before; {kappa(agreement)} ({images})"
            if self.floor is not None:
                number, floor = self.floor
                yield "floor", f"{changed(floor)} between two trainings on the labels of round {number}; {kappa(floor)}"
            yield "bound", most_change(agreement)
        if self.expected is not None:
            yield "expected", in_words(self.expected)
        elif self.rounds < LEAST_ROUNDS:
            yield "expected", f"too few rounds to say: {self.rounds}, and {LEAST_ROUNDS} are needed"


def changed(agreement: Agreement) -> str:
    """Write the share of the predictions that changed, with its interval."""
    low, high = agreement.changed_interval
    return f"{per_cent(agreement.changed)} % [{per_cent(low)}, {per_cent(high)}] of the predictions"


def kappa(agreement: Agreement) -> str:
    """Write κ with its interval."""
    low, high = agreement.kappa_interval
    return f"κ {agreement.kappa:.3f} [{low:.3f}, {high:.3f}]"


def most_change(agreement: Agreement) -> str:
    """Write by how much the accuracy, and a class's F-measure, can have changed at most."""
    accuracy = f"the accuracy changed by at most {per_cent(agreement.changed_interval[1])} points on such images"
    f_measure = agreement.most_f_change
    if f_measure is None:
        return accuracy
    return f"{accuracy}, the F-measure of a class by at most {per_cent(f_measure)}"


def in_words(expected: Expected) -> str:
    """Write an expected accuracy with its interval."""
    low, high = per_cent(expected.low), per_cent(expected.high)
    return (
        f"{per_cent(expected.accuracy)} % [{low}, {high}] accuracy with {counted(expected.labels, 'label')} "
        f"(curve through {expected.rounds} rounds)"
    )
