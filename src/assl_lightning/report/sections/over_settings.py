"""The sections on means over settings: the left part of Table 2, and the gain of training on unlabelled images.

Lim, Na and Kwak 2023: Active Semi-Supervised Learning by Exploring Per-Sample Uncertainty and Consistency, §4
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import nan
from statistics import fmean

from assl_lightning.base.words import UNKNOWN, counted, counted_each, listed, points, with_deviation
from assl_lightning.report.analysis.comparison import mean_gain, total_of
from assl_lightning.report.analysis.grouping import init_pairs
from assl_lightning.report.analysis.runs import Method, Setting, accuracies, shared_seeds
from assl_lightning.report.views import Paragraph, Section, Table

SUPERVISED = "supervised"
"""The name of the algorithm that does not use unlabelled images."""


def over_settings_sections(settings: Sequence[Setting]) -> tuple[Section, ...]:
    """Return a section with the table and one with the gain, if there is something to average."""
    pairs, sentence = init_pairs(settings), gain_sentence(settings)
    table = (Section("Mean over settings", (mean_table(pairs),)),) if pairs else ()
    gain = (Section("Gain of the unlabelled images", (Paragraph(sentence),)),) if sentence else ()
    return table + gain


# --- mean over settings ----------------------------------------------------------------------------------------------


def mean_table(pairs: Sequence[tuple[Setting, Setting]]) -> Table:
    """Return a row for each method: mean accuracy over all rounds and settings with RandInit, with ConInit, and both.

    A mean is left out if the method is missing in one of its settings.
    """
    rand, continued = zip(*pairs, strict=True)
    names = dict.fromkeys(name for setting in (*rand, *continued) for name in setting.methods)
    rows = [(_named(name, (*rand, *continued)), *_cells(_mean(name, rand), _mean(name, continued))) for name in names]
    caption = (
        f"Test accuracy (%, EMA weights), mean over all rounds of {counted(len(pairs), 'setting')} with each init; ± "
        f"is the mean over these rounds of the sample s.d. over n seeds, not the error of the mean. Total: mean of the "
        f"two, and of their ±"
    )
    return Table(caption, ("method", "RandInit", "ConInit", "Total"), tuple(rows))


def _named(name: str, settings: Sequence[Setting]) -> str:
    counts = [len(setting.methods[name].runs) for setting in settings if name in setting.methods]
    few, many = min(counts), max(counts)
    return f"{name} (n = {few if few == many else f'{few} to {many}'})"


def _mean(name: str, settings: Sequence[Setting]) -> tuple[float, float] | None:
    """Return a method's accuracy and its ±, in [0, 1]; ± is NaN if a setting has only one seed."""
    if any(name not in setting.methods for setting in settings):
        return None
    found = [accuracies(setting.methods[name], [*setting.methods[name].runs]) for setting in settings]
    deviations = (float(values.std(0, ddof=1).mean()) if len(values) > 1 else nan for values in found)
    return fmean(float(values.mean()) for values in found), fmean(deviations)


def _cells(rand: tuple[float, float] | None, continued: tuple[float, float] | None) -> tuple[str, str, str]:
    total = total_of(rand, continued) if rand and continued else None
    first, second, both = (UNKNOWN if mean is None else with_deviation(*mean) for mean in (rand, continued, total))
    return first, second, both


# --- with and without unlabelled images ------------------------------------------------------------------------------


def gain_sentence(settings: Sequence[Setting]) -> str:
    """Describe the mean difference in accuracy between training with and without unlabelled images, or return "".

    It is taken over the acquisitions that were run both ways, and over their common seeds.
    """
    pairs = [(setting.name, *pair) for setting in settings for pair in _both_ways(setting)]
    if not pairs:
        return ""
    seeds = [shared_seeds(*methods) for _, _, methods in pairs]
    means = [
        [float(accuracies(method, shared).mean()) for method in methods]
        for (_, _, methods), shared in zip(pairs, seeds, strict=True)
    ]
    with_images, without = ({str(number): mean[side] for number, mean in enumerate(means)} for side in (0, 1))
    names = listed([*dict.fromkeys(acquisition for _, acquisition, _ in pairs)])
    num_settings = counted(len({setting for setting, *_ in pairs}), "setting")
    n = f"n = {len(pairs)}, {counted_each([len(shared) for shared in seeds], 'shared seed')} each"
    return (
        f"Training on the unlabelled images too changes test accuracy (EMA weights) by "
        f"{points(mean_gain(with_images, without))} points: the mean over all rounds of {num_settings} and over the "
        f"acquisitions that were run with and without them, {names} ({n})."
    )


def _both_ways(setting: Setting) -> Iterator[tuple[str, tuple[Method, Method]]]:
    """Yield acquisition, and the methods with and without unlabelled images, if they have a common seed.

    If several methods of a kind have the same acquisition and init, there is no clear pair, and they are left out.
    """
    found: dict[tuple[str, str, bool], list[Method]] = defaultdict(list)
    for method in setting.methods.values():
        acquisition, algorithm = (str(method.config[group].get("name")) for group in ("acquisition", "algorithm"))
        found[acquisition, str(method.config.get("init")), algorithm == SUPERVISED].append(method)
    for (acquisition, init, is_supervised), methods in found.items():
        others = found.get((acquisition, init, True), [])
        if not is_supervised and len(methods) == len(others) == 1 and shared_seeds(*methods, *others):
            yield acquisition, (methods[0], others[0])
