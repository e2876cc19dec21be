"""`python -m assl_lightning.status RUN_DIR …`: the state of runs and the next step of each, without torch."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assl_lightning.base.argument_types import number_above
from assl_lightning.base.arguments import is_integer
from assl_lightning.base.command_line import Parser, as_command, lines_of, print_errors
from assl_lightning.base.locking import is_held
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import CONFIG, LEDGER, POOL, RESUME, WARM_UP, require_run, round_directory
from assl_lightning.base.shell import command
from assl_lightning.base.words import first_line
from assl_lightning.base.words import seconds as seconds_in_words
from assl_lightning.data.answers import Conflicts, resolve
from assl_lightning.loop.budget import describe_batches, planned_labels
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.picked_accuracy import newest_picked_accuracy
from assl_lightning.loop.progress import outlook_of
from assl_lightning.loop.records import (
    RoundRecord,
    command_of,
    num_complete,
    read_config,
    read_records,
    read_state,
    reason_of_end,
    trained_records,
)
from assl_lightning.loop.warm_up_record import WarmUpRecord, read_warm_up
from assl_lightning.people.batch import TABLE, LabelBatch, find_audits, find_batches, waiting_batch
from assl_lightning.people.judging import unanswered
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.returned import RETURNED, read_returned
from assl_lightning.stopping.outlook import Outlook
from assl_lightning.stopping.picked_accuracy import PickedAccuracy


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the state of each run; the exit code is 1 where one of them cannot be read."""
    options = _parser().parse_args(arguments)
    exit_code = 0
    for run_dir in (found for path in options.run_dirs for found in runs_at(path)):
        try:
            if options.wait is None:
                _print(read_status(run_dir))
            else:
                wait_for_answers(run_dir, options.wait, _print)
        except (ValueError, OSError) as error:
            print_errors(lines_of(error))
            exit_code = 1
    return exit_code


def runs_at(path: Path) -> list[Path]:
    """Return the directories of the runs below `path`, sorted; `path` itself if it is a run, or has none below it."""
    if (path / CONFIG).exists():
        return [path]
    return [file.parent for file in sorted(path.rglob(CONFIG))] or [path]


@dataclass(frozen=True)
class Status:
    """The state of a run, and the next step."""

    run_dir: Path
    name: str
    rounds: int  # acquisitions that were asked for
    complete: int  # rounds whose labels are all there
    records: tuple[RoundRecord, ...]  # of those, and of a round that is trained and waits for labels
    doing: str  # what the run does, or waits for
    next: str  # what to do now
    then: str = ""  # what to do after people have done that
    answered: str = ""  # how much of the waiting batch is answered
    later: str = ""  # how much is to be labelled after it
    classes: str = ""  # the classes, where they have changed
    warm_up: WarmUpRecord | None = None  # the training before the first label, if it is complete
    waiting_round: int | None = None  # the round that waits for labels, as its directory is numbered
    picks: tuple[int, PickedAccuracy] | None = None  # newest round whose picks tell an accuracy, and that accuracy
    outlook: Outlook | None = None  # what the rounds so far say of labelling more; None without a round
    audits: tuple[str, ...] = ()  # how much is answered of what audits ask for once more, where something is left

    @property
    def goes_on(self) -> bool:
        """True if the run does not wait for people."""
        return not self.then

    def lines(self) -> Iterator[str]:
        """Yield the lines to print."""
        yield f"{self.run_dir} ({self.name})"
        number = min(self.complete, self.rounds) if self.waiting_round is None else self.waiting_round
        yield f"  round      {number} of {self.rounds}: {self.doing}"
        if self.answered:
            yield f"  answers    {self.answered}"
        yield from (f"  audit      {audit}" for audit in self.audits)
        if self.later:
            yield f"  later      {self.later}"
        if self.classes:
            yield f"  classes    {self.classes}"
        if self.warm_up is not None:
            what = f"{self.warm_up.steps:,} steps on {self.warm_up.images:,} images"
            yield f"  warm-up    {what}, {seconds_in_words(self.warm_up.seconds)} s"
        if self.records:
            last = self.records[-1]
            asked = f", {len(last.queried)} asked for since" if last.queried else ""
            yield f"  labels     {last.labels} trained on{asked}"
            accuracies = " ".join(f"{100 * record.test_accuracy_ema:.1f}" for record in self.records)
            yield f"  accuracy   {accuracies} % (averaged weights, by round)"
        if self.picks is not None:
            number, accuracy = self.picks
            yield f"  picks      round {number}: {accuracy}"
        if self.outlook is not None:
            yield from (f"  {name:<10} {sentence}" for name, sentence in self.outlook.lines())
        yield f"  next       {self.next}"
        if self.then:
            yield f"  then       {self.then}"


