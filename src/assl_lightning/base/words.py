"""Numbers, names, values and errors as messages, tables and pages show them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from math import isnan, nan
from statistics import fmean, stdev

UNKNOWN = "–"

# --- numbers ---------------------------------------------------------------------------------------------------------


def per_cent(share: float | None, *, digits: int = 1) -> str:
    """Write a share in [0, 1] as per cent, without the sign.

    >>> per_cent(0.5), per_cent(0.12345, digits=2), per_cent(None)
    ('50.0', '12.35', '–')
    """
    return UNKNOWN if share is None or isnan(share) else f"{100 * share:.{digits}f}"


def mean_and_deviation(shares: Sequence[float | None]) -> str:
    """Write the mean ± sample s.d. in per cent; a single value has no ±, and an unknown value makes all unknown.

    >>> mean_and_deviation([0.5, 0.6]), mean_and_deviation([0.5]), mean_and_deviation([0.5, None])
    ('55.0 ± 7.1', '50.0', '–')
    """
    known = [share for share in shares if share is not None]
    if len(known) < len(shares) or not known:
        return per_cent(None)
    return with_deviation(fmean(known), stdev(known) if len(known) > 1 else nan)


def with_deviation(mean: float, deviation: float) -> str:
    """Write two shares as mean ± deviation in per cent; without the deviation if it is NaN.

    >>> with_deviation(0.5, 0.123), with_deviation(0.5, float("nan"))
    ('50.0 ± 12.3', '50.0')
    """
    return per_cent(mean) + ("" if isnan(deviation) else f" ± {per_cent(deviation)}")


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, with its sign.

    >>> points(0.039), points(-0.001), points(-0.0001)
    ('+3.9', '−0.1', '0.0')
    """
    if isnan(difference):
        return UNKNOWN
    text = f"{100 * difference:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def interval(low: float, high: float) -> str:
    """Write the ends of an interval of differences of shares, in percentage points, or "" if an end is NaN.

    >>> interval(-0.104, 0.027), interval(float("nan"), float("nan"))
    ('[−10.4, +2.7]', '')
    """
    return "" if isnan(low) or isnan(high) else f"[{points(low)}, {points(high)}]"


def p_value(probability: float) -> str:
    """Write a p value to three decimals, or "< 0.001".

    >>> p_value(0.04213), p_value(0.00002), p_value(1.0)
    ('0.042', '< 0.001', '1.000')
    """
    if isnan(probability):
        return UNKNOWN
    return "< 0.001" if probability < 0.001 else f"{probability:.3f}"


def seconds(duration: float | None) -> str:
    """Write seconds with fewer digits, the more there are: one acquisition takes 0.0012 s, another 200.

    >>> seconds(1234.5), seconds(12.34), seconds(0.0512), seconds(0.00123)
    ('1,234', '12.3', '0.05', '0.0012')
    """
    if duration is None or isnan(duration):
        return UNKNOWN
    digits = next(digits for limit, digits in ((100, 0), (10, 1), (0.01, 2), (0, 4)) if duration >= limit)
    return f"{duration:,.{digits}f}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, in the plural unless the number is one.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def from_to(numbers: Collection[int]) -> str:
    """Write several numbers as one, or from the smallest to the largest.

    >>> from_to([1200, 1200]), from_to([3, 1, 2])
    ('1,200', '1 to 3')
    """
    few, many = min(numbers), max(numbers)
    return f"{few:,}" if few == many else f"{few:,} to {many:,}"


def counted_each(numbers: Sequence[int], noun: str) -> str:
    """Write several numbers of things as one, or from the smallest to the largest.

    >>> counted_each([3, 3], "seed"), counted_each([3, 1, 2], "seed"), counted_each([1], "seed")
    ('3 seeds', '1 to 3 seeds', '1 seed')
    """
    few, many = min(numbers), max(numbers)
    return counted(many, noun) if few == many else f"{few:,} to {counted(many, noun)}"


# --- names -----------------------------------------------------------------------------------------------------------


def listed(names: Sequence[str]) -> str:
    """Join names for a sentence.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def first_few(names: Iterable[object], most: int = 3, separator: str = ", ") -> str:
    """Join the first `most` names, and the number of the others.

    >>> first_few(["a", "b"]), first_few("abcde"), first_few([3, 4, 5], most=2, separator="; ")
    ('a, b', 'a, b, c, and 2 more', '3; 4; and 1 more')
    """
    texts = list(map(str, names))
    more = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return separator.join([*texts[:most], *more])


def closest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the choice that is spelt most like `name`, or None if none is similar.

    Args:
        cutoff: the least similarity, in (0, 1], as `difflib` defines it; case does not count.
    """
    by_letters = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(name.casefold(), by_letters, n=1, cutoff=cutoff)
    return by_letters[close[0]] if close else None


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """Return " (did you mean 'x'?)" with the `closest` of the `choices`, or "".

    >>> nearest("Lable", ["label", "path"]), nearest("zebra", ["label", "path"])
    (" (did you mean 'label'?)", '')
    """
    close = closest(name, choices, cutoff)
    return "" if close is None else f" (did you mean {close!r}?)"


# --- values and errors -----------------------------------------------------------------------------------------------


def shortened(text: str, longest: int = 60) -> str:
    """Cut a text of more than `longest` characters off with an ellipsis.

    >>> shortened("a cat"), shortened("a cat", longest=4)
    ('a cat', 'a...')
    """
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def printable(text: str) -> str:
    """Escape the letters that would move a terminal's cursor.

    >>> printable("ä\\x1b[2J")
    'ä\\\\x1b[2J'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks, or its kind if it has no message.

    >>> one_line(ValueError("no\\n  number")), one_line(KeyError())
    ('no number', 'KeyError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, for libraries that write pages; or its kind.

    >>> first_line(RuntimeError("\\nno such operator\\nSupported are: …")), first_line(EOFError())
    ('no such operator', 'EOFError')
    """
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split()) if lines else type(error).__name__


def with_kind(error: BaseException) -> str:
    """Return the message of an error on one line, after its kind: some messages mean nothing without it.

    >>> with_kind(KeyError("labels")), with_kind(EOFError())
    ("KeyError: 'labels'", 'EOFError')
    """
    kind, line = type(error).__name__, one_line(error)
    return kind if line == kind else f"{kind}: {line}"
