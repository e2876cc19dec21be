"""The range of a value, written once in its type: `Annotated[float, at_least(0)]`.

A constructor checks an argument against such a type, a dataclass its fields, and a configuration its keys.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from assl_lightning.base.arguments import real_number, require_one_of, whole_number

_LARGEST_COUNT = 10**9


@dataclass(frozen=True)
class Rule:
    """A rule for a value, beside its type: `sentence` ends "must be …"; `test` is True for a valid value."""

    sentence: str
    test: Callable[[Any], bool]


def at_least(smallest: int) -> Rule:
    """Return the rule of numbers that are `smallest` or more."""
    return Rule(f"at least {smallest}", lambda value: bool(value >= smallest))


def above(bound: int) -> Rule:
    """Return the rule of numbers that are more than `bound`."""
    return Rule(f"above {bound}", lambda value: bool(value > bound))


def count_from(smallest: int) -> Rule:
    """Return the rule of numbers of steps or images; larger ones are mistakes, which PyTorch cannot hold either."""
    return Rule(
        f"at least {smallest} and at most {_LARGEST_COUNT}", lambda value: bool(smallest <= value <= _LARGEST_COUNT)
    )


SHARE = Rule("in (0, 1]", lambda value: 0 < value <= 1)
UP_TO_ONE = Rule("in [0, 1]", lambda value: 0 <= value <= 1)
BELOW_ONE = Rule("in [0, 1)", lambda value: 0 <= value < 1)


class TypeParts(NamedTuple):
    """A type without its annotation.

    Attributes:
        kind: the type itself, such as int, or a `Literal`.
        rule: its range; None where there is none.
        may_be_none: True for a union with None.
    """

    kind: Any
    rule: Rule | None
    may_be_none: bool


def take_apart(hint: Any) -> TypeParts:
    """Take a type apart.

    >>> take_apart(Annotated[int, at_least(1)] | None)[::2]
    (<class 'int'>, True)
    """
    may_be_none = get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)
    if may_be_none:
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Annotated:
        kind, rule = get_args(hint)
        return TypeParts(kind, rule, may_be_none)
    return TypeParts(hint, None, may_be_none)


def checked(name: str, value: Any, hint: Any) -> Any:
    """Return `value` as Python's own int or float, where its type is a number.

    Args:
        name: of the argument, for the message.
        value: also a number of numpy or torch.
        hint: its type: int, float, bool, a `Literal`, or an int or a tuple of them, maybe with a rule and with None.
            Another type is not checked.

    Raises:
        TypeError: the value is of another type.
        ValueError: it lies outside of the range.

    >>> checked("alpha", 2, Annotated[float, SHARE])
    Traceback (most recent call last):
    ValueError: alpha must be in (0, 1]; got 2.0
    """
    kind, rule, may_be_none = take_apart(hint)
    if value is None and may_be_none:
        return None
    if kind == int | tuple[int, ...]:
        is_list = isinstance(value, (list, tuple))
        value = tuple(whole_number(name, item) for item in value) if is_list else whole_number(name, value)
    if get_origin(kind) is Literal:
        require_one_of(name, value, kind)
    elif kind is int:
        value = whole_number(name, value)
    elif kind is float:
        value = real_number(name, value)
    elif kind is bool and not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {value!r}")
    if rule is not None and not rule.test(value):
        raise ValueError(f"{name} must be {rule.sentence}{', or None' if may_be_none else ''}; got {value}")
    return value


def check_fields(settings: Any) -> None:
    """Check each field of a frozen dataclass against its type, and keep numbers as Python's own.

    Raises:
        TypeError: a value is of another type.
        ValueError: it lies outside of its range.
    """
    for name, hint in get_type_hints(type(settings), include_extras=True).items():
        object.__setattr__(settings, name, checked(name, getattr(settings, name), hint))
