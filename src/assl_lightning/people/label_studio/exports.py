"""Read a JSON export of Label Studio as answers; an error names all problems at once.

Of several annotations of one sample by one person, also in two tasks, the newest counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.words import shortened
from assl_lightning.data.answers import Incoming
from assl_lightning.people.batch import LabelBatch
from assl_lightning.people.label_studio.convention import BAD_IMAGE, CONTROL
from assl_lightning.people.label_studio.errors import ExportError

__all__ = ["ExportError", "is_export", "read_export", "tasks_of_batch"]

_OF_TABLES = frozenset({"annotation_id", "annotator", "lead_time"})  # keys of JSON-MIN
_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class _Annotation:
    """The annotation of one person in one task, not parsed yet."""

    where: str
    sample_id: str
    annotator: str
    at: datetime | None
    number: int  # Label Studio's; it grows
    content: dict[str, Any]


def is_export(content: object) -> bool:
    """True if the content of a JSON file comes from Label Studio, as JSON or as JSON-MIN."""
    return isinstance(content, list) and any(_is_task(row) or _is_row_of_a_table(row) for row in content)


def read_export(content: object, where: str) -> list[Incoming]:
    """Return the answers in an export, oldest first, one for each person and sample; `where` is the file's name.

    Raises:
        ExportError: it is not a JSON export, or a part of it is invalid.
    """
    problems: list[str] = []
    tasks = _tasks(content, where)
    annotations = [
        annotation for number, task in enumerate(tasks, 1) for annotation in _annotations(task, number, where, problems)
    ]
    newest: dict[tuple[str, str], _Annotation] = {}
    for annotation in sorted(annotations, key=_age):
        newest[annotation.sample_id, annotation.annotator] = annotation
    answers = [_answer(annotation, problems) for annotation in sorted(newest.values(), key=_age)]
    if problems:
        raise ExportError(problems)
    return [answer for answer in answers if answer is not None]


def tasks_of_batch(content: object, batch: LabelBatch, where: str) -> list[object]:
    """Return the tasks of an export that were made for `batch`; a project may have those of several rounds and runs.

    Raises:
        ExportError: it is not a JSON export, or has tasks and none of them is the batch's.
    """
    exported = _tasks(content, where)
    tasks = [task for task in exported if _is_of(task, batch)]
    if exported and not tasks:
        raise ExportError(
            [
                f"{where} must have tasks of round {batch.round} of the run {batch.run_id}; none of its "
                f"{len(exported)} tasks is; export the project into which {batch.directory / 'tasks.json'} was imported"
            ]
        )
    return tasks


def _is_of(task: object, batch: LabelBatch) -> bool:
    meta = task.get("meta") if isinstance(task, dict) else None
    return isinstance(meta, dict) and (meta.get("run_id"), meta.get("round")) == (batch.run_id, str(batch.round))


def _is_task(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("data"), dict)


def _is_row_of_a_table(row: object) -> bool:
    return isinstance(row, dict) and row.keys() >= _OF_TABLES


def _tasks(content: object, where: str) -> list[object]:
    """Return the content, a list of tasks that may have been labelled, or raise an `ExportError`."""
    if not isinstance(content, list):
        raise ExportError(
            [
                f"{where} must be Label Studio's JSON export, a list of tasks; it is {_kind(content)}; export the "
                f"project once more, as JSON"
            ]
        )
    if any(_is_row_of_a_table(row) for row in content):
        raise ExportError(
            [
                f"{where} must be Label Studio's full JSON export; it is JSON-MIN, from which skipped images are "
                f"missing; export the project once more, as JSON"
            ]
        )
    if content and all(_is_task(row) and "annotations" not in row for row in content):
        raise ExportError(
            [
                f"{where} must be Label Studio's JSON export; its tasks have no annotations, as those that are sent "
                f"there; export the project in which they were labelled"
            ]
        )
    return content


def _annotations(task: object, number: int, where: str, problems: list[str]) -> Iterator[_Annotation]:
    """Yield the annotations of a task, which is entry `number` of the export."""
    if not isinstance(task, dict):
        problems.append(f"{where}, entry {number} must be a task; it is {_kind(task)}; export the project once more")
        return
    where = f"{where}, task {task['id']}" if is_integer(task.get("id")) else f"{where}, entry {number}"
    annotations = task.get("annotations")
    if not isinstance(annotations, list):
        problems.append(
            f"{where} must have a list of annotations; it has {_kind(annotations)}; export the project once more, as "
            f"JSON"
        )
        return
    if not annotations:
        return
    data = task.get("data")
    sample_id = data.get("sample_id") if isinstance(data, dict) else None
    if not isinstance(sample_id, str) or not sample_id:
        problems.append(
            f"{where} must have the sample's id as a text in its data, sample_id; it has {_short(sample_id)}; import "
            f"the tasks from tasks.json, which has them"
        )
        return
    where = f"{where} ({sample_id})"
    for annotation in annotations:
        try:
            yield _annotation(annotation, where, sample_id)
        except ValueError as error:
            problems.append(f"{where} has an annotation that cannot be read: {error}; export the project once more")


def _annotation(content: object, where: str, sample_id: str) -> _Annotation:
    if not isinstance(content, dict):
        raise ValueError(f"it must be an object; it is {_kind(content)}")  # noqa: TRY004 - one of a file's problems
    number = content.get("id")
    at = content.get("updated_at") or content.get("created_at")
    return _Annotation(
        where=where,
        sample_id=sample_id,
        annotator=_annotator(content.get("completed_by")),
        at=None if at is None else _time(at),
        number=number if isinstance(number, int) else 0,
        content=content,
    )


def _annotator(completed_by: object) -> str:
    """Return the annotator's e-mail address or number, "" if unknown."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    if completed_by is None:
        return ""
    if isinstance(completed_by, str) or is_integer(completed_by):
        return str(completed_by)
    raise ValueError(f"completed_by must be a person's number or e-mail; it is {_short(completed_by)}")


