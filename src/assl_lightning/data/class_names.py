"""Names of classes: distinct texts that are not empty; and remarks on odd ones."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral

from assl_lightning.base.problems import refuse
from assl_lightning.base.tables import looks_missing
from assl_lightning.base.words import first_few
from assl_lightning.data.same_names import canonical

_SPLITS = frozenset(
    ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "holdout", "train_val")
)

_QUOTE = (
    "quote it, as in ['yes', 'no']: YAML takes yes and no for true and false, 0010 for 8, 12:30 for 750, 1.10 for 1.1, "
    "and null and ~ for nothing"
)


def read_class_names(names: object) -> list[str]:
    """Return the names as a list of texts; a whole number becomes its digits.

    >>> read_class_names(["ok", 7])
    ['ok', '7']

    Raises:
        ValueError: they are no list, a name is no text or blank, or two are the same, in whatever Unicode form.
    """
    if isinstance(names, str):
        raise ValueError(f"class_names must be a list, such as [ok, dent]; got the text {names!r}: write [{names}]")  # noqa: TRY004
    if not isinstance(names, Iterable):
        raise ValueError(f"class_names must be a list, such as [ok, dent]; got {names!r}")  # noqa: TRY004
    given = list(names)
    refuse(
        "class_names must be texts that are not empty",
        [
            f"{name!r} is blank" if isinstance(name, str) else f"{name!r} is no text; {_QUOTE}"
            for name in given
            if not (name.strip() if isinstance(name, str) else _is_whole(name))
        ],
    )
    texts = [name if isinstance(name, str) else str(name) for name in given]
    counted = Counter(map(canonical, texts))
    repeated = [f"{name} is there {count} times" for name, count in counted.items() if count > 1]
    refuse("class_names must be distinct", repeated)
    return texts


def class_order(names: Collection[str]) -> list[str]:
    """Sort names by their letters, or by their values if all of them are whole numbers.

    >>> class_order({"dent", "Ok", "scratch"}), class_order({"0", "10", "2"})
    (['Ok', 'dent', 'scratch'], ['0', '2', '10'])
    """
    are_numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name) if are_numbers else 0, name))


def are_splits(names: Collection[str]) -> bool:
    """True if there are at least two names, and all of them are those of parts of a data set.

    >>> are_splits(["test", "Train"]), are_splits(["bus", "train"])
    (True, False)
    """
    return len(names) > 1 and all(name.casefold() in _SPLITS for name in names)


def oddities(names: Sequence[str]) -> list[str]:
    """Return a sentence for each odd thing about the names, though they may be meant."""
    alike: dict[str, list[str]] = {}
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold().strip()
        alike.setdefault(re.sub(r"[\s_-]+", "-", folded), []).append(name)
    found = [
        f"The classes {' and '.join(map(repr, group))} have names that are alike but for case, spaces or dashes; make "
        f"them one where they are the same class"
        for group in alike.values()
        if len(group) > 1
    ]
    found += [
        f"A class is called {name!r}, as programs call what is missing; leave the label empty where it is not known"
        for name in names
        if looks_missing(name)
    ]
    if are_splits(names):
        found.append(
            f"The classes are called {', '.join(names)}, as the parts of a data set are; see that they are no parts"
        )
    return found


def list_classes(names: Sequence[str]) -> str:
    """Return the first ten names, as a sentence has them.

    >>> list_classes(["dent", "ok"])
    'dent, ok'
    """
    return first_few(names, most=10)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
