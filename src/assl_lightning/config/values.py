"""One value of a configuration: the value as one would type it, and the value as the type of its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.rules import Rule, take_apart
from assl_lightning.base.words import nearest, shortened

Node = dict[str, Any]
"""A part of the configuration that names its class in `_target_`; the rest are that class's own arguments."""


def show(key: str, value: object) -> str:
    """Write `key=value` as one would type it, long values cut short.

    >>> show("score.alpha", None), show("oracle", {"_target_": "x"})
    ('score.alpha=null', 'oracle={_target_: x}')
    """
    return f"{key}={shortened(as_yaml(value))}"


def as_yaml(value: object) -> str:
    """Write a value as YAML, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(as_yaml(item) for item in value) + "]"
    words: dict[object, str] = {None: "null", True: "true", False: "false", "": "''"}
    return words[value] if value is None or isinstance(value, bool) or value == "" else str(value)


def read_value(hint: Any, value: object, key: str, errors: list[str]) -> Any:
    """Return `value` as the type `hint`, or None and a line in `errors`."""
    kind, rule, may_be_none = take_apart(hint)
    if value is None and may_be_none:
        return None
    if kind == Node:
        return _read_node(value, key, errors)
    converted = _convert(kind, value)
    if converted is not _WRONG and (rule is None or rule.test(converted)):
        return converted
    expected = [_expected(kind)] if converted is _WRONG and not _names_type(rule, kind) else []
    must_be = ", ".join([*expected, *([rule.sentence] if rule else []), *(["or null"] if may_be_none else [])])
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    errors.append(f"{show(key, value)}: must be {must_be}{nearest(str(value), choices)}")
    return None


def _read_node(value: object, key: str, errors: list[str]) -> Node | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str) or not value["_target_"]:
        errors.append(f"{show(key, value)}: must name the class to build in {key}._target_, as package.module.Class")
        return None
    return dict(value)


_WRONG = object()


def _convert(hint: Any, value: object) -> Any:
    """Return `value` as `hint`, or `_WRONG`. An integer is a number; a boolean and a text are not."""
    if get_origin(hint) is Literal:
        return value if isinstance(value, str) and value in get_args(hint) else _WRONG
    if get_origin(hint) is tuple:
        element, *rest = get_args(hint)
        if (
            not isinstance(value, Sequence)
            or isinstance(value, str)
            or (rest != [Ellipsis] and len(value) != 1 + len(rest))
        ):
            return _WRONG
        converted = [_convert(element, item) for item in value]
        return _WRONG if _WRONG in converted else tuple(converted)
    if get_origin(hint) is UnionType:
        return next((found for part in get_args(hint) if (found := _convert(part, value)) is not _WRONG), _WRONG)
    return _convert_plain(hint, value)


def _convert_plain(hint: Any, value: object) -> Any:
    if hint is float:
        return float(value) if is_number(value) else _WRONG
    if hint is int:
        return value if is_integer(value) else _WRONG
    return value if isinstance(value, hint) else _WRONG


def _names_type(rule: Rule | None, kind: Any) -> bool:
    """Return whether the sentence of a rule begins with the type, as "a text that is not empty" does."""
    return rule is not None and rule.sentence.startswith(_expected(kind))


def _expected(hint: Any) -> str:
    if get_origin(hint) is UnionType:
        return " or ".join(map(_expected, get_args(hint)))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if get_origin(hint) is tuple:
        element = get_args(hint)[0]
        return f"a list of {'integers' if element is int else 'numbers' if element is float else _expected(element)}"
    return {int: "an integer", float: "a number", bool: "true or false", str: "a text"}[hint]
