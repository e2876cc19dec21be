"""How a number is written: in the terminal, in Markdown and on the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from statistics import fmean, stdev

UNKNOWN = "–"


def per_cent(share: float | None, *, digits: int = 1) -> str:
    """A share in [0, 1] as per cent, without the sign.

    >>> per_cent(0.5), per_cent(0.12345, digits=2), per_cent(None)
    ('50.0', '12.35', '–')
    """
    return UNKNOWN if share is None or isnan(share) else f"{100 * share:.{digits}f}"


def mean_and_deviation(shares: Sequence[float | None]) -> str:
    """Mean ± sample s.d. in per cent; one value alone has none, and unknown ones make it unknown.

    >>> mean_and_deviation([0.5, 0.6]), mean_and_deviation([0.5]), mean_and_deviation([0.5, None])
    ('55.0 ± 7.1', '50.0', '–')
    """
    known = [share for share in shares if share is not None]
    if len(known) < len(shares) or not known:
        return per_cent(None)
    return with_deviation(fmean(known), stdev(known) if len(known) > 1 else nan)


def with_deviation(mean: float, deviation: float) -> str:
    """Two shares as mean ± deviation in per cent; without the second where it is NaN.

    >>> with_deviation(0.5, 0.123), with_deviation(0.5, float("nan"))
    ('50.0 ± 12.3', '50.0')
    """
    return per_cent(mean) + ("" if isnan(deviation) else f" ± {per_cent(deviation)}")


def points(difference: float) -> str:
    """A difference of shares in percentage points, always with its sign.

    >>> points(0.039), points(-0.001), points(-0.0001)
    ('+3.9', '−0.1', '0.0')
    """
    if isnan(difference):
        return UNKNOWN
    text = f"{100 * difference:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def interval(low: float, high: float) -> str:
    """The two ends of an interval of differences of shares, in percentage points; nothing where there is none.

    >>> interval(-0.104, 0.027), interval(float("nan"), float("nan"))
    ('[−10.4, +2.7]', '')
    """
    return "" if isnan(low) or isnan(high) else f"[{points(low)}, {points(high)}]"


def p_value(probability: float) -> str:
    """A p to three decimals; of a smaller one than that shows, only that it is.

    >>> p_value(0.04213), p_value(0.00002), p_value(1.0)
    ('0.042', '< 0.001', '1.000')
    """
    if isnan(probability):
        return UNKNOWN
    return "< 0.001" if probability < 0.001 else f"{probability:.3f}"


def seconds(duration: float | None) -> str:
    """Fewer digits, the longer it took: one acquisition takes 0.0012 s, another 200.

    >>> seconds(1234.5), seconds(12.34), seconds(0.0512), seconds(0.00123)
    ('1,234', '12.3', '0.05', '0.0012')
    """
    if duration is None or isnan(duration):
        return UNKNOWN
    digits = next(digits for limit, digits in ((100, 0), (10, 1), (0.01, 2), (0, 4)) if duration >= limit)
    return f"{duration:,.{digits}f}"


def listed(names: Sequence[str], conjunction: str = "and") -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a", "b"], "or"), listed(["a"])
    ('a, b and c', 'a or b', 'a')
    """
    return f" {conjunction} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def counted(number: int, noun: str) -> str:
    """A number of things in a sentence, with the noun in the plural where it is not one.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def counted_each(numbers: Sequence[int], noun: str) -> str:
    """How many things several have, from the fewest to the most where they have not as many.

    >>> counted_each([3, 3], "seed"), counted_each([3, 1, 2], "seed"), counted_each([1], "seed")
    ('3 seeds', '1 to 3 seeds', '1 seed')
    """
    few, many = min(numbers), max(numbers)
    return counted(many, noun) if few == many else f"{few:,} to {counted(many, noun)}"
