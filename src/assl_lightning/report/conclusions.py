"""The first lines of a report: the number of seeds, and the conclusions that they allow."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from assl_lightning.base.proportions import wilson_interval
from assl_lightning.base.words import counted, counted_each, interval, listed, per_cent, points
from assl_lightning.report.analysis.comparison import ENOUGH_SEEDS
from assl_lightning.report.analysis.runs import Run, Setting, shared_seeds
from assl_lightning.report.sections.contrasts import AUBC, LAST_ROUND, Contrast, Contrasts

_NAMED = 3  # runs with more rounds, or fewer, that are named


def conclusions(setting: Setting, compared: Contrasts | None) -> str:
    """Write a paragraph on one setting; each claim has its n."""
    runs = list(setting.runs)
    result = _describe_result(runs[0]) if len(runs) == 1 else ""
    return " ".join(
        [*([result] if result else []), _describe_runs(setting), *(_describe_differences(compared) if compared else ())]
    )


def _describe_result(run: Run) -> str:
    """Write the last test accuracy of a run, with the interval that its test images allow; "" if it is not known."""
    last = run.records[-1]
    if not last.test_images or isnan(last.test_accuracy_ema):
        return ""
    low, high = wilson_interval(round(last.test_accuracy_ema * last.test_images), last.test_images)
    return (
        f"Trained with {last.labels:,} labels, it is right on {per_cent(last.test_accuracy_ema)} % of "
        f"{counted(last.test_images, 'test image')} (95 % interval {per_cent(low)} to {per_cent(high)})."
    )


def _describe_runs(setting: Setting) -> str:
    runs = list(setting.runs)
    seeds = counted_each([len(method.runs) for method in setting.methods.values()], "seed")
    shared = len(shared_seeds(*setting.methods.values()))
    common = "" if len(setting.methods) == 1 else f", {shared} of them common to all"
    labels = setting.labels
    budget = f"{labels[0]:,} to {labels[-1]:,} labels" if len(labels) > 1 else f"{labels[0]:,} labels"
    stopped = sum(not run.is_complete for run in runs)
    warning = f" {counted(stopped, 'run')} of {len(runs)} not finished yet." if stopped else ""
    trainings = counted(len(labels), "training")
    if len(runs) == 1:
        unfinished = " The run is not finished yet." if stopped else ""
        return f"{next(iter(setting.methods))}, seed {runs[0].seed}: {trainings}, with {budget}.{unfinished}"
    return (
        f"{counted(len(setting.methods), 'method')}, {seeds} each{common}; "
        f"{trainings} a run, with {budget}.{warning}{_describe_left_out_rounds(setting)}"
    )


def _describe_left_out_rounds(setting: Setting) -> str:
    """Name the compared rounds and the runs with more, if runs differ in their number of rounds; else return ""."""
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
    """Write the rounds that are compared."""
    count = len(setting.labels)
    return f"the first {counted(count, 'training')}, which all runs have" if count > 1 else "the first training alone"


def _describe_differences(compared: Contrasts) -> list[str]:
    last = compared.of(LAST_ROUND)
    tested = [contrast for contrast in last if contrast.test.has_enough_seeds]
    untested = [contrast for contrast in last if not contrast.test.has_enough_seeds]
    significant = [contrast for contrast in tested if contrast.is_significant]
    insignificant = [contrast for contrast in tested if not contrast.is_significant]
    sentences = []
    if significant:
        claims = listed([_claim(contrast, compared.reference) for contrast in significant])
        correction = f"a paired t test corrected for {counted(len(last), 'comparison')} (Holm)"
        sentences.append(f"After the last round, {claims}, by {correction}.")
    if insignificant:
        sentences.append(
            f"After the last round, {_named(insignificant)} {'is' if len(insignificant) == 1 else 'are'} not "
            f"significantly different from {compared.reference}."
        )
    if untested:
        sentences.append(
            f"{_named(untested)}: fewer than {ENOUGH_SEEDS} seeds shared with {compared.reference}, too few for a "
            f"test; the numbers describe these seeds only."
        )
    if tested and compared.of(AUBC):
        over_budget = [contrast for contrast in compared.of(AUBC) if contrast.is_significant]
        result = (
            listed([_claim(contrast, compared.reference) for contrast in over_budget])
            if over_budget
            else f"none is significantly different from {compared.reference}"
        )
        sentences.append(f"Over the whole budget (AUBC), {result}.")
    return sentences


def _claim(contrast: Contrast, reference: str) -> str:
    side = "above" if contrast.test.interval.mean > 0 else "below"
    return f"{contrast.method} is {side} {reference} ({_numbers(contrast)})"


def _named(contrasts: Sequence[Contrast]) -> str:
    return listed([f"{contrast.method} ({_numbers(contrast)})" for contrast in contrasts])


def _numbers(contrast: Contrast) -> str:
    mean = contrast.test.interval
    return " ".join(part for part in (points(mean.mean), interval(mean.low, mean.high)) if part) + f", n = {mean.n}"
