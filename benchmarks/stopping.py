"""What each rule for stopping would have saved, and lost, in runs that made all their rounds.

    python -m benchmarks.stopping results/*/results.csv --output results/stopping/tables.md

Each file is the results.csv of a report: a row for each round of each run. A rule sees the rounds one after the other.
Where it decides to end, the labels of the later rounds are saved, and the accuracy that they brought is lost. The same
rounds show how good the accuracy is that a curve through the first ones expects of the next.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from assl_lightning.stopping.agreement import Agreement
from assl_lightning.stopping.learning_curve import LEAST_ROUNDS, expected_accuracy
from assl_lightning.stopping.rules import Progress, StopOnAccuracy, StopOnAgreement, StopOnPlateau, StopRule

RULES: Mapping[str, StopRule] = {
    "plateau": StopOnPlateau(),
    "plateau, min_gain=0.02": StopOnPlateau(min_gain=0.02),
    "plateau, rounds=1": StopOnPlateau(rounds=1),
    "accuracy=0.9": StopOnAccuracy(accuracy=0.9),
    "accuracy=0.95": StopOnAccuracy(),
    "agreement": StopOnAgreement(),
    "agreement, kappa=0.95": StopOnAgreement(kappa=0.95),
    "agreement, kappa=0.9": StopOnAgreement(kappa=0.9),
}
"""Rules by name; the first of each kind, but for accuracy, has the constants of its YAML file."""


@dataclass(frozen=True)
class Outcome:
    """One run under one rule."""

    is_ended: bool
    saved: float  # share of the labels of the whole run that are not asked for, in [0, 1)
    lost: float  # accuracy of the last round minus that of the round at which the run ends


@dataclass(frozen=True)
class Forecast:
    """One accuracy that a curve through the rounds before expected."""

    rounds: int  # that the curve went through
    error: float  # measured minus expected
    error_of_last: float  # measured minus that of the last round, which is the forecast without a curve
    width: float  # of the 95 % interval
    is_inside: bool


def read_runs(path: Path) -> list[list[Progress]]:
    """Read the rounds of each run, in order; runs of one round tell nothing and are left out."""
    runs: dict[tuple[str, ...], list[Progress]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = tuple(row[name] for name in ("setting", "method", "seed"))
            runs.setdefault(key, []).append(_progress(row))
    return [sorted(rounds, key=lambda of: of.round) for rounds in runs.values() if len(rounds) > 1]


def _progress(row: Mapping[str, str]) -> Progress:
    return Progress(
        round=int(row["round"]),
        labels=int(row["labels"]),
        accuracy=float(row["test_accuracy_ema"]),
        agreement=_agreement(row, "kappa"),
        floor=_agreement(row, "kappa_same_labels"),
    )


def _agreement(row: Mapping[str, str], column: str) -> Agreement | None:
    """Return an agreement with its κ, which is all that a rule looks at; None where the file has none."""
    if not row.get(column):
        return None
    kappa = float(row[column])
    return Agreement(
        int(float(row["predictions_compared"])), int(float(row["predictions_agreeing"])), kappa, 0.0, kappa
    )


def outcome(rule: StopRule, rounds: Sequence[Progress]) -> Outcome:
    """Let a rule look at a run that made all its `rounds`; it is not asked after the last one."""
    end = next((number for number in range(len(rounds) - 1) if rule.decide(rounds[: number + 1])), len(rounds) - 1)
    last, ended = rounds[-1], rounds[end]
    return Outcome(ended is not last, 1 - ended.labels / last.labels, last.accuracy - ended.accuracy)


def forecasts(rounds: Sequence[Progress]) -> list[Forecast]:
    """Expect each accuracy from the rounds before it, where there are enough."""
    found = []
    for number in range(LEAST_ROUNDS, len(rounds)):
        before, now = rounds[:number], rounds[number]
        expected = expected_accuracy([of.labels for of in before], [of.accuracy for of in before], now.labels)
        if expected is not None:
            found.append(
                Forecast(
                    rounds=number,
                    error=now.accuracy - expected.accuracy,
                    error_of_last=now.accuracy - before[-1].accuracy,
                    width=expected.high - expected.low,
                    is_inside=expected.low <= now.accuracy <= expected.high,
                )
            )
    return found


def tables(results: Mapping[str, Sequence[Sequence[Progress]]]) -> str:
    """Write both tables of some results, by the name of their directory, as Markdown."""
    return f"""# Rules that end a run early, over runs that made all their rounds

Labels saved and accuracy lost are means over all runs, ended or not; "worst" is the run that lost most. A negative loss
is a gain: the later rounds had a lower test accuracy, by chance or because they were worse. Rules of agreement need the
predictions of successive rounds, which results of earlier versions do not have.

| results | rule | runs | ended early, % | labels saved, % | accuracy lost, points | worst, points |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
{_lines(_rows_of_rules(results))}

# The accuracy that a curve through the first rounds expects of the next one

Error is the mean distance between the expected and the measured accuracy. Beside it stands that of the simplest
forecast, the accuracy of the round before. Inside is the share of the measured accuracies that lie in the 95 %
interval, and width the median of its length.

| results | rounds before | forecasts | error, points | error of no change, points | inside, % | width, points |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{_lines(_rows_of_forecasts(results))}
"""


def _rows_of_rules(results: Mapping[str, Sequence[Sequence[Progress]]]) -> Iterable[Sequence[str]]:
    for name, runs in results.items():
        for words, rule in RULES.items():
            known = [rounds for rounds in runs if not rule.needs_agreement or rounds[-1].agreement is not None]
            if not known:
                continue
            found = [outcome(rule, rounds) for rounds in known]
            ended = fmean(of.is_ended for of in found)
            numbers = (ended, fmean(of.saved for of in found), fmean(of.lost for of in found))
            yield name, words, f"{len(found)}", *map(_in_hundred, numbers), _in_hundred(max(of.lost for of in found))


def _rows_of_forecasts(results: Mapping[str, Sequence[Sequence[Progress]]]) -> Iterable[Sequence[str]]:
    for name, runs in results.items():
        found = [of for rounds in runs for of in forecasts(rounds)]
        for number in sorted({of.rounds for of in found}):
            part = [of for of in found if of.rounds == number]
            errors = (fmean(abs(of.error) for of in part), fmean(abs(of.error_of_last) for of in part))
            certainty = (fmean(of.is_inside for of in part), median(of.width for of in part))
            yield name, f"{number}", f"{len(part)}", *map(_in_hundred, (*errors, *certainty))


def _in_hundred(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}".replace("-", "−")


def _lines(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.CSV")
    parser.add_argument("--output", type=Path, help="where the tables go; else they are printed")
    options = parser.parse_args(arguments)
    found = {path.parent.name: read_runs(path) for path in options.results}
    text = tables({name: runs for name, runs in found.items() if runs})
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
