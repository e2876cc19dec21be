"""Data that were moved before a run goes on: their paths may change, their contents must not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assl_lightning.base.paths import PATH_KEYS

CONTENTS = "contents"
"""Key of config.yaml: a digest for each key of weights, and for "data" whose samples have no file names."""


def in_one_spelling(config: Any) -> Any:
    """Normalise the paths of a configuration: `./photos` and `photos/` become `photos`.

    >>> in_one_spelling({"data": {"root": "./photos/", "name": "a/"}})
    {'data': {'root': 'photos', 'name': 'a/'}}
    """
    if not isinstance(config, dict):
        return config
    return {
        key: os.path.normpath(value)
        if key in PATH_KEYS and isinstance(value, str) and value
        else in_one_spelling(value)
        for key, value in config.items()
    }


def with_run_dir(config: Any, before: str, after: str) -> Any:
    """Put another directory of a run in the place of the one before, at the start of paths below it, however spelled.

    >>> with_run_dir({"strategy": {"directory": "runs/a/kept"}, "root": "runs/ab", "name": "runs/a"}, "runs/a", "b")
    {'strategy': {'directory': 'b/kept'}, 'root': 'runs/ab', 'name': 'runs/a'}
    """
    if isinstance(config, Mapping):
        return {key: with_run_dir(value, before, after) for key, value in config.items()}
    if isinstance(config, str) and _spelled(config).startswith(f"{_spelled(before)}/"):
        return _spelled(after) + _spelled(config).removeprefix(_spelled(before))
    return config


def _spelled(path: str) -> str:
    return os.path.normpath(Path(path).expanduser() if path.startswith("~/") else path)


def moved_paths(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of paths that may differ between two configurations, because the contents are the same.

    The contents of samples that have names are compared by the names in the run's own files; the contents of other
    samples, and of weights, by their digest in `CONTENTS`.
    """
    known, found = ({**(config.get(CONTENTS) or {})} for config in (before, now))
    for key in _paths(before, now):
        content = "data" if key.startswith("data.") else key
        has_names = content == "data" and "data" not in known and "data" not in found
        if has_names or (content in known and known[content] == found.get(content)):
            yield key


def _paths(before: Any, now: Any, prefix: str = "") -> Iterator[str]:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return
    for key in before.keys() & now.keys():
        name = f"{prefix}{key}"
        if key in PATH_KEYS and isinstance(before[key], str) and isinstance(now[key], str):
            yield name
        yield from _paths(before[key], now[key], f"{name}.")
