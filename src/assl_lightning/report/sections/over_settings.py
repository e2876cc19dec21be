"""The sections on means over settings: the paper's Table 2, left, and what training on unlabelled images is worth.

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
"""Name of the algorithm that leaves the unlabelled images alone."""


def over_settings_sections(settings: Sequence[Setting]) -> tuple[Section, ...]:
    """A section with the table and one with the gain, each where there is something to average."""
    pairs, sentence = init_pairs(settings), gain_sentence(settings)
    table = (Section("Mean over settings", (mean_table(pairs),)),) if pairs else ()
    gain = (Section("Gain of the unlabelled images", (Paragraph(sentence),)),) if sentence else ()
    return table + gain


# --- mean over settings ----------------------------------------------------------------------------------------------


def mean_table(pairs: Sequence[tuple[Setting, Setting]]) -> Table:
    """A row a method: mean accuracy over all rounds and settings, of those with RandInit, with ConInit, and of both.

    A mean is left out where one of its settings is without the method.
    """
    rand, continued = zip(*pairs, strict=True)
    names = dict.fromkeys(name for setting in (*rand, *continued) for name in setting.methods)
    rows = [(_named(name, (*rand, *continued)), *_cells(_mean(name, rand), _mean(name, continued))) for name in names]
    caption = (
        f"Test accuracy (%, EMA weights), mean over all rounds of {counted(len(pairs), 'setting')} with each init; ± "
        f"is the mean over these rounds of the sample s.d. over n seeds, and no error of the mean. Total: mean of the "
        f"two, and of their ±"
    )
    return Table(caption, ("method", "RandInit", "ConInit", "Total"), tuple(rows))


def _named(name: str, settings: Sequence[Setting]) -> str:
    counts = [len(setting.methods[name].runs) for setting in settings if name in setting.methods]
    few, many = min(counts), max(counts)
    return f"{name} (n = {few if few == many else f'{few} to {many}'})"


def _mean(name: str, settings: Sequence[Setting]) -> tuple[float, float] | None:
    """A method's accuracy and its ±, in [0, 1]; the latter is NaN where a setting has one seed."""
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
    """The mean difference in accuracy between training with and without unlabelled images, over what was run both ways.

    Seeds are those that both have. Empty where no setting has an acquisition with both.
    """
    pairs = [(setting.name, *pair) for setting in settings for pair in _both_ways(setting)]
    if not pairs:
        return ""
    seeds = [shared_seeds(*methods) for _, _, methods in pairs]
    means = [
        [float(accuracies(method, shared).mean()) for method in methods]
        for (_, _, methods), shared in zip(pairs, seeds, strict=True)
    ]
    having, lacking = ({str(number): mean[side] for number, mean in enumerate(means)} for side in (0, 1))
    names = listed([*dict.fromkeys(acquisition for _, acquisition, _ in pairs)])
    places = counted(len({setting for setting, *_ in pairs}), "setting")
    n = f"n = {len(pairs)}, {counted_each([len(shared) for shared in seeds], 'shared seed')} each"
    return (
        f"Training on the unlabelled images too changes test accuracy (EMA weights) by "
        f"{points(mean_gain(having, lacking))} points: the mean over all rounds of {places} and over the acquisitions "
        f"that were run with and without them, {names} ({n})."
    )


def _both_ways(setting: Setting) -> Iterator[tuple[str, tuple[Method, Method]]]:
    """Acquisition, and the methods that do and do not train on unlabelled images; they have a seed in common.

    Where several methods of one kind have an acquisition and an init, none of them is the other's counterpart.
    """
    found: dict[tuple[str, str, bool], list[Method]] = defaultdict(list)
    for method in setting.methods.values():
        acquisition, algorithm = (str(method.config[group].get("name")) for group in ("acquisition", "algorithm"))
        found[acquisition, str(method.config.get("init")), algorithm == SUPERVISED].append(method)
    for (acquisition, init, is_supervised), methods in found.items():
        others = found.get((acquisition, init, True), [])
        if not is_supervised and len(methods) == len(others) == 1 and shared_seeds(*methods, *others):
            yield acquisition, (methods[0], others[0])