def read_status(run_dir: Path) -> Status:
    """Read the state of a run from its files.

    Raises:
        ValueError: the directory holds no run, or a file of it cannot be read.
    """
    require_run(run_dir)
    config = read_config(run_dir)
    rounds = config.get("rounds")
    if not is_integer(rounds):
        raise ValueError(f"{run_dir / CONFIG} must say how many rounds there are; got {rounds!r}. Restore it")
    complete = num_complete(read_records(run_dir), rounds)
    records = trained_records(run_dir, rounds)
    batch = next((batch for batch in reversed(find_batches(run_dir)) if batch.is_open), None)
    if batch is None:
        doing, next_step = _progress(run_dir, complete, rounds, config)
        answered = later = then = ""
    else:
        doing = "waits for labels"
        answered, next_step, then = _progress_of_batch(batch, config)
        later = _labels_of_later_rounds(rounds - batch.round, config)
    return Status(
        run_dir=run_dir,
        name=str(config.get("name") or run_dir.name),
        rounds=rounds,
        complete=complete,
        records=tuple(records),
        doing=doing,
        next=next_step,
        then=then,
        answered=answered,
        later=later,
        classes=_changed_classes(run_dir),
        warm_up=read_warm_up(run_dir),
        waiting_round=None if batch is None else batch.round,
        picks=newest_picked_accuracy(run_dir, config, records),
        outlook=outlook_of(records, config) if records else None,
        audits=tuple(_open_audits(run_dir)),
    )


