"""`python -m assl_lightning.ingest RUN_DIR [FILE]`: take labels that people send back, without torch and Lightning.

The whole file is checked before anything is written, and all of its answers are written or none.
"""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from assl_lightning.base.command_line import Parser, as_command, print_errors
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import CONFIG, LEDGER
from assl_lightning.base.shell import command
from assl_lightning.base.tables import is_utf8
from assl_lightning.base.words import counted, printable
from assl_lightning.data.answers import Answer, Conflicts, in_time, name_of, resolve
from assl_lightning.loop.records import command_of, read_config
from assl_lightning.people.batch import (
    TABLE,
    LabelBatch,
    find_all_batches,
    find_batches,
    known_classes,
    require_batches,
    waiting_batch,
)
from assl_lightning.people.errors import IngestError
from assl_lightning.people.files import display_name, read_labels
from assl_lightning.people.judging import Judgement, ingest
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.returned import RETURNED, returned_files

_DRY = "this was a dry run: nothing was written"
_PLACE = re.compile(r", (?:line|row|entry|task) [0-9]+(?:[, ]|$)")  # what follows a file's name in an answer's source


@as_command
def main(arguments: list[str] | None = None) -> int:
    """Take, list or revoke answers, print what was done, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        lines = list(_command(options))
    except IngestError as error:
        print_errors(error.lines)
        sys.stderr.write(f"{counted(len(error.lines), 'error')}; nothing was taken\n")
        return 1
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    return 0


def default_files(run_dir: Path) -> list[Path]:
    """Find the files of labels in the batch that a run waits for: one that was put there, and the table if filled in.

    Raises:
        ValueError: there is none, there are several beside the table, or the run waits for no labels.
    """
    batch = waiting_batch(run_dir)
    found = returned_files(batch)
    if not found:
        raise ValueError(
            f"{batch.directory} must hold one of {', '.join(RETURNED)}, or answers in {TABLE}; it holds none: fill the "
            f"table in, or name the file"
        )
    return found


def configured_conflicts(run_dir: Path) -> Conflicts:
    """Return oracle.conflicts of the run's config.yaml; "error" if there is none.

    Raises:
        ValueError: the file cannot be read, or the value is no policy.
    """
    if not (run_dir / CONFIG).exists():
        return "error"
    oracle = read_config(run_dir).get("oracle")
    value = oracle.get("conflicts", "error") if isinstance(oracle, dict) else "error"
    for policy in get_args(Conflicts):
        if value == policy:
            return policy  # type: ignore[no-any-return]
    raise ValueError(
        f"{run_dir / CONFIG}: oracle.conflicts must be one of {', '.join(get_args(Conflicts))}; got {value!r}. Give it "
        f"with --conflicts"
    )


def answers_of(answers: Iterable[Answer], file: str) -> list[Answer]:
    """Return the answers that came from a file of this name in any directory."""
    name = display_name(Path(file))
    return [answer for answer in answers if answer.source.startswith(name) and _PLACE.match(answer.source, len(name))]


# --- commands --------------------------------------------------------------------------------------------------------


def _command(options: argparse.Namespace) -> Iterator[str]:
    """Carry out the command, and yield the lines to print."""
    others = [name for name in ("history", "undo", "undo_file") if getattr(options, name)]
    if len(others) + (options.file is not None) > 1:
        raise ValueError("FILE, --history, --undo and --undo-file are four commands; give one of them")
    if not (options.run_dir / LEDGER).exists():
        require_batches(options.run_dir)
    if options.history:
        return _history(options.run_dir)
    if others:
        return _undo(options)
    return _ingest(options)


def _ingest(options: argparse.Namespace) -> Iterator[str]:
    run_dir = options.run_dir
    paths = [options.file] if options.file else default_files(run_dir)
    conflicts = options.conflicts or configured_conflicts(run_dir)
    batches = find_all_batches(run_dir)
    classes = known_classes(batches)
    number = _round_beside(paths[0], batches)
    annotator = "" if options.annotator is None and number is not None else _annotator(options)
    incoming = [
        replace(answer, round=number)
        for path in paths
        for answer in read_labels(path, annotator=annotator, encoding=options.encoding, class_names=classes)
    ]
    judgement = ingest(run_dir, incoming, conflicts=conflicts, dry_run=options.dry_run)
    answers = counted(len(incoming), "answer")
    yield f"{' and '.join(map(str, paths))}: {answers}, {_accepted(judgement, options.dry_run)}"
    yield from (f"  {notice}" for notice in judgement.notices)
    if options.dry_run:
        yield _DRY
    else:
        yield from _next_steps(run_dir)


def _round_beside(path: Path, batches: Sequence[LabelBatch]) -> int | None:
    """Return the round of the batch in whose folder a file lies, or None. The run reads such a file by itself."""
    rounds = {batch.directory.resolve(): batch.round for batch in batches}
    return rounds.get(path.resolve().parent)


def _accepted(judgement: Judgement, dry_run: bool) -> str:
    counts = Counter(answer.label if answer.kind == "label" else f"({answer.kind})" for answer in judgement.answers)
    parts = ", ".join(f"{count} × {name}" for name, count in counts.most_common())
    return f"{'to be taken' if dry_run else 'taken'}: {len(judgement.answers)}" + (f" ({parts})" if parts else "")


def _next_steps(run_dir: Path) -> Iterator[str]:
    config = read_config(run_dir) if (run_dir / CONFIG).exists() else {}
    if differing := _differing(run_dir):
        page = command("label", run_dir, "--settle")
        yield f"people differ about {counted(differing, 'image')}, and the run waits until {page} settles that"
    yield f"to go on: {command_of(config)}"
    yield f"to take answers back: {command('ingest', run_dir, '--history')} lists them, --undo ID takes back"


def _differing(run_dir: Path) -> int:
    """Return the number of images of the waiting batch about which people differ, by the run's own policy."""
    samples = [sample.sample_id for batch in find_batches(run_dir) if batch.is_open for sample in batch.samples]
    try:
        resolved = resolve(Ledger(run_dir / LEDGER).active_answers(), configured_conflicts(run_dir))
    except ValueError:  # the run itself refuses this policy
        return 0
    return sum(name in resolved and resolved[name].kind == "conflict" for name in samples)


