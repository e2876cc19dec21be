"""Read a plain dictionary, as Hydra composes it, as a `Config`.

A mistake is a line of a `ConfigurationError`: the key, the value that came, what was expected, and what to do. Nothing
here imports torch, Lightning or Hydra, so that a wrong configuration is refused before they are imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar

from assl_lightning.base.paths import PATH_KEYS, expand
from assl_lightning.base.words import nearest
from assl_lightning.config.contradictions import contradictions_in
from assl_lightning.config.schema import Config, ConfigurationError, fields_of, join_key
from assl_lightning.config.values import read_value, show
from assl_lightning.loop.records import FORMER_KEYS, PROVENANCE_KEYS, with_later_keys
from assl_lightning.loop.targets import with_present_targets

Section = TypeVar("Section")


def read(plain: Mapping[str, Any]) -> Config:
    """Read `plain`, a resolved tree of dictionaries, lists and numbers; it is not changed.

    Paths have the home directory for a leading `~`, see `paths.expand`.

    Raises:
        ConfigurationError: a line for each unknown or missing key, wrong type and value out of range; where there is
            none of these, a line for each contradiction between values.
    """
    errors: list[str] = []
    tree = _without_former_keys(with_present_targets(_with_expanded_paths(plain, "", errors)))
    values = _read_values(tree, errors)
    if errors:
        raise ConfigurationError(errors)
    config = _build(Config, "", values)
    contradictions = contradictions_in(config)
    if contradictions:
        raise ConfigurationError(contradictions)
    return config


def read_written(content: Mapping[str, Any]) -> Config:
    """Read the configuration in the content of a run's config.yaml, leaving out the records of the run's history."""
    return read({key: value for key, value in with_later_keys(content).items() if key not in PROVENANCE_KEYS})


def unknown_key(section: str, name: str, known: Iterable[str]) -> str:
    """Explain why `section` has no key `name`, beside those `known`; "" is the whole configuration."""
    if f"{section}.{name}" in FORMER_KEYS:
        return "is not a key any more, since it follows from the class; leave it out"
    names = sorted(known)
    where = section or "the configuration"
    if not names:
        return f"{where} has no keys yet; add one with a plus, +{where}.{name}=VALUE"
    return f"{where} has no key {name!r}{nearest(name, names)}; its keys are {', '.join(names)}"


def explain_wrong(key: str, value: object) -> str | None:
    """Return the line for a value that is none of those that `key` takes, or None, also where there is no such key."""
    hint, errors = dict(_leaves(Config, "")).get(key), list[str]()
    if hint is not None:
        read_value(hint, value, key, errors)
    return next(iter(errors), None)


def _leaves(section: type, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every key of a section and of those below it, with its type."""
    for _, key, hint in fields_of(section, path):
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _leaves(hint, key)
        else:
            yield key, hint


def _build(section: type[Section], path: str, values: Mapping[str, Any]) -> Section:
    """Return a section, and those below it, with the values of its keys."""
    made = {}
    for name, key, hint in fields_of(section, path):
        is_section = isinstance(hint, type) and is_dataclass(hint)
        made[name] = _build(hint, key, values) if is_section else values[key]
    return section(**made)


def _read_values(tree: Mapping[str, Any], errors: list[str]) -> dict[str, Any]:
    """Return the value of each key, of its type; a line in `errors` for each that is wrong, missing or unknown."""
    hints = dict(_leaves(Config, ""))
    groups: dict[str, list[str]] = {"": []}  # "" is the top
    for key in hints:
        group, _, name = key.rpartition(".")
        groups.setdefault(group, []).append(name)
    values: dict[str, Any] = {}
    for group, names in groups.items():
        content = tree.get(group) if group else tree
        known = [*names, *(filter(None, groups) if not group else ())]
        if group and group not in tree:
            errors.append(_missing(group))
        elif not isinstance(content, Mapping):
            errors.append(f"{show(group, content)}: must be a group of keys; choose one with {group}=OPTION")
        else:
            errors += [
                f"{show(join_key(group, str(name)), value)}: {unknown_key(group, str(name), known)}"
                for name, value in content.items()
                if name not in known and join_key(group, str(name)) not in FORMER_KEYS
            ]
            for name in names:
                key = join_key(group, name)
                if name in content:
                    values[key] = read_value(hints[key], content[name], key, errors)
                else:
                    errors.append(_missing(key))
    return values


def _missing(key: str) -> str:
    return f"{key}: is missing; give it as {key}=VALUE or in the file of its group"


def _with_expanded_paths(value: Any, path: str, errors: list[str]) -> Any:
    """Return `value` with the home directory for `~` in every path; a line in `errors` for each path that has none."""
    if isinstance(value, Mapping):
        return {key: _with_expanded_paths(item, join_key(path, str(key)), errors) for key, item in value.items()}
    if not isinstance(value, str) or path.rpartition(".")[2] not in PATH_KEYS:
        return value
    try:
        return expand(value)
    except ValueError as error:
        errors.append(f"{path}: {error}")
        return value


def _without_former_keys(plain: Any) -> Any:
    """Leave out data.source.unreadable, which sources of this package took before data.unreadable alone decided."""
    match plain:
        case {"data": {"source": {"_target_": str(name), "unreadable": _, **arguments}, **data}, **others}:
            if name.startswith("assl_lightning."):
                return {**others, "data": {**data, "source": {"_target_": name, **arguments}}}
    return plain
