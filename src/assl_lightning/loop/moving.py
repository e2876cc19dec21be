"""Data in another place when a run goes on: paths may change, their contents must be the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from assl_lightning.base.paths import PATH_KEYS

CONTENTS = "contents"
"""Key of config.yaml: digests of weights, by their key, and of "data" whose samples have no names of files."""


def in_one_spelling(config: Any) -> Any:
    """The configuration with its paths in one spelling: `photos` for `./photos` and `photos/`.

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


def places(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The keys of paths in which the two differ, and which may, since their `CONTENTS` are the same.

    Samples that have names are told by these, which the run's own files hold; others, and weights, by a digest.
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
