"""Where a run is, and what to do next: from its files, without torch and Lightning."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assl_lightning.base.arguments import is_integer
from assl_lightning.base.run_files import CONFIG, LEDGER, LOCK, POOL, round_directory
from assl_lightning.base.shell import command
from assl_lightning.base.words import first_line
from assl_lightning.data.answers import Conflicts, resolve
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.records import (
    RoundRecord,
    command_of,
    num_complete,
    read_config,
    read_records,
    read_state,
    trained_records,
)
from assl_lightning.people.batch import TABLE, LabelBatch, find_batches
from assl_lightning.people.judging import unanswered
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.returned import read_returned


@dataclass(frozen=True)
class Status:
    """What is to be said of a run."""

    run_dir: Path
    name: str
    rounds: int  # acquisitions that were asked for
    complete: int  # rounds whose labels are all there
    records: tuple[RoundRecord, ...]  # of those, and of the one that was trained and waits
    is_running: bool
    doing: str  # or waiting for
    next: str
    then: str = ""  # once people have done that
    answered: str = ""  # of the batch that is waited for
    later: str = ""  # what is to be labelled after it
    classes: str = ""  # where they have changed
    waiting_round: int | None = None  # whose labels are waited for, by the number that its directory has

    @property
    def goes_on(self) -> bool:
        """Whether nothing is waited for that people do."""
        return not self.then

    def lines(self) -> Iterable[str]:
        """For people to read."""
        last = self.records[-1] if self.records else None
        yield f"{self.run_dir} ({self.name})"
        number = min(self.complete, self.rounds) if self.waiting_round is None else self.waiting_round
        yield f"  round      {number} of {self.rounds}: {self.doing}"
        if self.answered:
            yield f"  answers    {self.answered}"
        if self.later:
            yield f"  later      {self.later}"
        if self.classes:
            yield f"  classes    {self.classes}"
        if last is not None:
            asked = f", {len(last.queried)} asked for since" if last.queried else ""
            yield f"  labels     {last.labels} trained on{asked}"
            accuracies = " ".join(f"{100 * record.test_accuracy_ema:.1f}" for record in self.records)
            yield f"  accuracy   {accuracies} % (averaged weights, by round)"
        yield f"  next       {self.next}"
        if self.then:
            yield f"  then       {self.then}"


def read_status(run_dir: Path) -> Status:
    """Where a run is.

    Raises:
        ValueError: the directory holds no run, or a file of it cannot be read.
    """
    if not (run_dir / CONFIG).exists():
        raise ValueError(f"{run_dir} must be the directory of a run, but has no {CONFIG}; name the run_dir of one")
    config = read_config(run_dir)
    records = read_records(run_dir)
    rounds = config.get("rounds")
    if not is_integer(rounds):
        raise ValueError(f"{run_dir / CONFIG} must say how many rounds there are; got {rounds!r}. Restore it")
    trained = trained_records(run_dir, rounds)
    complete = num_complete(records, rounds)
    is_running = _is_locked(run_dir / LOCK)
    batch = next((one for one in reversed(find_batches(run_dir)) if one.is_open), None)
    doing, what_next = _progress(run_dir, complete, rounds, is_running, _go_on(config))
    answered = later = what_then = ""
    if batch is not None:
        answered, what_next, what_then = _waiting(batch, config)
        later = _later(rounds - batch.round, config)
        doing = "waits for labels"
    name = str(config.get("name") or run_dir.name)
    return Status(
        run_dir=run_dir,
        name=name,
        rounds=rounds,
        complete=complete,
        records=tuple(trained),
        is_running=is_running,
        doing=doing,
        next=what_next,
        then=what_then,
        answered=answered,
        later=later,
        classes=_classes(run_dir),
        waiting_round=None if batch is None else batch.round,
    )


def _classes(run_dir: Path) -> str:
    """The classes of a run and their newest change; nothing where they have not changed."""
    history = read_history(run_dir)
    if history is None:
        return ""
    newest = history.changes[-1]
    return f"{', '.join(history.names())} ({newest}, from round {newest.round} on)"


def _go_on(config: Mapping[str, Any]) -> str:
    return f"give again {command_of(config)}, and the run goes on"


def _progress(run_dir: Path, number: int, rounds: int, is_running: bool, go_on: str) -> tuple[str, str]:
    """What a run does that waits for nobody, and what to do next."""
    if number > rounds:
        return (
            "finished",
            f"{command('report', run_dir)} compares its rounds; more of them with rounds={rounds + 1} or more",
        )
    state, _ = read_state(run_dir, number)
    has_begun = (round_directory(run_dir, number) / POOL).exists()
    if not has_begun:
        doing = "has no labels to begin with"
    elif state == "training":
        steps = sorted((round_directory(run_dir, number) / "resume").glob("step_*.ckpt"))
        saved = f", last saved at step {int(steps[-1].stem.removeprefix('step_'))}" if steps else ""
        doing = f"training{saved}"
    else:
        doing = "trained, to be queried" if state == "trained" else "queried, to be labelled"
    if is_running:
        return doing, "nothing: a process runs it"
    return f"stopped ({doing})", go_on


def _later(rounds: int, config: Mapping[str, Any]) -> str:
    """What is to be labelled in the rounds that are left."""
    each = config.get("labels_per_round")
    if rounds < 1 or not isinstance(each, int):
        return ""
    return f"{rounds * each} more to label, " + (
        f"{each} in each of {rounds} rounds" if rounds > 1 else "in the last round"
    )


def _waiting(batch: LabelBatch, config: Mapping[str, Any]) -> tuple[str, str, str]:
    """How much of a batch is answered, what to do next, and what then."""
    oracle = oracle_of(config)
    conflicts: Conflicts = oracle["conflicts"] if oracle.get("conflicts") in ("latest", "majority") else "error"
    standing = Ledger(batch.run_dir / LEDGER).active_answers()
    holds = resolve(standing, conflicts)
    left = set(unanswered(batch, standing))
    kinds = [holds[sample.sample_id].kind for sample in batch.samples if sample.sample_id not in left]
    needed = needed_answers(batch, oracle)
    disputed = kinds.count("conflict")
    told = [f"{len(kinds)} of {len(batch.samples)}"]
    told += [f"{needed} are enough"] if needed < len(batch.samples) else []
    told += [f"{kinds.count(kind)} {what}" for kind, what in (("skip", "skipped"), ("bad", "bad")) if kind in kinds]
    told += [f"people disagree about {disputed}"] if disputed else []
    lying, told_of_files = _lying(batch, left)
    answered = ", ".join([*told, *told_of_files])
    if len(kinds) + lying >= needed and not disputed:
        return answered, _go_on(config), ""
    if len(kinds) + lying >= needed:
        settle = command("label", batch.run_dir, "--settle")
        return answered, f"settle what people disagree about, on the page that {settle} opens", _go_on(config)
    return (
        answered,
        f"label {batch.directory}, by {command('label', batch.run_dir)} or {_by(oracle, batch)}",
        _go_on(config),
    )


def _lying(batch: LabelBatch, left: set[str]) -> tuple[int, list[str]]:
    """The number of images `left` that have an answer in a file beside the batch, and the sentences that tell it."""
    try:
        come = [one for one in read_returned(batch) if one.sample_id in left]
    except ValueError as error:
        return 0, [f"a file there cannot be taken: {first_line(error)}"]
    files = dict.fromkeys(one.where.partition(",")[0] for one in come)
    count = len({one.sample_id for one in come})
    return count, [f"{count} more in {' and '.join(files)}, which the run takes over"] if count else []


def oracle_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run's configuration says of its oracle."""
    oracle = config.get("oracle")
    return oracle if isinstance(oracle, dict) else {}


def needed_answers(batch: LabelBatch, oracle: Mapping[str, Any]) -> int:
    """How many of a batch must have an answer for the run to go on."""
    share = oracle.get("min_fraction")
    return batch.needed(share) if isinstance(share, (int, float)) else len(batch.samples)


def _by(oracle: Mapping[str, Any], batch: LabelBatch) -> str:
    tool = oracle.get("tool")
    name = str(tool.get("_target_", "")) if isinstance(tool, dict) else ""
    if "label_studio" in name:
        return "in Label Studio"
    return f"in its {TABLE} or {command('ingest', batch.run_dir, 'FILE')}"


def _is_locked(path: Path) -> bool:
    """Whether a process of this machine runs in the directory."""
    if sys.platform == "win32" or not path.exists():
        return False
    import fcntl

    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody may write here, or the file system has no locks
        return False
    return False
