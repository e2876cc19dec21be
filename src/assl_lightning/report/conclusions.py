"""The first lines of a report: how many seeds there are, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Sequence

from assl_lightning.base.words import counted, counted_each, interval, listed, points
from assl_lightning.report.analysis.comparison import SEEDS_THAT_TELL
from assl_lightning.report.analysis.runs import Setting, shared_seeds
from assl_lightning.report.sections.contrasts import AUBC, LAST_ROUND, Contrast, Contrasts

_NAMED = 3  # of the runs that have more rounds than others, or fewer


def conclusions(setting: Setting, compared: Contrasts | None) -> str:
    """A paragraph on one setting; each claim has its n."""
    return " ".join([_what_there_is(setting), *(_what_it_tells(compared) if compared else ())])


def _what_there_is(setting: Setting) -> str:
    seeds = counted_each([len(method.runs) for method in setting.methods.values()], "seed")
    shared = len(shared_seeds(*setting.methods.values()))
    common = "" if len(setting.methods) == 1 else f", {shared} of them common to all"
    labels = setting.labels
    budget = f"{labels[0]:,} to {labels[-1]:,} labels" if len(labels) > 1 else f"{labels[0]:,} labels"
    runs = list(setting.runs)
    stopped = sum(not run.is_complete for run in runs)
    warning = f" {counted(stopped, 'run')} of {len(runs)} not at the end yet." if stopped else ""
    return (
        f"{counted(len(setting.methods), 'method')}, {seeds} each{common}; "
        f"{counted(len(labels), 'training')} a run, with {budget}.{warning}{_what_is_left_out(setting)}"
    )


def _what_is_left_out(setting: Setting) -> str:
    """A sentence where runs differ in their number of rounds: the rounds that are compared, and the runs with more."""
    if not setting.is_cut:
        return ""
    common = len(setting.labels)
    trained = {
        f"{method.name} with seed {seed}": len(run.all_records)
        for method in setting.methods.values()
        for seed, run in method.runs.items()
    }
    longer = [name for name, count in trained.items() if count > common]
    others = [name for name in trained if name not in longer]
    if len(longer) <= len(others):
        most = max(trained.values())
        named = f"{_some(longer)} {'has' if len(longer) == 1 else 'have up to'} {most}"
    else:
        named = f"{_some(others)} {'has' if len(others) == 1 else 'have'} no more"
    return f" Everything, the AUBC too, is over {common_rounds(setting)}: {named}; results.csv has all rounds."


def _some(names: Sequence[str]) -> str:
    return listed(names if len(names) <= _NAMED else [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"])


def common_rounds(setting: Setting) -> str:
    """The rounds that are compared, in words."""
    count = len(setting.labels)
    return f"the first {counted(count, 'training')}, which all runs have" if count > 1 else "the first training alone"


def _what_it_tells(compared: Contrasts) -> list[str]:
    last = compared.of(LAST_ROUND)
    able = [one for one in last if one.test.can_tell]
    unable = [one for one in last if not one.test.can_tell]
    told = [one for one in able if one.is_significant]
    sentences = []
    if told:
        sentences.append(
            f"After the last round, {listed([_claim(one, compared.reference) for one in told])}, by a paired t test "
            f"corrected for {counted(len(last), 'comparison')} (Holm)."
        )
    if untold := [one for one in able if not one.is_significant]:
        names = listed([f"{one.method} ({_numbers(one)})" for one in untold], "or")
        sentences.append(f"After the last round, {names} cannot be told from {compared.reference}.")
    if unable:
        names = listed([f"{one.method} ({_numbers(one)})" for one in unable], "or")
        sentences.append(
            f"With fewer than {SEEDS_THAT_TELL} shared seeds this report cannot tell {names} from "
            f"{compared.reference}: the numbers describe these seeds and say nothing about others."
        )
    over_the_budget = [one for one in compared.of(AUBC) if one.is_significant]
    if able and compared.of(AUBC):
        claims = [_claim(one, compared.reference) for one in over_the_budget]
        sentences.append(f"Over the whole budget (AUBC), {listed(claims) if claims else 'none can be told from it'}.")
    return sentences


def _claim(one: Contrast, reference: str) -> str:
    return f"{one.method} is {'above' if one.test.interval.mean > 0 else 'below'} {reference} ({_numbers(one)})"


def _numbers(one: Contrast) -> str:
    whole = one.test.interval
    return " ".join(part for part in (points(whole.mean), interval(whole.low, whole.high)) if part) + f", n = {whole.n}"
