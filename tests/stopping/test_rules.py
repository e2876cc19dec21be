"""Every rule, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import pytest

from assl_lightning.stopping.agreement import Agreement
from assl_lightning.stopping.rules import Progress, StopOnAccuracy, StopOnAgreement, StopOnPlateau, StopRule


def rounds(
    accuracies: Sequence[float] = (), kappas: Sequence[float | None] = (), floors: Sequence[float | None] = ()
) -> list[Progress]:
    def agreement(values: Sequence[float | None], number: int) -> Agreement | None:
        kappa = values[number] if number < len(values) else None
        return None if kappa is None else Agreement(100, 90, kappa, 0.01, kappa)

    return [
        Progress(
            round=number,
            labels=10 * (number + 1),
            accuracy=accuracies[number] if accuracies else 0.5,
            test_images=100,
            agreement=agreement(kappas, number),
            floor=agreement(floors, number),
        )
        for number in range(max(len(accuracies), len(kappas)))
    ]


def first_stop(rule: StopRule, history: Sequence[Progress]) -> int | None:
    return next((number for number in range(len(history)) if rule.decide(history[: number + 1])), None)


def test_agreement_needs_the_mean_of_three_rounds() -> None:
    rule = StopOnAgreement(kappa=0.9)
    kappas = [None, 0.99, 0.95, 0.7, 0.95, 0.95, 0.96]
    # means of three from round 3 on: 0.88, 0.867, 0.867, 0.953
    assert first_stop(rule, rounds(kappas=kappas)) == 6
    assert first_stop(rule, rounds(kappas=kappas[:6])) is None
    assert first_stop(StopOnAgreement(kappa=0.9, rounds=1), rounds(kappas=kappas)) == 1
    assert StopOnAgreement(kappa=0.95, rounds=2).decide(rounds(kappas=kappas)) == (
        "predictions hardly change: κ of the last 2 rounds (mean) is 0.955, at least 0.950"
    )


def test_agreement_that_is_not_known_ends_nothing() -> None:
    assert first_stop(StopOnAgreement(kappa=0.0, rounds=2), rounds(kappas=[None, 1.0, None, 1.0])) is None


def test_no_more_agreement_is_asked_for_than_two_trainings_on_the_same_labels_have() -> None:
    rule = StopOnAgreement(kappa=0.99, rounds=1)
    kappas, floors = [None, 0.8, 0.86, 0.9], [None, None, 0.85, None]
    assert first_stop(rule, rounds(kappas=kappas, floors=floors)) == 2, "0.86 ≥ 0.85"
    assert first_stop(rule, rounds(kappas=kappas)) is None
    assert "at least 0.850, that of two trainings" in str(rule.decide(rounds(kappas=kappas, floors=floors)))
    assert first_stop(StopOnAgreement(kappa=0.8, rounds=1), rounds(kappas=kappas, floors=[0.99])) == 1


def test_a_plateau_is_a_best_accuracy_that_no_longer_grows() -> None:
    rule = StopOnPlateau(min_gain=0.01, rounds=2)
    # round 3: 0.81 and 0.805 against 0.80: a gain of 0.01; round 4: 0.805 and 0.812 against 0.81: 0.002
    course = [0.6, 0.8, 0.81, 0.805, 0.812, 0.9]
    assert first_stop(rule, rounds(course)) == 4
    assert first_stop(StopOnPlateau(min_gain=0.011, rounds=2), rounds(course)) == 3
    assert first_stop(StopOnPlateau(min_gain=0.0, rounds=1), rounds(course)) == 3, "a loss, and not an equal value"
    assert rule.decide(rounds(course[:5])) == (
        "the accuracy stands still: at best 81.20 % in the last 2 rounds, and 81.00 % before, a gain of less than "
        "1.00 points"
    )


def test_a_plateau_looks_at_known_accuracies_alone() -> None:
    rule = StopOnPlateau(min_gain=0.01, rounds=2)
    assert first_stop(rule, rounds([0.8, nan, nan])) is None
    assert first_stop(rule, rounds([0.8, nan, 0.8, 0.8])) == 3


def test_an_accuracy_is_reached_or_is_so_for_certain() -> None:
    course = [0.9, 0.95, 0.99]
    assert first_stop(StopOnAccuracy(accuracy=0.95), rounds(course)) == 1
    # Wilson's interval of 99 among 100 begins at 0.9455, that of 95 at 0.888
    assert first_stop(StopOnAccuracy(accuracy=0.94, certain=True), rounds(course)) == 2
    assert first_stop(StopOnAccuracy(accuracy=0.95, certain=True), rounds(course)) is None
    assert StopOnAccuracy().decide(rounds(course[:2])) == (
        "the accuracy is high enough: 95.00 % (95 % interval from 88.8 %), and 95.00 % was asked for"
    )
    unknown = Progress(round=0, labels=10, accuracy=nan)
    assert StopOnAccuracy(accuracy=0.0).decide([unknown]) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StopOnAgreement(kappa=1.5), r"kappa must be in \[0, 1\]; got 1.5"),
        (lambda: StopOnPlateau(rounds=0), "rounds must be at least 1; got 0"),
        (lambda: StopOnAccuracy(accuracy=95), r"accuracy must be in \[0, 1\]; got 95"),
    ],
)
def test_a_constant_out_of_range_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
