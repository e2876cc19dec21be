"""What holds of a sample of which several people said something."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assl_lightning.data.answers import Answer, Conflicts, resolve


def said(*answers: str) -> list[Answer]:
    """ "Ann:ok" is Ann's label, "Ann:-" a skip, "Ann:!" a bad image."""
    made = []
    for number, (who, _, what) in enumerate((text.partition(":") for text in answers), start=1):
        kind: Any = {"-": "skip", "!": "bad"}.get(what, "label")
        made.append(Answer("a.png", kind, who, "page", 0, label=what if kind == "label" else None, id=number))
    return made


@pytest.mark.parametrize(
    ("answers", "error", "latest", "majority"),
    [
        (["Ann:ok"], "ok", "ok", "ok"),
        (["Ann:ok", "Bo:ok"], "ok", "ok", "ok"),
        (["Ann:ok", "Ann:dent"], "dent", "dent", "dent"),  # a change of mind is no conflict
        (["Ann:ok", "Bo:dent"], "?", "dent", "?"),
        (["Ann:ok", "Bo:dent", "Cy:ok"], "?", "ok", "ok"),
        (["Ann:ok", "Cy:ok", "Bo:dent"], "?", "dent", "ok"),
        (["Ann:ok", "Bo:dent", "Ann:dent"], "dent", "dent", "dent"),
        (["Ann:-"], "-", "-", "-"),
        (["Ann:ok", "Bo:-"], "ok", "ok", "ok"),  # a skip gives way, whenever it came
        (["Ann:ok", "Ann:-"], "-", "-", "-"),
        (["Ann:!"], "!", "!", "!"),
        (["Ann:!", "Bo:ok"], "?", "ok", "?"),
        (["Ann:!", "Bo:ok", "Cy:!"], "?", "!", "!"),
        (["Ann:a", "Bo:b", "Cy:c"], "?", "c", "?"),
        (["Ann:a", "Bo:b", "Cy:c", "Di:b"], "?", "b", "b"),
    ],
)
def test_the_policy_decides(answers: list[str], error: str, latest: str, majority: str) -> None:
    policies: tuple[tuple[Conflicts, str], ...] = (("error", error), ("latest", latest), ("majority", majority))
    for policy, expected in policies:
        verdict = resolve(said(*answers), policy)["a.png"]
        kind = {"-": "skip", "!": "bad", "?": "conflict"}.get(expected, "label")
        assert (verdict.kind, verdict.label) == (kind, expected if kind == "label" else None), policy


def test_votes_are_each_annotators_last_answers_in_their_order() -> None:
    answers = said("Ann:ok", "Bo:dent", "Ann:dent")
    assert resolve(answers, "error")["a.png"].votes == (answers[1], answers[2])


POLICIES: tuple[Conflicts, ...] = ("error", "latest", "majority")


def decided(what: str, at: str = "2026-01-31T12:00:00.000+00:00", who: str = "Di") -> Answer:
    return replace(said(f"{who}:{what}")[0], decides=True, at=at)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_decision_holds_whatever_the_policy_and_whoever_answers_later(policy: Conflicts) -> None:
    votes = [
        replace(vote, at=f"2026-01-31T{10 + 3 * n}:00:00.000+00:00") for n, vote in enumerate(said("Ann:ok", "Bo:ok"))
    ]
    verdict = resolve([*votes, decided("dent")], policy)["a.png"]
    assert (verdict.kind, verdict.label) == ("label", "dent")
    assert verdict.votes == tuple(votes), "a decision is no vote, so that it does not count as an opinion"
    assert verdict.decision == decided("dent")
    assert not verdict.differs
    assert resolve([*votes, decided("!")], policy)["a.png"].kind == "bad"


def test_of_several_decisions_the_latest_holds_by_its_time() -> None:
    later = decided("scratch", "2026-01-31T12:30:00.000+00:00", "Eve")
    assert resolve([later, *said("Ann:ok", "Bo:dent"), decided("dent")], "error")["a.png"].label == "scratch"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_decision_to_skip_gives_way_to_what_is_said_after_it(policy: Conflicts) -> None:
    early, late = "2026-01-31T11:00:00.000+00:00", "2026-01-31T13:00:00.000+00:00"
    before = [replace(vote, at=early) for vote in said("Ann:ok", "Bo:dent")]
    assert resolve([*before, decided("-")], policy)["a.png"].kind == "skip"
    again = replace(said("Cy:dent")[0], at=late)
    assert resolve([*before, decided("-"), again], policy)["a.png"].label == "dent"


def test_who_skips_differs_from_nobody() -> None:
    assert resolve(said("Ann:ok", "Bo:-"), "error")["a.png"].differs is False
    assert resolve(said("Ann:ok", "Bo:!"), "latest")["a.png"].differs is True
