"""`python -m assl_lightning.audit RUN_DIR`: wrong labels, near copies, and images that show little."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assl_lightning.base.argument_types import whole_number_from
from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import require_run
from assl_lightning.base.shell import command
from assl_lightning.base.words import counted, first_few
from assl_lightning.commands.messages import set_up_messages
from assl_lightning.commands.progress import progress

if TYPE_CHECKING:
    from assl_lightning.commands.auditing import Audit
    from assl_lightning.commands.label_search import Group

TABLE, PAGE = "audit.csv", "audit.html"
DISTANCE = 4
_FARTHEST = 16  # bits; farther hashes are of other pictures, and the search grows with the distance


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Audit a run, write the table and the page, and print what was found; with --ask, put it back to people."""
    options = _parser().parse_args(arguments)
    set_up_messages()
    run_dir, output = options.run_dir, options.output or options.run_dir
    require_run(run_dir)
    if options.most is not None and not options.ask:
        raise ValueError("--most: says of how many images people are asked; add --ask")
    if not output.is_dir():
        raise FileNotFoundError(f"--output {output}: there is no such directory; make it first")
    from assl_lightning.commands.asking_again import (
        Asking,
        asks_people,
    )  # torch is imported once the arguments are right
    from assl_lightning.commands.audit_files import write_page, write_table
    from assl_lightning.commands.auditing import audit, check_packages
    from assl_lightning.commands.predicting import RunPredictor

    check_packages()
    predictor = RunPredictor(run_dir, device=options.device)
    asking = Asking(predictor) if options.ask else None
    with progress() as tell:
        found = audit(predictor, options.distance, tell)
    write_table(found, predictor.source, output / TABLE)
    write_page(found, predictor, output / PAGE)
    lines = list(summary(found, [output / TABLE, output / PAGE]))
    if asking is not None:
        lines += asking.ask(found, options.most)
    elif found.questions and asks_people(predictor):
        lines.append(f"to ask people once more: {command('audit', run_dir, '--ask')}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def summary(found: Audit, files: Sequence[Path]) -> Iterator[str]:
    """Yield the lines to print."""
    yield f"{counted(found.images, 'image')} of the pool: {', '.join(map(str, files))}"
    yield f"labels that are probably wrong: {len(found.of_kind('label'))}"
    for group in found.groups:
        yield f"  {len(group.suspects)} of {len(group.judged)} {group.description}{_note(group)}"
    if not any(group.is_new for group in found.groups):
        yield "  there is no hold-out and no test set: the newest network was trained on all labels that it judges"
    copies = found.of_kind("copy")
    contrary = sum(finding.contradicts for finding in copies)
    yield f"near copies in the pool: {len(copies)}{f', {contrary} with another label' if contrary else ''}"
    yield f"held-out and test images with a near copy in the pool: {len(found.of_kind('copy_in_test'))}"
    yield f"empty: {len(found.of_kind('empty'))}; blurred: {len(found.of_kind('blurred'))}"
    if lost := found.of_kind("unreadable"):
        yield f"cannot be read, and were passed over: {len(lost)} ({first_few([finding.name for finding in lost])})"


def _note(group: Group) -> str:
    from assl_lightning.commands.wrong_labels import FEWEST_OF_A_CLASS

    if group.by_class:
        return ""
    return f" (some class has fewer than {FEWEST_OF_A_CLASS}: all that are predicted as another class)"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m assl_lightning.audit",
        description="List labels of a run that are probably wrong, near copies in the pool and between it and the "
        "images to test with, and images that are empty or blurred: as a table and as a page with pictures.",
    )
    parser.add_argument("run_dir", type=path_argument, metavar="RUN_DIR", help="the directory of a run")
    parser.add_argument(
        "--output", type=path_argument, metavar="DIR", help=f"where {TABLE} and {PAGE} go; default: the run's directory"
    )
    parser.add_argument(
        "--distance",
        type=whole_number_from(0, _FARTHEST),
        default=DISTANCE,
        metavar="BITS",
        help=f"bits of 64 in which the hashes of near copies differ at most, up to {_FARTHEST}; default: {DISTANCE}",
    )
    parser.add_argument(
        "--ask",
        action="store_true",
        help="write a batch of the images whose labels are probably wrong, or differ from that of a near copy, for "
        "people to label once more",
    )
    parser.add_argument(
        "--most",
        type=whole_number_from(1),
        metavar="N",
        help="with --ask: at most so many images, the most suspicious first",
    )
    parser.add_argument("--device", default="cpu", help="a device of torch, such as cuda; default: cpu")
    return parser
