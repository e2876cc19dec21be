"""`python -m benchmarks [SECTION …]`: measure, print a table, write it and its numbers to `benchmarks/results`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from assl_lightning.commands.messages import set_up_messages
from benchmarks.figures import Figure, as_markdown, this_machine, write

SECTIONS = ("step", "learners", "augmentation", "callback", "acquisition", "decoding", "paper_round", "start_up")
Measure = Callable[[torch.device, bool], Iterator[Figure]]


def main(arguments: list[str] | None = None) -> None:
    """Run the sections that were named, all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, and nothing of speed")
    parser.add_argument(
        "--name", help="of the two files; default: the processor or the accelerator, and what was left out"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args(arguments)
    unknown = [section for section in given.sections if section not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here; leave it out to measure the CPU")
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {given.output}: cannot be made ({error.strerror}); name a directory to write to")

    set_up_messages()
    part = "-".join(["", *given.sections, *(["quick"] if given.quick else [])])  # keeps a whole run's files as they are
    machine = this_machine(device)
    machine = replace(machine, name=given.name or machine.name + part)
    figures: list[Figure] = []
    for section in given.sections or SECTIONS:
        measure: Measure = import_module(f"benchmarks.{section}").measure
        for figure in measure(device, given.quick):
            figures.append(figure)
            value = f"{figure.median:.4g} {figure.unit}" if figure.values else "not measured"
            print(f"{section}: {figure.what}, {figure.size}: {value}", file=sys.stderr, flush=True)
        written = write(given.output, machine, figures)  # after each section, so that a later one loses nothing
    print(as_markdown(machine, figures))
    print("written:", *written)


if __name__ == "__main__":
    main()
