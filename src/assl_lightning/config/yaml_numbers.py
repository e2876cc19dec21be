"""Numbers in YAML files that YAML reads as other numbers than were written: 0010 as 8, 12:30 as 750, 1_0 as 10."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Misread:
    """An item of a list that YAML reads as another number than was written."""

    file: Path
    line: int  # from 1
    text: str  # as it is written
    value: int  # as it is read


def find_misread(directories: Iterable[Path], key: str, values: Sequence[object]) -> Misread | None:
    """Return the first misread item of a list under `key` that YAML reads as `values`, in files below `directories`."""
    for directory in directories:
        for file in sorted(directory.rglob("*.yaml")):
            for items in _lists_under(file, key):
                if len(items) != len(values):
                    continue
                pairs = list(zip(items, values, strict=True))
                misread = [
                    Misread(file, item.start_mark.line + 1, item.value, value)
                    for item, value in pairs
                    if type(value) is int and item.style is None and item.value != str(value)
                ]
                if misread and all(_reads_as(item, value) for item, value in pairs):
                    return misread[0]
    return None


def _lists_under(file: Path, key: str) -> Iterator[list[yaml.ScalarNode]]:
    """Yield the lists of plain or quoted values under `key`, anywhere in a file; none if it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
        waiting = [yaml.compose(text, Loader=yaml.SafeLoader)] if key in text else []
    except (OSError, ValueError, yaml.YAMLError):
        return
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # by an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                waiting.append(value)
                is_list = isinstance(value, yaml.SequenceNode) and name.value == key
                if is_list and all(isinstance(item, yaml.ScalarNode) for item in value.value):
                    yield value.value


def _reads_as(item: yaml.ScalarNode, value: object) -> bool:
    """True where YAML reads `item` as `value`."""
    if item.style is not None:
        return bool(item.value == value)
    try:
        return bool(yaml.safe_load(item.value) == value)
    except yaml.YAMLError:
        return False
