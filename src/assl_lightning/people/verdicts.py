"""From everything that was said of a sample to what holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from assl_lightning.people.ledger import Answer, in_time

Conflicts = Literal["error", "latest", "majority"]
"""The policy for a sample about which people differ. error: it waits until they agree; latest: the latest answer
holds; majority: the answer that most people gave holds, and after a tie it waits."""


@dataclass(frozen=True)
class Verdict:
    """What holds of a sample."""

    kind: Literal["label", "skip", "bad", "conflict"]
    label: str | None  # where `kind` is "label"
    votes: tuple[Answer, ...]  # each annotator's latest answer, oldest first; no decisions
    decision: Answer | None = None  # the latest that settles what people differ about

    @property
    def differs(self) -> bool:
        """True where people gave different answers, whether settled or not. A skip differs from no answer."""
        return len({(vote.kind, vote.label) for vote in self.votes if vote.kind != "skip"}) > 1


def verdicts(standing: Iterable[Answer], conflicts: Conflicts) -> Mapping[str, Verdict]:
    """Sample id → verdict, for all samples that have an answer.

    The times of the answers decide which is later (see `in_time`), not the order in which they came. An annotator's
    latest answer is their vote, however often and in whatever round they were asked. A skip gives way to any vote that
    is none. A decision holds whatever the policy and whoever answers later; one to skip gives way to later votes.

    >>> votes = [Answer("a.png", "label", who, "page", 0, name) for who, name in (("Ann", "ok"), ("Bo", "dent"))]
    >>> verdicts(votes, "latest")["a.png"].label, verdicts(votes, "majority")["a.png"].kind
    ('dent', 'conflict')
    """
    last: dict[str, dict[str, Answer]] = {}
    decisions: dict[str, Answer] = {}
    for answer in in_time(standing):
        of_sample = last.setdefault(answer.sample_id, {})
        if answer.decides:
            decisions[answer.sample_id] = answer
            continue
        of_sample.pop(answer.annotator, None)  # so that the order is that of the latest answers
        of_sample[answer.annotator] = answer
    return {name: _verdict(tuple(votes.values()), decisions.get(name), conflicts) for name, votes in last.items()}


def _verdict(votes: tuple[Answer, ...], decision: Answer | None, conflicts: Conflicts) -> Verdict:
    decided = [vote for vote in votes if vote.kind != "skip"]
    if decision is not None:
        if decision.kind != "skip":
            return Verdict(decision.kind, decision.label, votes, decision)
        decided = [vote for vote in decided if in_time([decision, vote])[-1] is vote]
    if not decided:
        return Verdict("skip", None, votes, decision)
    counted = Counter((vote.kind, vote.label) for vote in decided).most_common()
    if len(counted) == 1 or conflicts == "latest":
        return Verdict(decided[-1].kind, decided[-1].label, votes, decision)
    if conflicts == "majority" and counted[0][1] > counted[1][1]:
        kind, label = counted[0][0]
        return Verdict(kind, label, votes, decision)
    return Verdict("conflict", None, votes, decision)
