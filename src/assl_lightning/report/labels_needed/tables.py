"""The regimes as tables of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isinf, isnan
from statistics import median

from assl_lightning.base.words import (
    UNKNOWN,
    counted,
    counted_each,
    interval,
    listed,
    mean_and_deviation,
    p_value,
    points,
)
from assl_lightning.report.analysis.labels_needed import LabelsNeeded
from assl_lightning.report.labels_needed.regimes import Against, Question, Regime, Result
from assl_lightning.report.labels_needed.starts import start_of
from assl_lightning.report.views import Paragraph, Table

NEVER = "never"
"""Stands for the labels of a method that does not reach the target within its budget."""

_GOAL, _LIMIT = 0.5, 1.0


def describe(regimes: Sequence[Regime], question: Question) -> tuple[str, str]:
    """Describe what was compared, and how to read the numbers."""
    seeds = [len(result.aubc) for regime in regimes for result in regime.results.values()]
    balanced = [regime.name for regime in regimes if regime.which == "balanced"]
    tails = f" (of {listed(balanced)}: balanced accuracy, the mean over classes)" if balanced else ""
    first = question.baselines[0]
    return (
        f"{counted(len(regimes), 'regime')}, {counted_each(seeds, 'seed')} of each method. AUBC is the mean test "
        f"accuracy of the averaged weights over the budget, by trapezoids{tails}.",
        f"Differences are in points of accuracy, seed by seed. A verdict is on AUBC: better or worse by the paired t "
        f"test at 5 %, corrected for the regimes of the method (Holm); else not worse, if the one-sided 95 % limit of "
        f"the difference lies above −{100 * question.margin:g} points; else open. Labels needed are those with which "
        f"the mean curve first has {100 * question.share:g} % of the last accuracy of {first}, as a ratio to those "
        f"that {first} needs, with the 95 % bootstrap interval over seeds. Only rules that were named before the runs "
        f"can be confirmed by them; the others are described.",
    )


# --- one rule, all regimes -------------------------------------------------------------------------------------------


def rule_table(regimes: Sequence[Regime], method: str, baseline: str) -> Table:
    """Return a row for each regime in which the method meets the baseline."""
    header = ("regime", "n", "AUBC", baseline, "difference", "95 %", "p", "p (Holm)", "limit", "last round", "verdict")
    rows = []
    for regime, result in _results(regimes, method):
        against = result.against.get(baseline)
        if against is not None:
            rows.append((regime.name, *_against_cells(result, regime.results[baseline], against)))
    caption = f"{method} against {baseline}; limit: one-sided 95 %, below the difference"
    return Table(caption, header, tuple(rows))


def _against_cells(result: Result, base: Result, against: Against) -> tuple[str, ...]:
    mean, last = against.aubc.interval, against.last.interval
    return (
        f"{mean.n}",
        mean_and_deviation(result.aubc.tolist()),
        mean_and_deviation(base.aubc.tolist()),
        points(mean.mean),
        interval(mean.low, mean.high),
        p_value(against.aubc.p_value),
        p_value(against.holm),
        points(against.not_worse.bound),
        f"{points(last.mean)} {interval(last.low, last.high)}".strip(),
        against.verdict,
    )


def needed_table(regimes: Sequence[Regime], method: str, question: Question) -> Table:
    """Return a row for each regime: the labels that the method and the first baseline need."""
    first = question.baselines[0]
    header = ("regime", "target (%)", f"labels of {first}", "labels", "ratio", "95 %", "median by seed", "seeds never")
    rows = [
        (regime.name, *_needed_cells(result.needed))
        for regime, result in _results(regimes, method)
        if result.needed is not None
    ]
    return Table(f"Labels that {method} needs", header, tuple(rows))


def _needed_cells(needed: LabelsNeeded) -> tuple[str, ...]:
    return (
        f"{100 * needed.target:.1f}",
        _number(needed.reference, 0),
        _number(needed.labels, 0),
        _number(needed.ratio),
        ratio_interval(needed),
        _number(median(needed.by_seed.tolist())),
        f"{needed.never} of {needed.n}",
    )


def _number(value: float, digits: int = 2) -> str:
    if isnan(value):
        return UNKNOWN
    return NEVER if isinf(value) else f"{value:.{digits}f}"


def ratio_interval(needed: LabelsNeeded) -> str:
    """Write the interval of the ratio, "" where there is none."""
    return "" if isnan(needed.low) else f"[{_number(needed.low)}, {_number(needed.high)}]"


def conclusion(regimes: Sequence[Regime], method: str, question: Question) -> str:
    """Count the regimes in which a rule is better and not worse than each baseline, and the labels that it needs."""
    found = list(_results(regimes, method))
    sentences = []
    for baseline in question.baselines:
        met = {regime.name: result.against[baseline] for regime, result in found if baseline in result.against}
        if met:
            better = [name for name, against in met.items() if against.verdict == "better"]
            worse = [name for name, against in met.items() if against.verdict == "worse"]
            shown = sum(against.aubc.has_enough_seeds and against.is_not_worse for against in met.values())
            sentences.append(
                f"Against {baseline}: better in {len(better)} of {counted(len(met), 'regime')}"
                f"{f' ({listed(better)})' if better else ''}, worse in {len(worse)}"
                f"{f' ({listed(worse)})' if worse else ''}; not worse by more than {100 * question.margin:g} points is "
                f"shown in {shown}."
            )
    ratios = {regime.name: result.needed.ratio for regime, result in found if result.needed is not None}
    if ratios:
        few = [name for name, ratio in ratios.items() if ratio <= _GOAL]
        many = [name for name, ratio in ratios.items() if ratio > _LIMIT]
        sentences.append(
            f"It needs at most {_GOAL:g} of the labels of {question.baselines[0]} in {len(few)} of "
            f"{counted(len(ratios), 'regime')}{f' ({listed(few)})' if few else ''}, and more labels in {len(many)}"
            f"{f' ({listed(many)})' if many else ''}."
        )
    return f"{method}. {' '.join(sentences)}"


def _results(regimes: Sequence[Regime], method: str) -> list[tuple[Regime, Result]]:
    return [(regime, regime.results[method]) for regime in regimes if method in regime.results]


# --- all rules, all regimes ------------------------------------------------------------------------------------------


def overview_tables(regimes: Sequence[Regime], question: Question) -> tuple[Table, ...]:
    """Return a row for each method, a column for each regime: AUBC, differences to each baseline, and labels needed."""

    def differences(baseline: str) -> Callable[[Result], str]:
        def cell(result: Result) -> str:
            against = result.against.get(baseline)
            return "" if against is None else f"{points(against.aubc.interval.mean)} {against.verdict}"

        return cell

    def needed(result: Result) -> str:
        return (
            "" if result.needed is None else f"{_number(result.needed.ratio)} {ratio_interval(result.needed)}".strip()
        )

    return (
        _overview("AUBC (%), mean ± s.d. over seeds", regimes, lambda result: mean_and_deviation(result.aubc.tolist())),
        *(_overview(f"AUBC above {name}", regimes, differences(name)) for name in question.baselines),
        _overview(f"Labels needed, as a ratio to {question.baselines[0]}", regimes, needed),
    )


def _overview(caption: str, regimes: Sequence[Regime], cell: Callable[[Result], str]) -> Table:
    methods = dict.fromkeys(name for regime in regimes for name in regime.results)
    rows = [
        (name, *(cell(regime.results[name]) if name in regime.results else "" for regime in regimes))
        for name in methods
    ]
    return Table(caption, ("method", *(regime.name for regime in regimes)), tuple(row for row in rows if any(row[1:])))


# --- rules and starts ------------------------------------------------------------------------------------------------


def start_table(regime: Regime) -> Table | Paragraph:
    """Return a row for each rule, a column for each start: the AUBC; a sentence if all methods have one start.

    Each is the mean over the seeds that all of them have, so that they can be compared; if these are fewer than two,
    over the method's own seeds.
    """
    methods = {name: regime.setting.methods[name] for name in regime.results}
    shared = set.intersection(*(set(method.runs) for method in methods.values()))
    cells: dict[str, dict[str, list[str]]] = {}
    starts: dict[str, None] = {}
    for name, method in methods.items():
        start = start_of(method.config)
        starts[start] = None
        areas = zip(sorted(method.runs), regime.results[name].aubc.tolist(), strict=True)
        values = [area for seed, area in areas if seed in shared or len(shared) < 2]
        cells.setdefault(regime.rules[name], {}).setdefault(start, []).append(mean_and_deviation(values))
    if len(starts) == 1:
        return Paragraph(f"All methods of {regime.name} have one start: {next(iter(starts))}.")
    over = f"the {len(shared)} seeds that all of them have" if len(shared) >= 2 else "the seeds of each"
    caption = f"{regime.name}: AUBC (%) of each rule (row) with each start (column), mean ± s.d. over {over}"
    rows = [(rule, *("; ".join(of_rule.get(start, ())) for start in starts)) for rule, of_rule in cells.items()]
    return Table(caption, ("rule", *starts), tuple(rows))
