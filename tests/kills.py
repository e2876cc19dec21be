"""Kill a run again and again until it ends, and compare it with one that nobody disturbed.

    python tests/kills.py --kills 200 --output results/kills.md

With --warm-up the network is warmed up before the first label. With --every-algorithm the runs take turns with all
learners from pseudo-labels, and with both switches of one of them; each gets its share of the kills.

Each run is a process of its own, forked from this one so that it need not import everything again, which does what the
command line does. It gets SIGKILL at a random instant, or as soon as a file is being written. Where a run ends before
there were enough kills, the next seed's begins.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from assl_lightning.commands.train import main as command_line
from assl_lightning.config import build  # noqa: F401  what a run would import
from assl_lightning.config.compose import conf_dir
from tests.same_run import differences_of_runs

OVERRIDES = (
    "rounds=2",
    "labels_per_round=5",
    "warm_up=none",
    "steps_per_round=40",
    "steps_per_epoch=10",
    "network.width=8",
    "algorithm.batch_size=8",
    "algorithm.mu=2",
    "trainer.log_every_n_steps=5",
    "trainer.accelerator=cpu",
    "checkpoint.every_n_steps=3",
)
WARM_UP = ("warm_up=simclr", "warm_up.steps=30", "warm_up.batch_size=8", "initial_acquisition=kmeans_plus_plus")
SWITCHES = ("algorithm=freematch_small", "algorithm.module.balanced_head=true", "algorithm.module.teacher=ema")
_LONGEST_WAIT = 4.0  # seconds until a kill at a random instant: a bit longer than it takes to get to the first step
_WRITING = 0.5  # the share of kills that wait for a file to be written


@dataclass
class Outcome:
    """What came of a number of kills."""

    kills: Counter[str] = field(default_factory=Counter)  # by where they hit
    starts: int = 0
    runs: int = 0
    differences: list[str] = field(default_factory=list)


def kill_until_it_ends(
    directory: Path, seed: int, wanted: int, luck: random.Random, outcome: Outcome, overrides: Sequence[str]
) -> None:
    """One run, killed as long as kills are wanted; then left alone, and compared."""
    straight, killed = directory / f"straight_{seed}", directory / f"killed_{seed}"
    if _finish(_start(straight, seed, overrides)) != 0:
        raise RuntimeError(f"the undisturbed run failed; see {straight}.log")
    while outcome.kills.total() < wanted:
        process = _start(killed, seed, overrides)
        outcome.starts += 1
        if _kill(process, killed, luck):
            outcome.kills[_where(killed)] += 1
        elif _ended_well(process):
            break
        else:
            raise RuntimeError(f"a run that had been killed could not go on; see {killed}.log")
    else:
        outcome.starts += 1
        if _finish(_start(killed, seed, overrides)) != 0:
            raise RuntimeError(f"a run that had been killed could not go on; see {killed}.log")
    outcome.runs += 1
    outcome.differences += [f"seed {seed}: {line}" for line in differences_of_runs(straight, killed)]


_exit_codes: dict[int, int] = {}


def _start(run_dir: Path, seed: int, overrides: Sequence[str]) -> int:
    process = os.fork()
    if process:
        return process
    log = os.open(f"{run_dir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 70
    try:
        code = command_line([*overrides, f"seed={seed}", f"run_dir={run_dir}"])
    finally:
        os._exit(code)


def _kill(process: int, run_dir: Path, luck: random.Random) -> bool:
    """Kill it some time later; False if it ended by itself before."""
    until = time.monotonic() + luck.uniform(0, _LONGEST_WAIT)
    in_a_write = luck.random() < _WRITING
    while time.monotonic() < until or (in_a_write and not any(run_dir.rglob("*.tmp"))):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            _exit_codes[process] = os.waitstatus_to_exitcode(status)
            return False
        time.sleep(0.0005)
    os.kill(process, signal.SIGKILL)
    _finish(process)
    return True


def _finish(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _ended_well(process: int) -> bool:
    return _exit_codes.pop(process) == 0


def _where(run_dir: Path) -> str:
    """What a kill left behind, in words."""
    if any(run_dir.rglob("*.tmp")):
        return "while a file was being written"
    if (run_dir / "warm_up").exists() and not (run_dir / "warm_up.json").exists():
        return "in the warm-up, between two writes"
    states = [path.read_text() for path in run_dir.glob("round_*/state.json")]
    if any('"training"' in state for state in states):
        return "in a training, between two writes"
    if any('"trained"' in state for state in states):
        return "in a query"
    if any('"waiting"' in state for state in states):
        return "while labels were asked for"
    return "before the first round, between two rounds or in the report"


def learners() -> list[tuple[str, ...]]:
    """What the command line says of each learner from pseudo-labels, and of one with a balanced head and a teacher."""
    names = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*_small.yaml"))
    return [*((f"algorithm={name}",) for name in names), SWITCHES]


def _report(outcome: Outcome, seconds: float, *, is_warm: bool, algorithms: int) -> str:
    option, warm_up = (" --warm-up", "a warm-up of 30 steps, ") if is_warm else ("", "")
    if algorithms > 1:
        option, warm_up = f"{option} --every-algorithm", f"{algorithms} algorithms in turn, {warm_up}"
    rows = "\n".join(f"| {where} | {count} |" for where, count in outcome.kills.most_common())
    found = "\n".join(outcome.differences) or "none"
    return f"""# A run that is killed is the same run

`python tests/kills.py --kills {outcome.kills.total()}{option}`: {outcome.kills.total()} × SIGKILL, \
{outcome.starts} starts, {outcome.runs} runs that ended, {seconds:,.0f} s.
Digits, {warm_up}three trainings of 40 steps, a checkpoint every third step.

| where it was killed | kills |
| --- | ---: |
{rows}

Differences from the undisturbed runs, to the last bit (records but for seconds, metrics.csv, weights, optimizer,
statistics, queries, pictures): {found}.

{platform.processor() or platform.machine()}, {platform.system()}, Python {platform.python_version()}, \
torch {torch.__version__}, one thread.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--warm-up", action="store_true", help="kill runs with a warm-up")
    parser.add_argument("--every-algorithm", action="store_true", help="kill runs of each algorithm in turn")
    parser.add_argument("--luck", type=int, default=0, help="seed of the instants")
    parser.add_argument("--output", type=Path, help="where the report goes; else it is printed")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    overrides = [*OVERRIDES, *(WARM_UP if options.warm_up else ())]
    turns: list[tuple[str, ...]] = learners() if options.every_algorithm else [()]
    outcome, luck, started = Outcome(), random.Random(options.luck), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        while outcome.kills.total() < options.kills:
            wanted = min(options.kills, -(-(outcome.runs + 1) * options.kills // len(turns)))
            of_run = [*overrides, *turns[outcome.runs % len(turns)]]
            kill_until_it_ends(Path(directory), outcome.runs, wanted, luck, outcome, of_run)
    text = _report(outcome, time.monotonic() - started, is_warm=options.warm_up, algorithms=len(turns))
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
