"""What only a GPU can show, in one table and under nine minutes: `python -m benchmarks.device_check --output DIR`.

Made for a machine that is borrowed for minutes. The most important comes first, and each part runs in a process of its
own with a limit of its own: what fails, hangs or breaks the device is a row of the table, and the next part begins. The
files are written after each figure. On a machine without a CUDA device what needs one is "not measured";
`--device cpu --quick` shows that the rest runs.

    kernels     do the fused kernels run here, are they right, how long do they take beside torch's operators
    step        the paper's, in bf16-mixed: steps a second, waits of the host, launches, busy time, memory; ÷ its floor
    graph       the same of a step that a CUDA graph replays; weights, table and picks beside those without it
    agreement   does the GPU compute what the CPU does: draws, views, statistics, scores, picks
    queries     herding, BADGE, CoreSet and CDAL at N = 50,000, BADGE at CIFAR-100's size
    runs        whole runs by the command line: digits, with their accuracy, and two rounds at the paper's size
    warm_up     steps of SimCLR a second
    variants    steps a second of other precisions, layouts, networks and optimizers, as many as there is time for
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from assl_lightning.commands.messages import set_up_messages
from benchmarks.device.agreement import agreement
from benchmarks.device.fused import fused
from benchmarks.device.guarding import Part, guarded
from benchmarks.device.steps import graph, step, variants, warm_up
from benchmarks.device.whole import queries, runs
from benchmarks.figures import Figure, Target, as_markdown, this_machine, write
from benchmarks.measuring import CHECKOUT

PARTS: Mapping[str, tuple[Callable[[Part], Iterator[Figure]], float]] = {
    "kernels": (fused, 75),
    "step": (step, 60),
    "graph": (graph, 75),
    "agreement": (agreement, 60),
    "queries": (queries, 50),
    "runs": (runs, 110),
    "warm_up": (warm_up, 30),
    "variants": (variants, 200),
}
"""Name → what measures it, and the seconds after which it is ended, its start included."""

_FIGURE = "figure: "  # begins a line of a part's output
_LEAST = 15.0  # seconds: a process needs so many to start and to measure anything


def main(arguments: list[str] | None = None) -> None:
    """Measure what there is time for, write the table and its numbers, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_check", description=__doc__)
    parser.add_argument("--output", type=Path, help="directory of the table and its numbers")
    parser.add_argument(
        "--seconds", type=float, default=None, help="of the whole, 500 by default; what is not done by then is left out"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, and nothing of speed")
    parser.add_argument("--part", choices=tuple(PARTS), help="measure this one alone, in this process")
    given = parser.parse_args(arguments)
    if given.output is None and given.part is None:
        parser.error("--output DIR is needed: where the table and its numbers go")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here; --device cpu --quick shows that the check runs")
    if given.device == "cpu" and not given.quick:
        parser.error("a CPU takes hours for the paper's step: add --quick, or use a machine with a CUDA device")
    device = torch.device(given.device)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    set_up_messages()
    seconds = given.seconds or (3_600 if given.quick else 500)
    if given.part is not None:
        for figure in measured(given.part, Part(device, given.quick, seconds)):
            print(_FIGURE + json.dumps(asdict(figure)), flush=True)
        return
    given.output.mkdir(parents=True, exist_ok=True)
    machine, figures = replace(this_machine(device), name="device_check"), []
    for figure in all_parts(given.device, seconds, quick=given.quick):
        figures.append(figure)
        write(given.output, machine, figures)  # whatever ends it
        value = f"{figure.median:.4g} {figure.unit}" if figure.values else figure.note or "not measured"
        print(f"{figure.section}: {figure.what}, {figure.size}: {value}", file=sys.stderr, flush=True)
    print(as_markdown(machine, figures))


def measured(name: str, part: Part) -> Iterator[Figure]:
    """Yield the figures of a part, in this process; an error is the last of them."""
    measure, _ = PARTS[name]
    return guarded(measure(part), _rest(name))


def all_parts(device: str, seconds: float, *, quick: bool) -> Iterator[Figure]:
    """Yield the figures of each part, which runs in a process of its own until its limit, or that of the whole."""
    ends = time.perf_counter() + seconds
    for name, (_, of_part) in PARTS.items():
        limit = seconds if quick else of_part  # tiny sizes tell nothing of time
        left = ends - time.perf_counter()
        if left < _LEAST:
            yield replace(_rest(name), note="Not measured: no time was left.")
            continue
        most = min(left, limit)
        words = ["--part", name, "--device", device, "--seconds", f"{most:.0f}", *(["--quick"] if quick else [])]
        yield from in_a_process([sys.executable, "-m", "benchmarks.device_check", *words], most, _rest(name))


def in_a_process(command: Sequence[str], seconds: float, rest: Figure) -> Iterator[Figure]:
    """Yield the figures that a command prints, until it ends or is ended; `rest`, with the reason, if it fails."""
    was_ended = threading.Event()
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:

        def end() -> None:
            was_ended.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the commands that it has started

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(_FIGURE):
                    yield _figure_of(json.loads(line.removeprefix(_FIGURE)))
            code = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                end()
    if was_ended.is_set():
        yield replace(rest, note=f"Not measured: it was ended after {seconds:.0f} s.")
    elif code:
        yield replace(rest, note=f"Failed: its process ended with exit code {code}; see its output above.")


def _rest(name: str) -> Figure:
    return Figure(name, "the rest of this section", "", "", ())


def _figure_of(row: dict[str, Any]) -> Figure:
    target = None if row["target"] is None else Target(**row["target"])
    return Figure(**{**row, "values": tuple(row["values"]), "target": target})


if __name__ == "__main__":
    main()