def _time(text: object) -> datetime:
    """Read a time with any number of digits of a second, and with Z, which Python 3.10 does not read."""
    matched = _TIME.fullmatch(text) if isinstance(text, str) else None
    try:
        if matched is not None:
            seconds, fraction, zone = matched.groups()
            zone = "+00:00" if zone in {None, "Z"} else f"{zone[:3]}:{zone[-2:]}"
            return datetime.fromisoformat(f"{seconds}.{(fraction or '0'):0<6}{zone}").astimezone(timezone.utc)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"updated_at must be a time such as 2026-11-22T13:12:04Z; it is {_short(text)}")


def _age(annotation: _Annotation) -> tuple[datetime, int]:
    return annotation.at or _EARLIEST, annotation.number


def _answer(annotation: _Annotation, problems: list[str]) -> Incoming | None:
    skip = Incoming(
        where=annotation.where,
        sample_id=annotation.sample_id,
        kind="skip",
        annotator=annotation.annotator,
        seconds=_seconds(annotation.content.get("lead_time")),
        at=None if annotation.at is None else annotation.at.isoformat(timespec="milliseconds"),
    )
    if annotation.content.get("was_cancelled") is True:  # what had been chosen before the skip may still be there
        return skip
    chosen = _choices(annotation.content.get("result"))
    if len(chosen) != 1:
        found = f"{len(chosen)} were chosen ({', '.join(map(_short, chosen))})" if chosen else "none was chosen"
        by = f"of {annotation.annotator} " if annotation.annotator else ""
        problems.append(
            f"{annotation.where}: the annotation {by}must choose one class in {CONTROL!r}; {found}; correct it in "
            f"Label Studio and export again"
        )
        return None
    if chosen[0] == BAD_IMAGE:
        return replace(skip, kind="bad")
    return replace(skip, kind="label", label=chosen[0])


def _choices(result: object) -> Sequence[str]:
    """Return the distinct choices in an annotation's `CONTROL`; other controls are ignored."""
    chosen: dict[str, None] = {}
    for region in result if isinstance(result, list) else []:
        if not isinstance(region, dict) or (region.get("type"), region.get("from_name")) != ("choices", CONTROL):
            continue
        value = region.get("value")
        choices = value.get("choices") if isinstance(value, dict) else None
        for choice in choices if isinstance(choices, list) else [choices]:
            if choice:
                chosen[choice if isinstance(choice, str) else _short(choice)] = None
    return list(chosen)


def _seconds(lead_time: object) -> float | None:
    """Return the seconds that the annotation took, by the browser's clock; None if the value is no duration."""
    return float(lead_time) if is_number(lead_time) and 0 <= lead_time < 1e9 else None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "nothing"}
    return names.get(type(value), "a number")


def _short(value: object) -> str:
    if value is None:
        return "none"
    return shortened(repr(value))
