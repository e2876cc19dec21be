"""What holds of a sample of which several people said something."""

from __future__ import annotations

from typing import Any

import pytest

from assl_lightning.labelling.ledger import Answer
from assl_lightning.labelling.verdicts import Conflicts, verdicts


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
        verdict = verdicts(said(*answers), policy)["a.png"]
        kind = {"-": "skip", "!": "bad", "?": "conflict"}.get(expected, "label")
        assert (verdict.kind, verdict.label) == (kind, expected if kind == "label" else None), policy


def test_votes_are_each_annotators_last_answers_in_their_order() -> None:
    answers = said("Ann:ok", "Bo:dent", "Ann:dent")
    assert verdicts(answers, "error")["a.png"].votes == (answers[1], answers[2])
