"""Rules that end a run before its last round, and say why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from math import isnan
from statistics import fmean
from typing import Annotated, ClassVar

from assl_lightning.base.proportions import wilson_interval
from assl_lightning.base.rules import UP_TO_ONE, at_least, check_fields
from assl_lightning.base.words import per_cent
from assl_lightning.stopping.agreement import Agreement


@dataclass(frozen=True)
class Progress:
    """A trained round, as a rule sees it."""

    round: int
    labels: int  # that it trained on
    accuracy: float  # on the test set, of the averaged weights, in [0, 1]; NaN where it is not known
    test_images: int | None = None
    agreement: Agreement | None = None  # with the round before, on unlabelled images that both saw; None: not known
    floor: Agreement | None = None  # of this round with a second training on the same labels; None: there was none


class StopRule(ABC):
    """A rule that looks at the trained rounds, after each of them, and may end the run."""

    needs_agreement: ClassVar[bool] = False
    """True if the rule cannot decide without `Progress.agreement`."""

    @property
    def name(self) -> str:
        """The rule with its constants, by which a run that it ended knows it again."""
        kind = type(self)
        return repr(self) if is_dataclass(self) else f"{kind.__module__}.{kind.__qualname__}"

    @abstractmethod
    def decide(self, rounds: Sequence[Progress]) -> str | None:
        """Return why no more is to be labelled, a part of a sentence, or None to go on.

        Args:
            rounds: all trained rounds in order, at least one.
        """


@dataclass(frozen=True)
class StopOnAgreement(StopRule):
    """Stop when predictions hardly change: the mean κ of the last rounds reaches `kappa`.

    Bloodgood and Vijay-Shanker, CoNLL 2009, with 0.99 and three rounds. Two trainings on the same labels do not agree
    completely either. Where a round was trained twice (`repeat_round`), no more than its agreement is asked of it and
    of the rounds after it.

    Args:
        kappa: in [0, 1].
        rounds: of which the mean is taken.
    """

    kappa: Annotated[float, UP_TO_ONE] = 0.99
    rounds: Annotated[int, at_least(1)] = 3

    needs_agreement: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)

    def decide(self, rounds: Sequence[Progress]) -> str | None:
        """Return why no more is to be labelled, or None."""
        known = [progress.agreement.kappa for progress in rounds[-self.rounds :] if progress.agreement is not None]
        if len(known) < self.rounds:
            return None
        floor = next((progress.floor for progress in reversed(rounds) if progress.floor is not None), None)
        wanted = self.kappa if floor is None else min(self.kappa, floor.kappa)
        mean = fmean(known)
        if mean < wanted:
            return None
        of_floor = "" if wanted == self.kappa else ", that of two trainings on the same labels"
        of_rounds = "the last round" if self.rounds == 1 else f"the last {self.rounds} rounds (mean)"
        return f"predictions hardly change: κ of {of_rounds} is {mean:.3f}, at least {wanted:.3f}{of_floor}"


@dataclass(frozen=True)
class StopOnPlateau(StopRule):
    """Stop when the test accuracy has not grown by `min_gain` for some rounds.

    The best accuracy of the last `rounds` rounds is compared with the best one before them.

    Args:
        min_gain: in [0, 1]; 0.005 = half a percentage point.
        rounds: without such a gain, after which the run ends.
    """

    min_gain: Annotated[float, UP_TO_ONE] = 0.005
    rounds: Annotated[int, at_least(1)] = 2

    def __post_init__(self) -> None:
        check_fields(self)

    def decide(self, rounds: Sequence[Progress]) -> str | None:
        """Return why no more is to be labelled, or None."""
        accuracies = [progress.accuracy for progress in rounds if not isnan(progress.accuracy)]
        if len(accuracies) <= self.rounds:
            return None
        before, last = max(accuracies[: -self.rounds]), max(accuracies[-self.rounds :])
        if round(last - before, 7) >= self.min_gain:  # records have seven digits
            return None
        newest = "round" if self.rounds == 1 else f"{self.rounds} rounds"
        return (
            f"the accuracy stands still: at best {per_cent(last, digits=2)} % in the last {newest}, and "
            f"{per_cent(before, digits=2)} % before, a gain of less than {per_cent(self.min_gain, digits=2)} points"
        )


@dataclass(frozen=True)
class StopOnAccuracy(StopRule):
    """Stop when the test accuracy is high enough.

    Args:
        accuracy: in [0, 1].
        certain: ask for the lower end of its 95 % interval (Wilson's, for the number of test images) to be as high,
            and not only for the accuracy itself.
    """

    accuracy: Annotated[float, UP_TO_ONE] = 0.95
    certain: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def decide(self, rounds: Sequence[Progress]) -> str | None:
        """Return why no more is to be labelled, or None."""
        last, low = rounds[-1], None
        if last.test_images and not isnan(last.accuracy):
            low, _ = wilson_interval(round(last.accuracy * last.test_images), last.test_images)
        reached = low if self.certain else last.accuracy
        if reached is None or not reached >= self.accuracy:
            return None
        of_interval = "" if low is None else f" (95 % interval from {per_cent(low)} %)"
        return (
            f"the accuracy is high enough: {per_cent(last.accuracy, digits=2)} %{of_interval}, "
            f"and {per_cent(self.accuracy, digits=2)} % was asked for"
        )
