"""The section on labelling more: changed predictions, the bound on the accuracy, and the expected accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from assl_lightning.base.arguments import is_number
from assl_lightning.base.words import UNKNOWN, counted, per_cent, points
from assl_lightning.loop.progress import outlook_of, progress_of
from assl_lightning.report.analysis.labelling import work_of
from assl_lightning.report.analysis.runs import Method, Run, Setting
from assl_lightning.report.sections.labelling import Found
from assl_lightning.report.views import Block, Paragraph, Table
from assl_lightning.stopping.agreement import Agreement
from assl_lightning.stopping.learning_curve import LEAST_ROUNDS


def labelling_more_blocks(setting: Setting, asked: Sequence[Found] = ()) -> tuple[Block, ...]:
    """Show the changes between rounds, the expected accuracy, the runs that a rule ended, and the cost of the labels.

    Show nothing if nothing of it is known. `asked` are the runs of the setting in which people labelled, of
    `find_labelling`.
    """
    agreement, end, cost = _agreement_blocks(setting), _end_blocks(setting), _cost_blocks(setting, asked)
    expected = _expected_blocks(setting)
    if not (agreement or end or cost or expected):
        return ()
    return *agreement, *(expected or _not_expected(setting)), *end, *cost


# --- predictions that changed ----------------------------------------------------------------------------------------


def _agreement_blocks(setting: Setting) -> tuple[Block, ...]:
    rows = [row for method in setting.methods.values() for row in _agreement_rows(method, setting)]
    if not rows:
        return ()
    sentence = (
        "Unlabelled images whose predicted class is another one than in the round before, by the latest weak view that "
        "the training saw in each of the two rounds, and their Cohen's κ. The accuracy of those predictions cannot "
        "have changed by more than this share; the bound is the upper end of its interval. Of one run: 95 % intervals "
        "over the images (Wilson's; of κ by the large-sample error). Of several seeds: mean ± sample s.d. over seeds. "
        "Two trainings on the same labels do not agree completely either: that is the floor, known where a round was "
        "trained twice (repeat_round)."
    )
    header = ("since the round before", *(f"{labels:,} labels" for labels in setting.labels[1:]))
    return Paragraph(sentence), Table("Predictions that changed", header, tuple(rows))


def _agreement_rows(method: Method, setting: Setting) -> list[tuple[str, ...]]:
    numbers = range(1, len(setting.labels))  # the first round has none before it
    by_run = [progress_of(run.records) for run in method.runs.values()]
    known = [[run[number].agreement for run in by_run if run[number].agreement is not None] for number in numbers]
    if not any(known):
        return []
    floors = [[run[number].floor for run in by_run if run[number].floor is not None] for number in numbers]
    rows: list[tuple[str, ...]] = [
        (f"{method.name}: changed, %", *(_changed([found for found in part if found]) for part in known)),
        (f"{method.name}: bound on accuracy, points", *(_bound([found for found in part if found]) for part in known)),
        (f"{method.name}: κ", *(_kappa([found for found in part if found]) for part in known)),
    ]
    if any(floors):
        rows.append(
            (f"{method.name}: κ, same labels", *(_kappa([found for found in part if found]) for part in floors))
        )
    return rows


def _changed(found: Sequence[Agreement]) -> str:
    if len(found) == 1:
        low, high = found[0].changed_interval
        return f"{per_cent(found[0].changed)} [{per_cent(low)}, {per_cent(high)}]"
    return _over_seeds([agreement.changed for agreement in found])


def _bound(found: Sequence[Agreement]) -> str:
    return f"± {per_cent(fmean(agreement.changed_interval[1] for agreement in found))}" if found else UNKNOWN


def _kappa(found: Sequence[Agreement]) -> str:
    if len(found) == 1:
        low, high = found[0].kappa_interval
        return f"{found[0].kappa:.3f} [{low:.3f}, {high:.3f}]"
    if not found:
        return UNKNOWN
    values = [agreement.kappa for agreement in found]
    return f"{fmean(values):.3f} ± {stdev(values):.3f}"


def _over_seeds(shares: Sequence[float]) -> str:
    return f"{per_cent(fmean(shares))} ± {per_cent(stdev(shares))}" if shares else UNKNOWN


# --- the next batch --------------------------------------------------------------------------------------------------


def _expected_blocks(setting: Setting) -> tuple[Block, ...]:
    rows = tuple(row for method in setting.methods.values() if (row := _expected_row(method)))
    if not rows:
        return ()
    sentence = (
        "The accuracy after one batch more: the curve a∞ − b · labels^−c, fitted to each run's rounds by least "
        "squares, with the 95 % interval of one further round (delta method, Student's t with rounds − 3 degrees of "
        "freedom, and at least the noise of the test images). With four rounds there is one degree of freedom, so that "
        "the interval is very wide. Of several seeds: the means over seeds, also of the ends."
    )
    header = ("next batch", "seeds", "labels", "accuracy now, %", "expected, %", "95 % interval", "gain, points")
    return Paragraph(sentence), Table("Accuracy to expect", header, rows)


def _not_expected(setting: Setting) -> tuple[Block, ...]:
    rounds = counted(len(setting.labels), "round")
    return (
        Paragraph(
            f"The gain of the next batch is not known: there are {rounds}, and a curve of accuracy against labels "
            f"needs {LEAST_ROUNDS} with different numbers of labels."
        ),
    )


def _expected_row(method: Method) -> tuple[str, ...]:
    outlooks = [outlook_of(run.records, run.config) for run in method.runs.values()]
    known = [(outlook.last, outlook.expected) for outlook in outlooks if outlook.expected is not None]
    if not known:
        return ()
    now = fmean(last.accuracy for last, _ in known)
    value, low, high = (fmean(getattr(of, end) for _, of in known) for end in ("accuracy", "low", "high"))
    labels = sorted({of.labels for _, of in known})
    return (
        method.name,
        str(len(known)),
        ", ".join(f"{count:,}" for count in labels),
        per_cent(now),
        per_cent(value),
        f"[{per_cent(low)}, {per_cent(high)}]",
        points(value - now),
    )


# --- the end, and the cost -------------------------------------------------------------------------------------------


def _end_blocks(setting: Setting) -> tuple[Block, ...]:
    """Show why a rule ended runs before their last round."""
    ended = [
        (method.name, f"{seed}", f"{run.all_records[-1].round} of {run.config['rounds']}", reason)
        for method in setting.methods.values()
        for seed, run in method.runs.items()
        if (reason := run.reason_of_end) is not None
    ]
    header = ("method", "seed", "after round", "reason")
    return (Table("Runs that a rule ended", header, tuple(ended), is_text=True),) if ended else ()


def _cost_blocks(setting: Setting, asked: Sequence[Found]) -> tuple[Block, ...]:
    """Show the labels that each method asked for, people's minutes and money; means per run. Nothing without either."""
    if not asked and not any(is_number(run.config.get("cost_per_label")) for run in setting.runs):
        return ()
    minutes: dict[str, list[float]] = {}
    timed: dict[str, tuple[int, int]] = {}
    for name, _, labelling in asked:
        work = work_of(labelling.given)
        minutes.setdefault(name, []).append(work.seconds / 60)
        before = timed.get(name, (0, 0))
        timed[name] = (before[0] + work.timed, before[1] + work.answers)
    rows = []
    for method in setting.methods.values():
        labels = [_labels_asked_for(run) for run in method.runs.values()]
        costs = [run.config.get("cost_per_label") for run in method.runs.values()]
        known = [count * cost for count, cost in zip(labels, costs, strict=True) if is_number(cost)]
        spent = minutes.get(method.name) if timed.get(method.name, (0, 0))[0] else None  # files of labels have no times
        with_time = f" ({timed[method.name][0]:,} of {timed[method.name][1]:,} answers timed)" if spent else ""
        rows.append(
            (
                method.name,
                f"{fmean(labels):,.0f}",
                f"{fmean(spent):,.1f}{with_time}" if spent else UNKNOWN,
                f"{fmean(known):,.2f}" if len(known) == len(labels) else UNKNOWN,
            )
        )
    header = ("per run", "labels asked for", "people's minutes", "cost (cost_per_label)")
    return (Table("What the labels cost", header, tuple(rows)),)


def _labels_asked_for(run: Run) -> int:
    """Count the labels of the hold-out, the initial ones and those of the queries; known ones were not asked for."""
    first = int(run.config.get("hold_out") or 0) + int(run.config["initial_labels"])
    return first + sum(len(record.queried) for record in run.all_records)