def _history(run_dir: Path) -> Iterator[str]:
    header = ("id", "time", "time given", "who", "sample", "answer", "source", "taken back by", "replaced by")
    rows = [header]
    history = Ledger(run_dir / LEDGER).history()
    present = {answer.id: answer.label for answer, _ in Ledger(run_dir / LEDGER).history(as_now=True)}
    newer = _newer([answer for answer, revoked_by in history if revoked_by is None])
    for answer, revoked_by in history:
        content = _content(answer)
        if present.get(answer.id) != answer.label:
            content = f"{content} (now {present[answer.id]})"
        times, successors = (answer.at, answer.stated or ""), (revoked_by or "", newer.get(answer.id, ""))
        cells = (answer.id, *times, answer.annotator, answer.sample_id, content, answer.source, *successors)
        rows.append(tuple(map(str, cells)))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _content(answer: Answer) -> str:
    content = str(answer.label) if answer.kind == "label" else f"({answer.kind})"
    return f"{content}, decided" if answer.decides else content


def _newer(active: Iterable[Answer]) -> Mapping[int | None, int | None]:
    """Return the id of an answer → the id of its annotator's next one to the sample, or of the next decision."""
    found: dict[int | None, int | None] = {}
    last: dict[tuple[str, str | None], Answer] = {}
    for answer in in_time(active):
        key = (answer.sample_id, None if answer.decides else answer.annotator)  # of all decisions the latest counts
        if key in last:
            found[last[key].id] = answer.id
        last[key] = answer
    return found


def _undo(options: argparse.Namespace) -> Iterator[str]:
    ledger = Ledger(options.run_dir / LEDGER)
    active = ledger.active_answers()
    if options.undo_file:
        chosen = answers_of(active, options.undo_file)
        if not chosen:
            raise ValueError(
                f"{ledger.path} has no answer from {options.undo_file!r} that could be taken back; --history lists "
                f"what it has, and from where"
            )
    else:
        chosen = [answer for answer in active if answer.id in options.undo]
    ids = [answer.id for answer in chosen if answer.id is not None] if options.undo_file else options.undo
    if not options.dry_run or len(chosen) < len(set(ids)):
        chosen = ledger.revoke(ids, _annotator(options), "undo")
    yield f"{'to be taken back' if options.dry_run else 'taken back'}: {counted(len(chosen), 'answer')}"
    for answer in chosen:
        yield f"  {answer.id}: {answer.sample_id} {_content(answer)}, {name_of(answer.annotator)}, {answer.source}"
    if options.dry_run:
        yield _DRY
    elif options.undo_file:
        name = Path(options.undo_file).name
        places = [batch.directory / name for batch in find_all_batches(options.run_dir)]
        yield from (f"{path} is still there: correct it, or take it away" for path in places if path.exists())


def _annotator(options: argparse.Namespace) -> str:
    if options.annotator is None:
        try:
            return getpass.getuser()
        except (KeyError, OSError, ImportError):
            raise ValueError("the login has no name here; give the annotator's with --annotator NAME") from None
    if not options.annotator.strip() or not is_utf8(options.annotator):
        raise ValueError(f"--annotator must be a name; got {options.annotator!a}")
    return str(options.annotator.strip())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=command("ingest"),
        description="Take labels that people send back as CSV, Parquet or JSON. All errors in the file are reported "
        "at once, with their lines, and then nothing is taken.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=path_argument, help="the run's directory")
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=path_argument,
        help=f"with the columns sample_id, label and, as needed, status, annotator, seconds, at; default: one of "
        f"{', '.join(RETURNED)} beside the batch that waits, and its {TABLE} if it is filled in",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be taken, and write nothing")
    parser.add_argument(
        "--annotator",
        metavar="NAME",
        help="the annotator of lines that name none; default: your login name, but no name for a file beside the "
        "batch, as when the run itself reads it",
    )
    parser.add_argument(
        "--encoding", metavar="NAME", help="of CSV and JSON; default: UTF-8, or the encoding of its byte order mark"
    )
    parser.add_argument(
        "--conflicts",
        choices=get_args(Conflicts),
        help="the policy for contradictory answers: error refuses them, latest takes the latest, majority the answer "
        "of most people; default: the run's oracle.conflicts, or else error",
    )
    parser.add_argument(
        "--history",
        action="store_true",
        help="list every answer that was ever given, with the time by which it counts and the time in its source",
    )
    parser.add_argument(
        "--undo", metavar="ID", type=int, nargs="+", help="take answers back, by their ids in --history"
    )
    parser.add_argument("--undo-file", metavar="FILE", help="take back all answers that came from a file of this name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
