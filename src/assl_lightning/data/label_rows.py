"""Read the rows of a table of labels as answers, of a folder of images and of people who label alike.

A row has a label, or a status in place of one: skip, or bad. A row with neither is no answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite

from assl_lightning.base.tables import MISSING_WORDS, Columns, Row
from assl_lightning.data.answers import (
    Incoming,
    Kind,
    ResolvedLabel,
    Voice,
    as_utc,
    content_of,
    describe_change,
    describe_difference,
    later_of,
    resolve,
    utc_now,
    voice_of,
)

_KINDS: Mapping[str, Kind] = {"": "label", "skip": "skip", "bad": "bad"}
"""The cell of the column status → the kind of answer."""

_DECIDES = ("yes", "True")  # the second as Parquet and JSON have it


def label_columns(class_names: Iterable[str]) -> Columns:
    """Return the columns of a table of labels; a class may have a name that other programs use for a missing value."""
    return Columns(
        needed=("sample_id", "label"),
        optional=("status", "annotator", "seconds", "at", "decides"),
        exact=("sample_id", "label"),
        words={"sample_id": MISSING_WORDS, "label": frozenset(class_names)},
    )


def read_label_row(row: Row, name: str = "", annotator: str = "") -> tuple[Incoming | None, list[str]]:
    """Return the answer in a row of `label_columns`, None if it has none, and a sentence for each problem.

    Args:
        row: a row of a file.
        name: the file's name, with which the place of the answer and the sentences begin; "" to leave it out.
        annotator: the annotator of a row without one.
    """
    where = f"{name}, {row.where}" if name else row.where
    problems = [row.fault] if row.fault else list(_problems_of(row.cells))
    if problems or not _is_answered(row.cells):
        return None, [f"{where}: {problem}" for problem in problems]
    return _answer_in(row.cells, where, annotator), []


def kind_of(cells: Mapping[str, str]) -> Kind:
    """Return the kind of answer of a row without `problem_of_status`; a row without a label is "label", too."""
    return _KINDS[cells["status"]]


def problem_of_status(cells: Mapping[str, str]) -> str:
    """Return what is wrong with the status of a row, or with its label beside it, or ""."""
    label, status = cells["label"].strip(), cells["status"]
    if status not in _KINDS:
        return f"status must be skip, bad or empty; got {status!r}"
    if label and status:
        return f"either label or status must be empty; got the label {label!r} and the status {status!r}"
    return ""


def resolve_rows(answers: Iterable[Incoming]) -> tuple[Mapping[str, ResolvedLabel], list[str]]:
    """Return sample id → the answer that counts, by the answers of one file alone, and all contradictions in it.

    The rules are those of the ledger: an annotator's latest answer counts, if their times tell which that is, and
    people must agree, but for a skip.
    """
    now = utc_now()
    problems: list[str] = []
    latest: dict[Voice, Incoming] = {}
    for answer in answers:
        first = latest.setdefault(voice_of(answer), answer)
        later = later_of(first, answer, now)
        if later is None:
            problems.append(describe_change(answer, first))
        else:
            latest[voice_of(answer)] = later
    resolved = resolve([answer.as_answer(0) for answer in latest.values()], "error")
    in_conflict: dict[str, list[Incoming]] = {name: [] for name, label in resolved.items() if label.kind == "conflict"}
    for answer in latest.values():
        if answer.sample_id in in_conflict and answer.kind != "skip":
            in_conflict[answer.sample_id].append(answer)
    for *others, last in in_conflict.values():
        contrary = [other for other in others if content_of(other) != content_of(last)]
        problems.append(f"{describe_difference(last, contrary)}; agree on one")
    return resolved, problems


def _is_answered(cells: Mapping[str, str]) -> bool:
    return bool(cells["label"].strip() or cells["status"])


def _problems_of(cells: Mapping[str, str]) -> Iterator[str]:
    if not _is_answered(cells):
        return
    if not cells["sample_id"]:
        yield f"the answer {cells['label'] or cells['status']!r} needs a sample_id; its cell is empty"
    if problem := problem_of_status(cells):
        yield problem
    if cells["seconds"] and _seconds(cells["seconds"]) is None:
        yield f"seconds must be a number of at least 0 such as 1.5, or empty; got {cells['seconds']!r}"
    if cells["decides"] not in ("", *_DECIDES):
        yield f"decides must be {', '.join(_DECIDES)} or empty; got {cells['decides']!r}"
    if cells["at"] and _time(cells["at"]) is None:
        yield f"at must be a time such as 2026-01-31T14:05:00+01:00, or empty; got {cells['at']!r}"


def _answer_in(cells: Mapping[str, str], where: str, annotator: str) -> Incoming:
    return Incoming(
        where=where,
        sample_id=cells["sample_id"],
        kind=kind_of(cells),
        label=cells["label"] if cells["label"].strip() else None,
        annotator=cells["annotator"] or annotator,
        seconds=_seconds(cells["seconds"]),
        at=_time(cells["at"]),
        decides=cells["decides"] in _DECIDES,
    )


def _seconds(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) and number >= 0 and "_" not in text else None


def _time(text: str) -> str | None:
    """Return a time in UTC, as the ledger has it; None if it is none."""
    try:
        return as_utc(text)
    except ValueError:
        return None
