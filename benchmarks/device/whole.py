"""What a GPU makes of queries and of whole runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from assl_lightning.loop.records import read_config, read_records
from benchmarks import acquisition
from benchmarks.device.guarding import Part, attempt, guarded, not_measured
from benchmarks.figures import Figure, Target
from benchmarks.measuring import CHECKOUT
from benchmarks.setups import SETUPS

_FIFTY_THOUSAND = acquisition.Size(50_000, 1_000, 10, 256, 100)
_QUERIES: tuple[tuple[str, acquisition.Size, float], ...] = (
    ("herding", acquisition.Size(50_000, 100, 10, 512, 100), 0.5),
    ("badge", _FIFTY_THOUSAND, 0.05),
    ("coreset", _FIFTY_THOUSAND, 0.05),
    ("cdal", _FIFTY_THOUSAND, 0.05),
    ("badge", acquisition.Size(49_000, 10_000, 100, 512, 1_000), 1.0),
)
"""Strategy, size, and the seconds that it may take on a GPU."""

_DIGITS = ("+experiment=digits_short", "acquisition=herding", "seed=1030")
_PAPER = (
    *(*SETUPS[0].overrides, "acquisition=assl", "initial_acquisition=random", "warm_up=none"),
    *("rounds=1", "initial_labels=100", "labels_per_round=100", "steps_per_round=2000"),
)


def queries(part: Part) -> Iterator[Figure]:
    """Seconds of `acquire`, once features and logits are there."""
    for name, size, most in _QUERIES:
        asked = acquisition.Size(200, 20, 4, 6, 5) if part.quick else size
        figure = Figure("queries", name, str(asked), "s", (), Target("≤", most) if part.is_cuda else None)
        if part.is_cuda and not part.may_begin(8):
            yield not_measured(figure, part)
        else:
            yield attempt(figure, partial(_seconds, part, name, asked))


def _seconds(part: Part, name: str, size: acquisition.Size) -> tuple[float, ...]:
    return acquisition.acquire_cost(name, size, part.device).seconds


def runs(part: Part) -> Iterator[Figure]:
    """A run on digits, of which an accuracy is known, and one at the paper's size, as the command line makes them.

    The first is started once more when it is complete: it must end at once, in the precision in which it began.
    """
    least = 8 if part.quick else 25
    with tempfile.TemporaryDirectory() as directory:
        for name, overrides, accuracy in (("digits, 50 labels", _DIGITS, 0.85), ("paper's step", _PAPER, None)):
            rest = Figure("runs", "seconds, from the command to its end", name, "s", ())
            if (name != "digits, 50 labels" and part.quick) or not part.may_begin(least):
                yield not_measured(rest, part)
                continue
            run_dir = Path(directory) / name.partition(",")[0].partition("'")[0]
            yield from guarded(_run(part, name, run_dir, overrides, accuracy), rest)


def _run(part: Part, name: str, run_dir: Path, overrides: tuple[str, ...], accuracy: float | None) -> Iterator[Figure]:
    figure = partial(Figure, "runs", size=name)
    quick = ("rounds=1", "steps_per_round=4") if part.quick else ()
    accelerator = f"trainer.accelerator={'gpu' if part.is_cuda else 'cpu'}"
    words = [*overrides, *quick, accelerator, f"run_dir={run_dir}"]
    yield figure("seconds, from the command to its end", unit="s", values=(_call(part, words),))
    records = read_records(run_dir)
    precision = _precision(read_config(run_dir))
    yield figure(f"rounds in {precision}", unit="", values=(len(records),))
    for what in ("train", "acquire"):
        values = tuple(record.seconds[what] for record in records if what in record.seconds)
        yield figure(f"seconds of a round: {what}", unit="s", values=values)
    if accuracy is None:
        rates = tuple(record.steps / record.seconds["train"] for record in records)
        yield figure("steps a second, start and tests of a round included", unit="1/s", values=rates)
        return
    target = None if part.quick else Target("≥", accuracy)
    yield figure("accuracy of the last round", unit="", values=(records[-1].test_accuracy_ema,), target=target)
    yield figure("seconds of the same command once more", unit="s", values=(_call(part, words),))


def _precision(config: Mapping[str, Any]) -> str:
    return str(config["trainer"]["precision"])


def _call(part: Part, words: list[str]) -> float:
    """Run the package's command with these overrides; return its seconds.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "assl_lightning", *words]
    left = max(part.seconds - (started - part.started), 1)
    finished = subprocess.run(
        command, cwd=CHECKOUT, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=left
    )
    if finished.returncode:
        raise RuntimeError(f"exit code {finished.returncode}: {finished.stderr.strip()[-300:]}")
    return time.perf_counter() - started