def wait_for_answers(
    run_dir: Path, seconds: float, report: Callable[[Status], None], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return when a run has what it waits for: answers in the ledger, a file that came back, or finished tasks.

    No training process, and no GPU, needs to wait along.

    Args:
        run_dir: the directory of the run.
        seconds: the time between two looks.
        report: called with the status at first, and whenever more is answered.
        sleep: waits for so many seconds.

    Raises:
        ValueError: the directory holds no run, or a file of it cannot be read.
        ConnectionError: a server of Label Studio does not answer.
    """
    reported = None
    while True:
        status = read_status(run_dir)
        if status.answered != reported:
            report(status)
            reported = status.answered
        if status.goes_on or _has_come_back(run_dir):
            return
        sleep(seconds)


# --- a run that trains, or has ended ---------------------------------------------------------------------------------


def _progress(run_dir: Path, number: int, rounds: int, config: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a run does that does not wait for people, in round `number`, and the next step."""
    if reason := reason_of_end(run_dir, rounds):
        further = f"another number of rounds, another rule, or stop=none goes on with {command_of(config)}"
        return f"ended by its rule: {reason}", f"{command('report', run_dir)} shows its rounds; {further}"
    if number > rounds:
        more = f"more of them with rounds={rounds + 1} or more"
        predict = f"{command('predict', run_dir)} tells the classes of all other images; "
        by_people = (run_dir / LEDGER).exists()
        return "finished", f"{command('report', run_dir)} shows its rounds; {predict if by_people else ''}{more}"
    state, _ = read_state(run_dir, number)
    if not (round_directory(run_dir, number) / POOL).exists():
        must_warm_up = config.get("warm_up") is not None and read_warm_up(run_dir) is None
        doing = f"warming up{_saved(run_dir / WARM_UP)}" if must_warm_up else "has no labels to begin with"
    elif state == "training":
        doing = f"training{_saved(round_directory(run_dir, number))}"
    else:
        doing = "trained, to be queried" if state == "trained" else "queried, to be labelled"
    if is_held(run_dir):
        return doing, "nothing: a process runs it"
    return f"stopped ({doing})", _resume(config)


def _saved(directory: Path) -> str:
    """Return the last step that a training whose files lie in `directory` has saved, in words; "" if there is none."""
    steps = sorted((directory / RESUME).glob("step_*.ckpt"))
    return f", last saved at step {int(steps[-1].stem.removeprefix('step_'))}" if steps else ""


def _resume(config: Mapping[str, Any]) -> str:
    return f"give again {command_of(config)}, and the run goes on"


def _open_audits(run_dir: Path) -> Iterator[str]:
    audits = [audit for audit in find_audits(run_dir) if audit.is_open]
    answers = Ledger(run_dir / LEDGER).active_answers() if audits else []
    for audit in audits:
        if left := len(unanswered(audit, answers)):
            count = len(audit.samples)
            yield f"{count - left} of the {count} images in {audit.directory} are answered once more"


def _changed_classes(run_dir: Path) -> str:
    """Return the classes of a run and their newest change, or "" where they have not changed."""
    history = read_history(run_dir)
    if history is None:
        return ""
    newest = history.changes[-1]
    return f"{', '.join(history.names())} ({newest}, from round {newest.round} on)"


# --- a run that waits for people -------------------------------------------------------------------------------------


def _progress_of_batch(batch: LabelBatch, config: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return how much of a batch is answered, the next step, and the step after it."""
    oracle = _oracle(config)
    conflicts: Conflicts = oracle["conflicts"] if oracle.get("conflicts") in ("latest", "majority") else "error"
    answers = Ledger(batch.run_dir / LEDGER).active_answers()
    resolved = resolve(answers, conflicts)
    left = set(unanswered(batch, answers))
    kinds = [resolved[sample.sample_id].kind for sample in batch.samples if sample.sample_id not in left]
    needed = _needed_answers(batch, oracle)
    disputed = kinds.count("conflict")
    in_files, sentences_on_files = _answers_in_files(batch, left)
    answered = ", ".join(
        [
            f"{len(kinds)} of {len(batch.samples)}",
            *([f"{needed} are enough"] if needed < len(batch.samples) else []),
            *(f"{kinds.count(kind)} {word}" for kind, word in (("skip", "skipped"), ("bad", "bad")) if kind in kinds),
            *([f"people disagree about {disputed}"] if disputed else []),
            *sentences_on_files,
        ]
    )
    if len(kinds) + in_files < needed:
        label = f"label {batch.directory}, by {command('label', batch.run_dir)} or {_other_way(oracle, batch)}"
        return answered, label, _resume(config)
    if disputed:
        page = command("label", batch.run_dir, "--settle")
        return answered, f"settle what people disagree about, on the page that {page} opens", _resume(config)
    return answered, _resume(config), ""


def _answers_in_files(batch: LabelBatch, left: set[str]) -> tuple[int, list[str]]:
    """Return the number of samples `left` with an answer in a file beside the batch, and sentences on these files."""
    try:
        incoming = [answer for answer in read_returned(batch) if answer.sample_id in left]
    except ValueError as error:
        return 0, [f"a file there cannot be taken: {first_line(error)}"]
    files = dict.fromkeys(answer.where.partition(",")[0] for answer in incoming)
    count = len({answer.sample_id for answer in incoming})
    return count, [f"{count} more in {' and '.join(files)}, which the run takes over"] if count else []


def _labels_of_later_rounds(rounds: int, config: Mapping[str, Any]) -> str:
    end = config.get("rounds")
    first = end - rounds if isinstance(end, int) else 0
    if rounds < 1 or planned_labels(config, first) is None:
        return ""
    return describe_batches(lambda number: planned_labels(config, number) or 0, first, first + rounds, "more to label")


def _oracle(config: Mapping[str, Any]) -> Mapping[str, Any]:
    oracle = config.get("oracle")
    return oracle if isinstance(oracle, dict) else {}


def _tool(oracle: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the name of the class of a run's labelling tool, or "", and its configuration."""
    tool = oracle.get("tool")
    return (str(tool.get("_target_", "")), tool) if isinstance(tool, dict) else ("", {})


def _other_way(oracle: Mapping[str, Any], batch: LabelBatch) -> str:
    """Return a way to label other than the page."""
    name, _ = _tool(oracle)
    return (
        "in Label Studio" if "label_studio" in name else f"in its {TABLE} or {command('ingest', batch.run_dir, 'FILE')}"
    )


def _needed_answers(batch: LabelBatch, oracle: Mapping[str, Any]) -> int:
    """Return the number of answers with which the run goes on."""
    share = oracle.get("min_fraction")
    return batch.needed(share) if isinstance(share, (int, float)) else len(batch.samples)


def _has_come_back(run_dir: Path) -> bool:
    """True if the waiting batch has answers that reach the ledger only when the run takes them: by file or server."""
    batch = waiting_batch(run_dir)
    oracle = _oracle(read_config(run_dir))
    name, tool = _tool(oracle)
    if name.endswith(".LabelsByFile"):
        return any((batch.directory / file).exists() for file in RETURNED)
    if name.endswith(".labels_by_label_studio"):
        return _finished_tasks(tool, batch) >= _needed_answers(batch, oracle)
    return False


def _finished_tasks(tool: Mapping[str, Any], batch: LabelBatch) -> int:
    from assl_lightning.people.label_studio.exchange import LabelStudioFiles, labels_by_label_studio

    exchange = labels_by_label_studio(**{name: value for name, value in tool.items() if not name.startswith("_")})
    if isinstance(exchange, LabelStudioFiles):
        return len(exchange.collect(batch))
    return exchange.progress(batch)[0]


# --- the command line ------------------------------------------------------------------------------------------------


def _print(status: Status) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in status.lines()))
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m assl_lightning.status",
        description="Show the state of runs: round, labels, accuracy so far, what they wait for, and what to do next.",
    )
    parser.add_argument(
        "run_dirs",
        nargs="+",
        type=path_argument,
        metavar="RUN_DIR",
        help="the run_dir of a run, or a directory of runs",
    )
    parser.add_argument(
        "--wait",
        nargs="?",
        type=number_above(0),
        const=30.0,
        metavar="SECONDS",
        help="return when enough is answered for the runs to go on; look every SECONDS (30)",
    )
    return parser
